# SPDX-License-Identifier: Apache-2.0
"""The state directory is root's alone: what others could have put there is refused, and what is there nobody else reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.host import Host
from migrator.journal import Journal, Run, Runs
from migrator.plan import plan_digest
from migrator.records import Kind
from tests.hostile.base import DOCKER, STATE, cgmigrate, copy, planned, snapshot, spawn

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


def everything(root: Path) -> dict[str, object]:
    """Return all of an image, the state directory too, links not followed."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(root.rglob("*"))
    }


def run_of(state: Path) -> Path:
    return next(path for path in (state / "runs").iterdir() if not path.name.startswith("."))


def elsewhere(path: Path) -> None:
    target = path.parents[len(path.parts) - 2 - list(path.parts).index("image")] / "srv"
    target.mkdir(exist_ok=True)
    path.rename(target / "moved")
    path.symlink_to(os.path.relpath(target / "moved", path.parent))


def replaced_by_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def given_away(path: Path) -> None:
    os.lchown(path, NOBODY, NOBODY)


Untrusted = tuple[str, Callable[[Path], Path], Callable[[Path], object], str]
UNTRUSTED: list[Untrusted] = [
    ("the directory, world-writable", lambda s: s, lambda p: p.chmod(0o777), "mode 0777"),
    ("the directory, world-writable but sticky", lambda s: s, lambda p: p.chmod(0o1777), "mode 1777"),
    ("the directory, group-writable", lambda s: s, lambda p: p.chmod(0o770), "mode 0770"),
    ("the directory, a link", lambda s: s, elsewhere, "is a symbolic link"),
    ("the directory, a file", lambda s: s, replaced_by_a_file, "is no directory"),
    ("the directory, another user's", lambda s: s, given_away, f"belongs to user {NOBODY}"),
    ("runs, world-writable", lambda s: s / "runs", lambda p: p.chmod(0o722), "mode 0722"),
    ("runs, a link", lambda s: s / "runs", elsewhere, "is a symbolic link"),
    ("runs, another user's", lambda s: s / "runs", given_away, f"belongs to user {NOBODY}"),
    ("a run, world-writable", run_of, lambda p: p.chmod(0o777), "mode 0777"),
    ("a run, a link", run_of, elsewhere, "is a symbolic link"),
    ("a run, another user's", run_of, given_away, f"belongs to user {NOBODY}"),
    ("the blobs, group-writable", lambda s: run_of(s) / "blobs", lambda p: p.chmod(0o730), "mode 0730"),
    ("the blobs, a file", lambda s: run_of(s) / "blobs", replaced_by_a_file, "is no directory"),
    (
        "the journal, world-writable",
        lambda s: run_of(s) / "journal.jsonl",
        lambda p: p.chmod(0o666),
        "mode 0666",
    ),
    ("the journal, a link", lambda s: run_of(s) / "journal.jsonl", elsewhere, "is a symbolic link"),
    ("the journal, a pipe", lambda s: run_of(s) / "journal.jsonl", replaced_by_a_pipe, "is no regular file"),
    ("the plan, another user's", lambda s: run_of(s) / "plan.json", given_away, f"belongs to user {NOBODY}"),
    (
        "a blob, another user's",
        lambda s: next((run_of(s) / "blobs").iterdir()),
        given_away,
        f"belongs to user {NOBODY}",
    ),
    ("a directory above it, world-writable", lambda s: s.parent, lambda p: p.chmod(0o777), "mode 0777"),
]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that was switched, and its plan beside it."""
    folder = tmp_path_factory.mktemp("applied")
    image = copy(DOCKER, folder / "image")
    plan = planned(image, folder / "plan.json")
    assert 0 == cgmigrate("apply", "--root", image, plan, "--yes").returncode
    return folder


@as_root
@pytest.mark.parametrize(
    ("which", "spoil", "message"), [row[1:] for row in UNTRUSTED], ids=[row[0] for row in UNTRUSTED]
)
def test_state_that_others_could_have_written_is_refused_by_every_command(
    tmp_path: Path,
    applied: Path,
    which: Callable[[Path], Path],
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    image, plan = tmp_path / "image", applied / "plan.json"
    shutil.copytree(applied / "image", image, symlinks=True)
    name = run_of(image / STATE).name
    place = which(image / STATE)
    spoil(place)
    spoiled = everything(image)

    for arguments in (
        ("status", "--root", image),
        ("resume", "--root", image),
        ("rollback", "--root", image, "--yes"),
        ("rollback", name, "--root", image, "--yes"),
        ("apply", "--root", image, plan, "--yes"),
        ("forget", name, "--root", image, "--yes"),
    ):
        refused = cgmigrate(*arguments)
        assert (arguments, 4, "") == (arguments, refused.returncode, refused.stdout), refused.stderr
        assert f"{place} " in refused.stderr
        assert message in refused.stderr
        assert "  → " in refused.stderr
    assert spoiled == everything(image)


def test_a_run_that_somebody_forged_in_an_open_directory_is_not_put_back(tmp_path: Path) -> None:
    """Its checksums are right, as anybody can compute them; whose it is decides."""
    image = copy(DOCKER, tmp_path / "image")
    (image / "etc/shadow").write_text("root:x\n")
    plan = planned(image, tmp_path / "plan.json")
    forged = Runs(Host(image)).create(
        plan_digest(json.loads(plan.read_bytes())), plan.read_bytes(), b"{}", [b"root::\n"]
    )
    journal = Journal(forged, "image")
    journal.write(Kind.BEGIN)
    digest = hashlib.sha256(b"root::\n").hexdigest()
    state = {
        "kind": "file",
        "path": "/etc/shadow",
        "sha256": digest,
        "size": 7,
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
    }
    step = next(step["id"] for step in json.loads(plan.read_bytes())["steps"] if step["kind"] == "write-file")
    journal.write(Kind.CAPTURED, step, undo={"state": {**state, "xattrs": []}, "directories": []})
    journal.write(Kind.COMMITTED)
    journal.close()
    (image / STATE).chmod(0o777)
    original = snapshot(image)
    assert 0 == cgmigrate("audit", "--root", image).returncode  # what only looks at the node does not need it

    refused = cgmigrate("rollback", "--root", image, "--yes")
    assert 4 == refused.returncode, refused.stderr
    assert original == snapshot(image)

    # The forgery is a good one: were it root's own, it would be put back.
    (image / STATE).chmod(0o700)
    cgmigrate("rollback", "--root", image, "--yes")
    assert "root::\n" == (image / "etc/shadow").read_text()


def test_state_that_others_could_only_read_is_closed_and_used(tmp_path: Path) -> None:
    """As a restored backup may leave it."""
    image = copy(DOCKER, tmp_path / "image")
    original = snapshot(image)
    assert 0 == cgmigrate("apply", "--root", image, planned(image, tmp_path / "p"), "--yes").returncode
    for path in (image / STATE, *(image / STATE).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode

    assert original == snapshot(image)
    assert [0o700, 0o700] == [
        stat.S_IMODE(path.stat().st_mode) for path in (image / STATE, image / STATE / "runs")
    ]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_what_is_kept_is_roots_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    image = copy(DOCKER, tmp_path / "image")
    shutil.rmtree(image / "etc/docker")  # made by the run, and others must get into it
    shutil.rmtree(image / "var/lib/cgmigrate", ignore_errors=True)
    plan = tmp_path / "plan.json"
    for arguments in (("plan", "--root", image, "-o", plan), ("apply", "--root", image, plan, "--yes")):
        done = spawn(*arguments, umask=umask)
        assert 0 == done.returncode, done.stderr.decode()
    run = Run(run_of(image / STATE))
    old = os.umask(umask)
    try:
        run.append("traceback.txt").close()
    finally:
        os.umask(old)

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [image / STATE, *(image / STATE).rglob("*")]}
    assert {"lock", "journal.jsonl", "plan.json", "facts.json", "log.jsonl", "traceback.txt", "blobs"} <= {
        path.name for path in modes
    }
    assert [] == [
        (str(path), oct(mode)) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)
    ]
    assert 0o600 == stat.S_IMODE(plan.stat().st_mode)
    assert (0o755, 0o644) == tuple(
        stat.S_IMODE((image / name).stat().st_mode) for name in ("etc/docker", "etc/docker/daemon.json")
    )


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_no_file_is_readable_by_others_while_it_is_written(tmp_path: Path) -> None:
    image = copy(DOCKER, tmp_path / "image")
    plan = planned(image, tmp_path / "plan.json")
    trace = tmp_path / "trace"

    done = spawn(
        *("apply", "--root", image, plan, "--yes"),
        umask=0,
        before=("strace", "-f", "-o", str(trace), "-e", "trace=open,openat,creat,mkdir,mkdirat"),
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert 0 == done.returncode, done.stderr.decode()
    lines = [line for line in trace.read_text().splitlines() if str(image) in line and " = -1 " not in line]
    made = [
        found for line in lines if (found := re.search(r'"([^"]+)", [A-Z_|]*O_CREAT[A-Z_|]*, (0\d+)', line))
    ]
    directories = [
        found for line in lines if (found := re.search(r'mkdir(?:at)?\(.*"([^"]+)", (0\d+)\)', line))
    ]
    assert {".daemon.json.cgmigrate-new", ".config.yaml.cgmigrate-new", "journal.jsonl", "lock"} <= {
        Path(found[1]).name for found in made
    }
    assert {"0600"} == {found[2] for found in made}
    # Between the look at its name and its opening somebody may plant a link: the kernel refuses it then.
    temporary = [line for line in lines if "O_CREAT" in line and ".cgmigrate-new" in line]
    assert [] == [line for line in temporary if "O_EXCL" not in line or "O_NOFOLLOW" not in line]
    assert {"cgmigrate", "runs", "blobs"} <= {Path(found[1]).name for found in directories}
    assert {"0700"} == {found[2] for found in directories}

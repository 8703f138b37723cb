# SPDX-License-Identifier: Apache-2.0
"""The real command on sample images behind `--root`: everything that needs no running node."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from migrator.cli import run
from migrator.host import Host
from migrator.journal import Runs

NODES = Path(__file__).parent.parent / "nodes"
SAMPLES = sorted(path.parent.name for path in NODES.glob("*/facts.json"))
PLANTED = "c2VjcmV0LW9mLXRoZS1yZWdpc3RyeQ=="


@pytest.fixture(params=SAMPLES)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "image"
    shutil.copytree(NODES / request.param / "root", root, symlinks=True)
    return root


class Done(NamedTuple):
    """How a command ended, and what it said."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def cgmigrate(*arguments: str | Path) -> Done:
    """Run the command in this process, as `__main__` does; tests/packaging and tests/lab run it as a process."""
    words = tuple(map(str, arguments))
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    said = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        said.append(stream.read())
    return Done(words, code, *said)


def snapshot(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Return mode, owner and content of everything but our own state directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name == "var/lib/cgmigrate" or name.startswith("var/lib/cgmigrate/"):
            continue
        stat = path.lstat()
        content = (
            os.readlink(path)
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else ""
        )
        found[name] = (stat.st_mode, stat.st_uid, stat.st_gid, content)
    return found


def test_an_image_goes_forward_and_back(image: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    original = snapshot(image)

    assert 0 == cgmigrate("audit", "--root", image).returncode
    assert 0 == cgmigrate("plan", "--root", image, "-o", plan).returncode
    assert original == snapshot(image)
    applied = cgmigrate("--root", image, "apply", plan, "--yes")
    assert (0, True) == (applied.returncode, "left to the first boot" in applied.stdout), applied.stderr
    changed = {name for name, value in snapshot(image).items() if original[name] != value}
    paths = [
        step["params"]["path"] for step in json.loads(plan.read_bytes())["steps"] if "path" in step["params"]
    ]
    assert {path.lstrip("/") for path in paths} == changed
    left = json.loads(cgmigrate("plan", "--root", image, "--format", "json").stdout)
    assert "write-file" not in {step["kind"] for step in left["steps"]}

    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode
    assert original == snapshot(image)
    again = cgmigrate("rollback", "--root", image, "--yes")
    assert (0, True) == (again.returncode, "nothing to do" in again.stdout)


def test_a_plan_of_the_same_image_is_the_same_to_the_byte(image: Path) -> None:
    first, second = (cgmigrate("plan", "--root", image, "--format", "json").stdout for _ in range(2))

    assert first
    assert first == second


def test_an_edit_between_apply_and_rollback_is_kept_beside(image: Path, tmp_path: Path) -> None:
    original = snapshot(image)
    cgmigrate("plan", "--root", image, "-o", tmp_path / "plan.json")
    cgmigrate("apply", "--root", image, tmp_path / "plan.json", "--yes")
    config = image / "var/lib/kubelet/config.yaml"
    theirs = config.read_bytes() + b"# a colleague was here\n"
    config.write_bytes(theirs)

    done = cgmigrate("rollback", "--root", image, "--yes")

    saved = "var/lib/kubelet/config.yaml.cgmigrate-saved"
    assert 0 == done.returncode
    assert saved in done.stderr
    assert theirs == (image / saved).read_bytes()
    assert original == {name: value for name, value in snapshot(image).items() if name != saved}


REFERRING = {
    "etc/cron.d/usage": (
        0o640,
        "# who reads /kubepods\n* * * * * root du /sys/fs/cgroup/memory/kubepods\r\n",
        "# who reads /kubepods\n* * * * * root du /sys/fs/cgroup/memory/kubepods.slice\r\n",
    ),
    "etc/systemd/system/watch.service": (
        0o644,
        "[Service]\nExecStart=/usr/local/bin/watch --cgroup=/kubepods/burstable",
        "[Service]\nExecStart=/usr/local/bin/watch --cgroup=/kubepods.slice/kubepods-burstable.slice",
    ),
    "etc/prometheus/rules.yml": (
        0o600,
        f'token: {PLANTED}\na: x{{id="/kubepods"}}\nb: x{{id=~"/kubepods/.*"}}\n',
        f'token: {PLANTED}\na: x{{id="/kubepods.slice"}}\nb: x{{id=~"/kubepods/.*"}}\n',
    ),
    "etc/telegraf/telegraf.conf": (0o644, 'paths = ["/kubepods/*"]\n', 'paths = ["/kubepods/*"]\n'),
}


def test_references_are_shown_by_the_audit_rewritten_on_request_and_taken_back(
    image: Path, tmp_path: Path
) -> None:
    for name, (mode, text, _) in REFERRING.items():
        file = image / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
        file.chmod(mode)
    original = snapshot(image)

    audit = json.loads(cgmigrate("audit", "--root", image, "--format", "json").stdout)
    found = {each["subject"]: each for each in audit["findings"] if each["id"] == "old-paths-referenced"}
    assert {
        "/etc/cron.d/usage:2",
        "/etc/systemd/system/watch.service:2",
        "/etc/prometheus/rules.yml:2",
        "/etc/telegraf/telegraf.conf:1",
    } == set(found)
    assert "systemctl restart watch.service" in found["/etc/systemd/system/watch.service:2"]["remediation"]
    assert "pattern" not in found["/etc/cron.d/usage:2"]["detail"]
    assert "regular expression" in found["/etc/telegraf/telegraf.conf:1"]["detail"]
    assert not {path for path in written(planned_offline(image)) if path.lstrip("/") in REFERRING}

    steps = planned_offline(image, "--references", "-o", tmp_path / "plan.json")
    assert ["/etc/cron.d/usage", "/etc/prometheus/rules.yml", "/etc/systemd/system/watch.service"] == [
        path for path in written(steps) if path.lstrip("/") in REFERRING
    ]
    assert {"daemon-reload", "daemon-reload(back)"} <= {step["id"] for step in steps}
    assert PLANTED not in (tmp_path / "plan.json").read_text()
    applied = cgmigrate("apply", "--root", image, tmp_path / "plan.json", "--yes")
    assert 0 == applied.returncode, applied.stderr
    assert "systemctl restart watch.service" in applied.stdout
    for name, (mode, _, text) in REFERRING.items():
        assert text == (image / name).read_bytes().decode(), name
        assert mode == (image / name).stat().st_mode & 0o777

    back = cgmigrate("rollback", "--root", image, "--yes")
    assert 0 == back.returncode
    assert "restart watch.service by hand" in back.stderr
    assert original == snapshot(image)


def planned_offline(image: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    made = cgmigrate("plan", "--root", image, "--format", "json", *arguments)
    assert 0 == made.returncode, made.stderr
    steps: list[dict[str, Any]] = json.loads(made.stdout)["steps"]
    return steps


def written(steps: list[dict[str, Any]]) -> list[str]:
    return [step["params"]["path"] for step in steps if step["kind"] == "write-file"]


def test_what_names_the_old_tree_can_be_rewritten_after_the_switch(image: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    planned_offline(image, "-o", first)
    assert 0 == cgmigrate("apply", "--root", image, first, "--yes").returncode
    shutil.rmtree(image / "sys/fs/cgroup")  # no cgroup outlives a boot
    job = image / "etc/cron.d/usage"
    job.parent.mkdir(parents=True, exist_ok=True)
    job.write_text("* * * * * root du /sys/fs/cgroup/memory/kubepods\n")
    switched = snapshot(image)

    steps = planned_offline(image, "--references", "-o", second)
    shown = cgmigrate("plan", "--root", image, "--references").stdout
    assert ["write-file:/etc/cron.d/usage"] == [step["id"] for step in steps]
    assert "Cannot be undone" not in shown
    applied = cgmigrate("apply", "--root", image, second, "--yes")

    assert (0, True) == (applied.returncode, "no pod was touched" in applied.stdout)
    assert "du /sys/fs/cgroup/memory/kubepods.slice" in job.read_text()
    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode
    assert switched == snapshot(image)


PLAN_DAMAGE = [
    ("empty", lambda _: "", 2, "plan.json:1: not a plan"),
    ("cut", lambda text: text[: len(text) // 2], 2, "not a plan"),
    ("no JSON", lambda _: "steps: []", 2, "plan.json:1: not a plan"),
    ("a list", lambda _: "[]", 2, "not a cgmigrate plan"),
    ("deep", lambda _: "[" * 100_000, 2, "not a plan"),
    ("another version", lambda text: text.replace('"version": 1', '"version": 9'), 2, "version 9"),
    ("a property missing", lambda text: text.replace('"machine_id"', '"machine"', 1), 2, "at the document"),
    (
        "another node",
        lambda text: text.replace('"machine_id": "', '"machine_id": "0'),
        4,
        "is a plan for node",
    ),
    ("a forged unit", lambda text: text.replace("kubelet.service", "sshd.service"), 4, "plan"),
    ("a forged path", lambda text: text.replace("/var/lib/kubelet/config.yaml", "/etc/shadow"), 4, "plan"),
    ("an unknown kind", lambda text: text.replace('"kind": "stop-unit"', '"kind": "run-shell"'), 4, "steps"),
]


@pytest.mark.parametrize(
    ("damage", "code", "message"), [row[1:] for row in PLAN_DAMAGE], ids=[row[0] for row in PLAN_DAMAGE]
)
def test_a_damaged_or_forged_plan_is_refused_and_nothing_is_touched(
    tmp_path: Path, damage: Callable[[str], str], code: int, message: str
) -> None:
    image = tmp_path / "image"
    shutil.copytree(NODES / SAMPLES[0] / "root", image, symlinks=True)
    plan = tmp_path / "plan.json"
    cgmigrate("plan", "--root", image, "-o", plan)
    damaged = damage(plan.read_text())
    assert damaged != plan.read_text()
    plan.write_text(damaged)
    original = snapshot(image)

    refused = cgmigrate("apply", "--root", image, plan, "--yes")

    assert (code, "") == (refused.returncode, refused.stdout), refused.stderr
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert original == snapshot(image)
    assert "no runs" in cgmigrate("status", "--root", image).stdout


def test_a_secret_of_a_registry_is_in_no_plan_and_no_output(image: Path, tmp_path: Path) -> None:
    """Planted in every configuration file; the saved originals are the only place where it may be."""
    for path, text in {
        "etc/docker/daemon.json": f'{{"auths": {{"r": {{"auth": "{PLANTED}"}}}}, "exec-opts": ["native.cgroupdriver=cgroupfs"]}}',
        "etc/containerd/config.toml": None,
    }.items():
        file = image / path
        if file.exists():
            old = file.read_text()
            file.write_text(
                text
                or old
                + f'\n[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]\n  password = "{PLANTED}"\n'
            )
    outputs = [
        cgmigrate("audit", "--root", image),
        cgmigrate("audit", "--root", image, "--format", "json"),
        cgmigrate("plan", "--root", image, "-o", tmp_path / "plan.json"),
        cgmigrate("apply", "--root", image, tmp_path / "plan.json", "--yes"),
        cgmigrate("status", "--root", image),
    ]

    assert [0] * 5 == [done.returncode for done in outputs], [done.stderr for done in outputs]
    assert not [done.args for done in outputs if PLANTED in done.stdout + done.stderr]
    holds = [
        path
        for path in [tmp_path / "plan.json", *image.rglob("*")]
        if path.is_file() and not path.is_symlink() and PLANTED in path.read_text()
    ]
    assert holds
    assert all(path.parent.name in ("blobs", "docker", "containerd") for path in holds), holds
    state = image / "var/lib/cgmigrate"
    modes = {path: path.stat().st_mode & 0o777 for path in [state, *state.rglob("*")]}
    assert [] == [str(path) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)]


USAGE = [
    (("plan", "--root", "/nonexistent"), 2, "no such directory"),
    (("schema", "nonsense"), 2, "audit-1"),
    (("rollback", "19990101", "--yes"), 2, ""),
    (("translate", f"/kubepods/besteffort/pod{'0' * 32}/{'1' * 64}"), 2, "--runtime"),
    (("translate", "foo"), 2, "foo is no cgroup path"),
    (("translate", ""), 2, "empty"),
    (("nonsense",), 2, "nonsense"),
    (("audit", "--format", "xml"), 2, "xml"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), USAGE, ids=[" ".join(row[0]) for row in USAGE])
def test_wrong_use_is_exit_code_2_without_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    takes_root = "--root" not in arguments and arguments[0] not in ("schema", "translate", "nonsense")
    root: list[str | Path] = ["--root", tmp_path] if takes_root else []

    done = cgmigrate(*arguments, *root)

    assert code == done.returncode, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["--verbose", "-v"])
@pytest.mark.parametrize("command", ["audit", "plan"])
def test_more_is_told_on_stderr_when_asked_before_or_after_the_command(
    image: Path, command: str, word: str
) -> None:
    silent, before, after, again = (
        cgmigrate(*arguments, "--root", image)
        for arguments in ((command,), (word, command), (command, word), (command,))
    )

    assert ("", 0) == (silent.stderr, silent.returncode)
    assert before[1:] == after[1:]
    assert after.stderr
    assert silent == again


@pytest.mark.parametrize("command", ["apply", "resume", "rollback", "verify"])
def test_verbose_stands_after_every_command_that_works_on_a_node(command: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"")
    arguments = [command, tmp_path / "plan.json"] if command == "apply" else [command]

    with_it = cgmigrate(*arguments, "--verbose", "--root", tmp_path)
    without = cgmigrate(*arguments, "--root", tmp_path)

    assert "No such option" not in with_it.stderr
    assert without[1:] == with_it[1:]


@pytest.mark.parametrize("name", ["audit-1", "facts-1", "plan-1", "verify-1"])
def test_a_schema_is_printed_and_is_one(name: str) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    Draft202012Validator.check_schema(json.loads(cgmigrate("schema", name).stdout))


def test_an_empty_image_is_blocked_and_not_a_crash(tmp_path: Path) -> None:
    done = cgmigrate("audit", "--root", tmp_path)

    assert 3 == done.returncode, done.stderr
    assert "kubelet" in done.stdout


def test_the_json_of_an_audit_is_valid(image: Path) -> None:
    from jsonschema import validate  # noqa: PLC0415

    from migrator.schemas import load_schema  # noqa: PLC0415

    validate(
        json.loads(cgmigrate("audit", "--root", image, "--format", "json").stdout), load_schema("audit-1")
    )


def test_an_unknown_runtime_is_a_blocker_that_names_its_socket(tmp_path: Path) -> None:
    image = tmp_path / "image"
    shutil.copytree(NODES / "containerd-1.6-kubelet-1.20/root", image, symlinks=True)
    flags = image / "var/lib/kubelet/kubeadm-flags.env"
    flags.write_text(flags.read_text().replace("/run/containerd/containerd.sock", "/run/other/other.sock"))
    before = snapshot(image)

    audit, plan = cgmigrate("audit", "--root", image), cgmigrate("plan", "--root", image)

    assert (3, 3) == (audit.returncode, plan.returncode)
    assert "/run/other/other.sock" in audit.stdout
    assert "/run/other/other.sock" in plan.stderr
    assert before == snapshot(image)


def test_an_open_run_is_told_before_anything_that_is_found(image: Path) -> None:
    left = Runs(Host(image)).create("ab" * 32, b"{}", b"{}", [])

    for command in ("audit", "plan"):
        said = cgmigrate(command, "--root", image).stderr
        assert f"the run {left.name} is open: `cgmigrate resume` or `cgmigrate rollback` first" in said

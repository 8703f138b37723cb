# SPDX-License-Identifier: Apache-2.0
"""Files that are not what they seem: links, pipes and devices in the place of files, swaps, forged plans, images that lead out."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator.doors import doors_of
from migrator.engine import Progress
from migrator.errors import StepError
from migrator.facts.look import Look
from migrator.host import MAX_FILE, Host, Reader
from migrator.interrupt import Interrupt
from migrator.session import Voice, begin, engine_of
from tests.hostile.base import CONFIGS, CONTAINERD, DOCKER, cgmigrate, copy, planned, snapshot

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture(params=[DOCKER, CONTAINERD])
def sample(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(sample: str, tmp_path: Path) -> Path:
    return copy(sample, tmp_path / "image")


def config_of(image: Path, sample: str) -> Path:
    return image / CONFIGS[sample].lstrip("/")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_PATH)
        try:
            server.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def moved(path: Path) -> None:
    """Put the same bytes elsewhere on the node, with the same mode, and a link to them in the old place."""
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to("elsewhere")


def moved_directory(path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    path.parent.rename(elsewhere)
    path.parent.symlink_to("elsewhere")


def becomes(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def swap(path: Path) -> None:
        path.unlink()
        make(path)

    return swap


SWAPS: dict[str, Callable[[Path], object]] = {
    "a link to the same bytes elsewhere": moved,
    "a directory that became a link": moved_directory,
    "a link that leads nowhere": becomes(lambda path: path.symlink_to("nowhere")),
    "a link to itself": becomes(lambda path: path.symlink_to(path.name)),
    "a pipe": becomes(os.mkfifo),
    "a directory": becomes(Path.mkdir),
    "a socket": becomes(unix_socket),
    "a device": becomes(lambda path: path.symlink_to("/dev/null")),
    "other bytes": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "another mode": lambda path: path.chmod(0o600),
}


def test_a_file_behind_a_link_is_changed_where_it_is_and_the_plan_says_where(
    image: Path, sample: str, tmp_path: Path
) -> None:
    config = config_of(image, sample)
    real = image / "srv/conf" / config.name
    real.parent.mkdir(parents=True)
    config.rename(real)
    config.symlink_to(f"/srv/conf/{config.name}")  # absolute: of the image's root, not of this machine's
    original = snapshot(image)
    plan = planned(image, tmp_path / "plan.json")
    steps = {
        step["params"]["path"]: step["params"]
        for step in json.loads(plan.read_bytes())["steps"]
        if step["kind"] == "write-file"
    }

    shown = cgmigrate("plan", "--root", image).stdout
    applied = cgmigrate("apply", "--root", image, plan, "--yes")

    assert f"{CONFIGS[sample]} leads to /srv/conf/{config.name}, which is what is written:" in shown
    assert f"/srv/conf/{config.name}" == steps[CONFIGS[sample]]["real_path"]
    assert "real_path" not in steps["/var/lib/kubelet/config.yaml"]
    assert (0, True) == (applied.returncode, config.is_symlink()), applied.stderr
    assert original[f"srv/conf/{config.name}"] != snapshot(image)[f"srv/conf/{config.name}"]
    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode
    assert original == snapshot(image)


@pytest.mark.parametrize("edited", [False, True])
def test_a_link_that_leads_elsewhere_since_is_told_and_what_it_led_to_is_restored(
    image: Path, sample: str, tmp_path: Path, *, edited: bool
) -> None:
    config = config_of(image, sample)
    real, other = (image / "srv" / name for name in ("conf", "other"))
    real.parent.mkdir()
    config.rename(real)
    config.symlink_to("/srv/conf")
    original = snapshot(image)
    assert (
        0 == cgmigrate("apply", "--root", image, planned(image, tmp_path / "plan.json"), "--yes").returncode
    )
    other.write_text("somebody's\n")
    config.unlink()
    config.symlink_to("/srv/other")
    if edited:
        real.write_text("theirs\n")

    back = cgmigrate("rollback", "--root", image, "--yes")

    assert 6 == back.returncode
    assert f"ls -l {CONFIGS[sample]}  # it leads to /srv/other now; /srv/conf, to which" in back.stderr
    assert "somebody's\n" == other.read_text()
    assert edited == real.with_name("conf.cgmigrate-saved").exists()
    now = snapshot(image)
    assert original["srv/conf"] == now["srv/conf"]


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_a_swap_between_plan_and_apply_is_a_conflict_and_nothing_is_touched(
    image: Path, sample: str, tmp_path: Path, swap: Callable[[Path], object]
) -> None:
    plan = planned(image, tmp_path / "plan.json")
    swap(config_of(image, sample))
    swapped = snapshot(image)

    refused = cgmigrate("apply", "--root", image, plan, "--yes")

    assert (4, "") == (refused.returncode, refused.stdout), refused.stderr
    assert swapped == snapshot(image)
    assert "no runs" in cgmigrate("status", "--root", image).stdout


@pytest.mark.parametrize("swap", [moved, moved_directory, SWAPS["a link that leads nowhere"]])
def test_a_swap_after_the_run_began_is_seen_before_the_file_is_written(
    image: Path, sample: str, tmp_path: Path, swap: Callable[[Path], object]
) -> None:
    plan = planned(image, tmp_path / "plan.json")
    run, _ = begin(Host(image), plan.read_bytes(), "plan.json")
    swap(config_of(image, sample))
    swapped = snapshot(image)

    refused = cgmigrate("resume", "--root", image)

    assert 4 == refused.returncode, refused.stderr
    assert f"{CONFIGS[sample]} is not as the plan found it" in refused.stderr
    assert swapped == snapshot(image)
    assert f"{run.name}  rolled-back" in cgmigrate("status", "--root", image).stdout


def test_a_swap_in_the_last_moment_is_a_failed_step_and_what_it_leads_to_stays(
    image: Path, sample: str, tmp_path: Path
) -> None:
    plan = planned(image, tmp_path / "plan.json")
    original = snapshot(image)
    config = config_of(image, sample)
    run, _ = begin(Host(image), plan.read_bytes(), "plan.json")

    def swap(progress: Progress) -> None:
        if progress.verb == "apply" and progress.step.params.get("path") == CONFIGS[sample]:
            moved(config)

    quiet = Voice(say=lambda _: None, tell=swap)
    with (
        engine_of(doors_of(Host(image)), run, quiet, Interrupt()) as engine,
        pytest.raises(StepError, match=r"leads to .*elsewhere now"),
    ):
        engine.forward()

    assert (
        original[CONFIGS[sample].lstrip("/")]
        == snapshot(image)[str(config.with_name("elsewhere").relative_to(image))]
    )
    config.unlink()
    config.with_name("elsewhere").rename(config)
    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode
    assert original == snapshot(image)


def test_a_file_with_two_names_is_a_finding_and_its_other_name_keeps_the_old_bytes(
    image: Path, sample: str, tmp_path: Path
) -> None:
    config = config_of(image, sample)
    (image / "srv").mkdir()
    (image / "srv/other-name").hardlink_to(config)
    original = snapshot(image)

    found = json.loads(cgmigrate("audit", "--root", image, "--format", "json").stdout)["findings"]
    applied = cgmigrate("apply", "--root", image, planned(image, tmp_path / "plan.json"), "--yes")

    assert [CONFIGS[sample]] == [each["subject"] for each in found if each["id"] == "file-hard-linked"]
    assert 0 == applied.returncode, applied.stderr
    assert original["srv/other-name"] == snapshot(image)["srv/other-name"]
    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode
    assert original == snapshot(image)


PLANTED: dict[str, tuple[Callable[[Path, Path], object], int]] = {
    "a link": (lambda path, victim: path.symlink_to(victim), 0),
    "a second name": (lambda path, victim: path.hardlink_to(victim), 0),
    "a pipe": (lambda path, _: os.mkfifo(path), 0),
    "a directory": (lambda path, _: path.mkdir(), 5),
}


@pytest.mark.parametrize(("make", "code"), PLANTED.values(), ids=PLANTED)
def test_what_stands_at_the_temporary_name_is_never_written_through(
    image: Path, sample: str, tmp_path: Path, make: Callable[[Path, Path], object], code: int
) -> None:
    """The name is known, so it can be planted; the file is made anew there, or the run goes back."""
    victim = tmp_path / "shadow"
    victim.write_text("root:secret\n")
    config = config_of(image, sample)
    plan = planned(image, tmp_path / "plan.json")
    original = snapshot(image)
    make(config.with_name(f".{config.name}.cgmigrate-new"), victim)

    done = cgmigrate("apply", "--root", image, plan, "--yes")

    assert code == done.returncode, done.stderr
    assert "root:secret\n" == victim.read_text()
    if code:
        config.with_name(f".{config.name}.cgmigrate-new").rmdir()
        assert original == snapshot(image)
    else:
        assert "cgmigrate-new" not in " ".join(snapshot(image))
        assert 1 == config.stat().st_nlink


INPUTS = (
    "etc/docker/daemon.json",
    "var/lib/kubelet/config.yaml",
    "var/lib/kubelet/kubeadm-flags.env",
    "etc/systemd/system/kubelet.service",
    "etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
    "lib/systemd/system/docker.service",
    "etc/os-release",
    "etc/machine-id",
    "proc/self/mountinfo",
)


def oversized(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(MAX_FILE + 1)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "a socket": unix_socket,
    "oversized": oversized,
    "nested": lambda path: path.write_text('{"a":' * 50_000 + "[" * 50_000),
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("path", INPUTS)
def test_what_is_no_readable_file_is_a_finding_and_never_hangs_or_breaks(
    tmp_path: Path, path: str, make: Callable[[Path], object]
) -> None:
    image = copy(DOCKER, tmp_path / "image")
    (image / path).unlink(missing_ok=True)
    make(image / path)

    done = cgmigrate("plan", "--root", image)

    assert done.returncode in (0, 3), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_a_plan_that_is_no_readable_file_is_a_usage_error(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    image = copy(DOCKER, tmp_path / "image")
    make(tmp_path / "plan.json")
    original = snapshot(image)

    refused = cgmigrate("apply", "--root", image, tmp_path / "plan.json", "--yes")

    assert (2, "") == (refused.returncode, refused.stdout), refused.stderr
    assert original == snapshot(image)


Steps = list[dict[str, Any]]


def writes(steps: Steps) -> dict[str, Any]:
    params: dict[str, Any] = next(step["params"] for step in steps if step["kind"] == "write-file")
    return params


FORGED: dict[str, Callable[[Steps], object]] = {
    "a step more": lambda steps: steps.append({**steps[-1], "id": "again"}),
    "a step less": lambda steps: steps.pop(),
    "the guard left out": lambda steps: steps.pop(0),
    "two steps turned round": lambda steps: steps.insert(0, steps.pop(1)),
    "a file elsewhere": lambda steps: writes(steps).update(path="/etc/shadow"),
    "a path that climbs": lambda steps: writes(steps).update(path="/var/lib/kubelet/../../../etc/shadow"),
    "a target elsewhere": lambda steps: writes(steps).update(real_path="/etc/shadow"),
    "another digest after": lambda steps: writes(steps)["after"].update(sha256="0" * 64),
    "another digest before": lambda steps: writes(steps)["before"].update(sha256="0" * 64),
    "another mode": lambda steps: writes(steps)["before"].update(mode="0777"),
    "another owner": lambda steps: writes(steps)["before"].update(uid=1000),
    "a diff that shows less": lambda steps: writes(steps).update(diff="--- a\n+++ b\n"),
    "an edit more": lambda steps: writes(steps)["edits"].append(writes(steps)["edits"][0]),
    "another unit": lambda steps: next(step for step in steps if step["kind"] == "guard")["params"].update(
        units=["sshd.service"]
    ),
    "a shell": lambda steps: steps[0].update(kind="run-shell", params={"command": "id"}),
    "a reason": lambda steps: steps[0].update(why="nothing"),
    "an extra parameter": lambda steps: steps[0]["params"].update(command="id"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_plan_that_wants_something_else_is_a_conflict_and_nothing_is_touched(
    tmp_path: Path, forge: Callable[[Steps], object]
) -> None:
    image = copy(DOCKER, tmp_path / "image")
    plan = planned(image, tmp_path / "plan.json")
    document = json.loads(plan.read_bytes())
    before = json.dumps(document)
    forge(document["steps"])
    assert before != json.dumps(document)
    plan.write_text(json.dumps(document))
    original = snapshot(image)

    refused = cgmigrate("apply", "--root", image, plan, "--yes")

    assert (4, "") == (refused.returncode, refused.stdout), refused.stderr
    assert original == snapshot(image)
    assert "no runs" in cgmigrate("status", "--root", image).stdout


MARK = "outside-the-image"


@pytest.mark.parametrize("climb", ["/..", "../../../../../../../../../..", ""])
def test_an_image_never_leads_out_of_its_root(tmp_path: Path, climb: str) -> None:
    """Links of the image that would lead to this machine's files lead to the image's own."""
    outside = tmp_path / "outside"
    shutil.copytree(copy(DOCKER, tmp_path / "other"), outside, symlinks=True)
    for path in outside.rglob("*"):
        if path.is_file():
            path.write_text(f"{MARK}\n")
    image = copy(DOCKER, tmp_path / "image")
    for name in (
        "etc/docker",
        "etc/default",
        "etc/kubernetes",
        "proc/83",
        "var/lib/cgmigrate",
        "etc/hostname",
    ):
        place = image / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(f"{climb}{outside}/{name}")
    original = snapshot(outside)

    outputs = [cgmigrate(command, "--root", image) for command in ("audit", "plan", "status")]
    cgmigrate("plan", "--root", image, "-o", tmp_path / "plan.json")
    outputs.append(cgmigrate("apply", "--root", image, tmp_path / "plan.json", "--yes"))

    assert [] == [done for done in outputs if MARK in done.stdout + done.stderr]
    assert [0, 0, 4, 4] == [done.returncode for done in outputs], outputs[-1].stderr
    assert original == snapshot(outside)


def test_a_link_to_a_directory_outside_is_made_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    image = copy(DOCKER, tmp_path / "image")
    shutil.rmtree(image / "etc/docker")
    (image / "etc/docker").symlink_to(outside)
    original = snapshot(image)

    applied = cgmigrate("apply", "--root", image, planned(image, tmp_path / "plan.json"), "--yes")

    assert 0 == applied.returncode, applied.stderr
    assert [] == sorted(outside.iterdir())
    assert (image / outside.relative_to("/") / "daemon.json").is_file()
    assert 0 == cgmigrate("rollback", "--root", image, "--yes").returncode
    assert original == snapshot(image)


@as_root
@pytest.mark.parametrize("command", ["plan", "translate"])
def test_a_link_that_another_user_left_in_a_directory_for_all_is_not_written_through(
    tmp_path: Path, command: str
) -> None:
    for_all = tmp_path / "for-all"
    for_all.mkdir()
    for_all.chmod(0o1777)
    victim = tmp_path / "passwd"
    text = f"/kubepods/besteffort/pod{'0' * 32}\n"
    victim.write_text(text)
    (for_all / "plan.json").symlink_to(victim)
    os.lchown(for_all / "plan.json", NOBODY, NOBODY)
    arguments: tuple[str | Path, ...] = (
        ("plan", "--root", copy(DOCKER, tmp_path / "image"), "-o")
        if command == "plan"
        else ("translate", "-i")
    )

    refused = cgmigrate(*arguments, for_all / "plan.json")
    assert refused.returncode in (2, 4), refused
    assert f"user {NOBODY} has left the symbolic link" in refused.stderr
    assert text == victim.read_text()

    os.lchown(for_all / "plan.json", 0, 0)  # root's own link
    assert 0 == cgmigrate(*arguments, for_all / "plan.json").returncode
    assert text != victim.read_text()


EXPOSED: list[tuple[str, dict[str, int], str]] = [
    ("nothing", {}, ""),
    ("the file", {"etc/docker/daemon.json": 0o666}, "/etc/docker/daemon.json"),
    ("its directory", {"etc/docker": 0o777}, "/etc/docker"),
    ("a directory above", {"etc": 0o757}, "/etc"),
    ("a directory for all, where only owners replace", {"etc/docker": 0o1777}, ""),
    ("a file in one", {"etc/docker": 0o1777, "etc/docker/daemon.json": 0o646}, "/etc/docker/daemon.json"),
    ("the directory of the link's target", {"srv": 0o777}, "/srv"),
]


@pytest.mark.parametrize(("modes", "expected"), [row[1:] for row in EXPOSED], ids=[row[0] for row in EXPOSED])
def test_a_file_that_everybody_may_change_is_found_and_the_way_is_named(
    tmp_path: Path, modes: dict[str, int], expected: str
) -> None:
    image = copy(DOCKER, tmp_path / "image")
    if "srv" in modes:
        (image / "srv").mkdir()
        (image / "etc/docker/daemon.json").rename(image / "srv/daemon.json")
        (image / "etc/docker/daemon.json").symlink_to("/srv/daemon.json")
    for path, mode in modes.items():
        (image / path).chmod(mode)
    look = Look(Reader(image))
    look.read("/etc/docker/daemon.json")

    assert expected == look.files["/etc/docker/daemon.json"].exposed_by
    findings = json.loads(cgmigrate("audit", "--root", image, "--format", "json").stdout)["findings"]
    found = {each["subject"]: each["severity"] for each in findings if each["id"] == "file-writable-by-all"}
    assert ({expected: "warning"} if expected else {}) == found

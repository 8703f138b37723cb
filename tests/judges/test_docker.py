# SPDX-License-Identifier: Apache-2.0
"""dockerd 20.10, 26.1 and 28.x on the daemon.json that cgmigrate writes."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator.cgroups import Driver
from migrator.checks import CHECKS
from migrator.configs import docker
from migrator.configs.docker import EXEC_OPTION
from migrator.configs.text import BOM
from migrator.facts.look import Look
from migrator.facts.model import Runtime
from migrator.facts.runtime_config import docker_configured
from migrator.facts.units import unit_on_disk
from tests.unit.facts_base import QUIET
from tests.unit.nodes import lay

from .daemons import DOCKERD, SUITES, Dockerd

LAYOUTS = 60
OPTION = EXEC_OPTION + "="
SETTINGS: dict[str, object] = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "100m", "max-file": "3", "labels": "exec-opts"},
    "data-root": "/var/lib/docker",
    "storage-driver": "overlay2",
    "live-restore": True,
    "registry-mirrors": ["https://mirror.example"],
    "insecure-registries": ["registry.example:5000"],
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}},
    "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}},
    "default-runtime": "runc",
    "mtu": 1450,
    "bridge": "none",
    "iptables": False,
    "labels": ["rack=é7"],
    "max-concurrent-downloads": 10,
}
SPELLED = ("native.cgroupdriver=cgroupfs", "native.cgroupdriver=systemd", "Native.CgroupDriver = cgroupfs")


def daemon_json(seed: int) -> bytes:
    """Return a daemon.json as operators have it; the same for the same seed."""
    choose = random.Random(seed)
    if choose.random() < 0.04:
        return choose.choice([b"", b"\n", b"{}", b"{\n}\n"])
    names = choose.sample([*SETTINGS], choose.randrange(1, 6))
    document = {name: SETTINGS[name] for name in names}
    if choose.random() < 0.7:
        document["exec-opts"] = choose.sample(SPELLED, choose.choice([0, 1, 1, 1, 2]))
    items = list(document.items())
    choose.shuffle(items)
    indent = choose.choice([None, 2, 2, 4, "\t", 0])
    text = json.dumps(dict(items), indent=indent, ensure_ascii=choose.random() < 0.5)
    if choose.random() < 0.7:
        text += "\n"
    if choose.random() < 0.15:
        text = text.replace("\n", "\r\n")
    if choose.random() < 0.1:
        text = text.replace('"native.cgroupdriver=', '"native.\\u0063groupdriver=')
    return ((BOM if choose.random() < 0.04 else "") + text).encode()


def without_driver(document: dict[str, Any]) -> dict[str, Any]:
    options = [
        option
        for option in document.get("exec-opts") or []
        if option.partition("=")[0].strip().lower() != EXEC_OPTION
    ]
    return {**{key: value for key, value in document.items() if key != "exec-opts"}, "exec-opts": options}


def loaded(text: bytes) -> dict[str, Any]:
    plain = text.decode().removeprefix(BOM)
    return dict(json.loads(plain)) if plain.strip() else {}


def judge(version: str, root: Path, text: bytes, *flags: str) -> str | None:
    (root / "etc/docker").mkdir(parents=True, exist_ok=True)
    (root / "etc/docker/daemon.json").write_bytes(text)
    return Dockerd(SUITES[DOCKERD[version]].path).refuses(root, *flags)


@pytest.mark.parametrize("version", DOCKERD)
@pytest.mark.usefixtures("judges")
def test_dockerd_accepts_what_was_changed_and_nothing_else_was(version: str, tmp_path: Path) -> None:
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    for seed in range(LAYOUTS):
        before = daemon_json(seed)
        refused = judge(version, tmp_path, before)
        text = before
        for driver in (Driver.SYSTEMD, Driver.CGROUPFS):
            text = docker.set_driver(text, driver).text
            if without_driver(loaded(before)) != without_driver(loaded(text)):
                wrong.append(f"{seed} {driver}: another key changed")
            if docker.set_driver(text, driver).edits or docker.read(text).driver != driver:
                wrong.append(f"{seed} {driver}: not idempotent, or without effect")
            accepted = judge(version, tmp_path, text)
            if accepted and (refused is None or not before.strip()):
                wrong.append(f"{seed} {driver}: not accepted: {accepted}")
            seen["refused before and after" if accepted else "accepted"] += 1
    assert not wrong, "\n".join(wrong)
    print(version, dict(seen))
    assert seen["accepted"] > LAYOUTS


@pytest.mark.parametrize("version", DOCKERD)
@pytest.mark.usefixtures("judges")
def test_the_same_list_as_a_flag_and_in_the_file_is_why_a_flag_is_changed_where_it_stands(
    version: str, tmp_path: Path
) -> None:
    flag = ("--exec-opt", "native.cgroupdriver=systemd")
    both = judge(version, tmp_path, docker.set_driver(b"{}", Driver.SYSTEMD).text, *flag)
    assert "specified both as a flag and in the configuration file: exec-opts" in (both or "")
    assert judge(version, tmp_path, b"{}", *flag) is None


REFUSED = 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'
PARENTS = [
    ("file", "/docker", True),
    ("file", "docker", True),
    ("file", ".slice", True),
    ("file", "kube.slice/docker", True),
    ("file", "docker.slice", False),
    ("file", "kube-docker.slice", False),
    ("file", "", False),
    ("flag", "/docker", True),
    ("flag", "docker.slice", False),
]


@pytest.mark.parametrize("version", DOCKERD)
@pytest.mark.parametrize(("place", "parent", "is_bad"), PARENTS)
@pytest.mark.usefixtures("judges")
def test_a_cgroup_parent_that_stops_dockerd_under_systemd_is_a_blocker_before_and_validate_does_not_see_it(
    version: str, place: str, parent: str, is_bad: bool, tmp_path: Path
) -> None:
    flags = [f"--cgroup-parent={parent}"] if place == "flag" else []
    settings = {"bridge": "none", "iptables": False, **({} if flags else {"cgroup-parent": parent})}
    before = docker.set_driver(json.dumps(settings).encode(), Driver.CGROUPFS).text
    daemon = Dockerd(SUITES[DOCKERD[version]].path)

    assert judge(version, tmp_path, before, *flags) is None
    assert daemon.refuses_to_start(tmp_path, *flags) is None
    found = blockers(tmp_path, *flags)
    after = docker.set_driver(before, Driver.SYSTEMD).text

    assert judge(version, tmp_path, after, *flags) is None
    refused = daemon.refuses_to_start(tmp_path, *flags)
    assert found == (["cgroup-parent"] if is_bad else [])
    assert (REFUSED in (refused or "")) is is_bad, refused
    assert is_bad or refused is None


def blockers(root: Path, *flags: str) -> list[str]:
    """Return what the audit says of the parent that dockerd gives to containers."""
    unit = {
        "/usr/lib/systemd/system/docker.service": f"[Service]\nExecStart=/usr/sbin/dockerd {' '.join(flags)}\n"
    }
    look = Look(lay(root, unit))
    service = unit_on_disk(look, "docker.service")
    runtime = docker_configured(look, Runtime(kind="docker"), service, QUIET.node)
    return [each.id for each in CHECKS["cgroup-parent"].find(replace(QUIET, runtime=runtime))]

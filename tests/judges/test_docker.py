# SPDX-License-Identifier: Apache-2.0
"""dockerd 20.10, 26.1 and 28.x on the daemon.json that cgmigrate writes."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from migrator.cgroups import Driver
from migrator.configs import docker
from migrator.configs.docker import EXEC_OPTION
from migrator.configs.text import BOM

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

# SPDX-License-Identifier: Apache-2.0
"""The real daemons on the configurations of the sample nodes: as they are, rewritten, and taken back.

Nodes that share a configuration are judged once. What a daemon refuses before it must refuse afterwards too: an edit mends nothing
and breaks nothing.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.cgroups import Driver
from migrator.changes import Change, file_changes
from migrator.configs import docker, flags, units
from migrator.errors import BlockedError, CgmigrateError
from migrator.facts.look import Look
from migrator.facts.model import Runtime
from migrator.facts.runtime import ask_driver
from migrator.facts.runtime_config import containerd_configured
from migrator.facts.units import read_command, unit_on_disk
from migrator.host import Reader
from tests.unit.nodes import lay
from tools import samples

from .daemons import CONTAINERD, DOCKERD, SUITES, Dockerd
from .layouts import MAIN
from .test_containerd import Files, judge, planned, there_and_back
from .test_kubelet import GO_NAMES, asked

DAEMON_JSON = "/etc/docker/daemon.json"
DOCKER = "docker.service"
SETTINGS = {"--cgroup-driver": "cgroupDriver", "--kube-reserved-cgroup": "kubeReservedCgroup"}

NOT_AT_HAND = {"containerd-2.3-config-v4"}
"""Nodes of a version that is no judge."""
LEFT_TO_THE_OWNER = {"containerd-misspelt": "systemdCgroup is not the key"}
NOT_STARTED: dict[str, dict[str, str]] = {
    "1.4": {"containerd-odd-toml": "refused before and after"},
    "1.6": {},
    "1.7": dict.fromkeys(
        (
            "containerd-2.1-kubelet-1.34",
            "containerd-2.3-config-v4",
            "containerd-conf-d-overrides",
            "containerd-nvidia-drop-in",
            "containerd-v3-old-table",
            "kubelet-runtime-ahead",
        ),
        "refused by both",
    ),
    "2.x": {
        "containerd-2.3-config-v4": "refused by both",
        "containerd-odd-toml": "refused before and after",
    },
}
"""What a containerd does not start on as it is (a byte order mark, a version of the file), by the first node that has it."""

WITHOUT_CRI: dict[str, list[str]] = {
    "1.6": [],
    "1.7": ["containerd-cri-disabled", "containerd-legacy-systemd-cgroup"],
    "2.x": [],
}
"""Nodes whose containerd has no CRI as it is: each is a finding."""
BOTH = {
    "docker-daemon-json-comment": "invalid character '/'",
    "docker-flag-and-file": "specified both as a flag and in the configuration file: exec-opts",
}
DOCKER_REFUSED = {
    "20.10": BOTH,
    "26.1": BOTH,
    "28.x": {**BOTH, "docker-daemon-json-odd": "unknown option: 'native.umask'"},
}
UNKNOWN_TO_1_20 = {
    "kubelet-config-dir": "unknown flag: --config-dir",
    "kubelet-gate-off": "unrecognized feature gate: KubeletCgroupDriverFromCRI",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One configuration, and the sample nodes that have it."""

    nodes: tuple[str, ...]
    files: Mapping[str, bytes]
    config: str
    """The file that containerd is given, or would find."""


def content(root: Path, *places: str) -> dict[str, bytes]:
    """Return the files at and below some places of an image."""
    found: dict[str, bytes] = {}
    for place in places:
        path = root / place.removeprefix("/")
        for each in path.rglob("*") if path.is_dir() else [path]:
            if each.is_file():
                found[f"/{each.relative_to(root)}"] = each.read_bytes()
    return found


def row(program: str) -> str:
    """Return what the support matrix says of a program."""
    lines = (samples.ROOT / "docs/reference/support-matrix.md").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"| {program} "))


@functools.cache
def containerds() -> Sequence[Judged]:
    """Return every configuration with which a node's containerd is started."""
    nodes: dict[tuple[str, tuple[tuple[str, bytes], ...]], list[str]] = {}
    for name in samples.names():
        runtime = samples.facts(name).runtime
        config = (runtime.kind == "containerd" and runtime.config_file) or MAIN
        files = content(samples.reader(name).root, str(Path(config).parent), *runtime.imports)
        if runtime.kind == "containerd" or config in files:
            nodes.setdefault((config, tuple(sorted(files.items()))), []).append(name)
    return [Judged(tuple(names), dict(files), config) for (config, files), names in nodes.items()]


def family(name: str) -> str:
    """Return which judge is of the version of a node's containerd; empty for none."""
    runtime = samples.facts(name).runtime
    version = (runtime.version or "") if runtime.kind == "containerd" else ""
    return "2.x" if version.startswith("2.") else version[:3]


def laid(root: Path, each: Judged) -> None:
    """Lay out a configuration of containerd, and the unit that starts it."""
    unit = f"[Service]\nExecStart=/usr/bin/containerd --config {each.config}\n"
    lay(root, {**each.files, "/usr/lib/systemd/system/containerd.service": unit})


def facts(root: Path, version: str) -> tuple[Runtime, Look]:
    """Return what the audit finds of containerd in an image."""
    look = Look(Reader(root))
    service = unit_on_disk(look, "containerd.service")
    return containerd_configured(look, Runtime(kind="containerd", version=version), service), look


def edited(root: Path, version: str, driver: Driver) -> Files:
    """Return the files that the plan would write, changed."""
    return planned(*facts(root, version), driver)


@pytest.mark.parametrize("version", CONTAINERD)
@pytest.mark.usefixtures("judges")
def test_containerd_judges_the_samples_there_and_back(version: str, tmp_path: Path) -> None:
    said = judge(version).version()
    others: dict[str, str] = {}
    refused: list[str] = []
    for each in containerds():
        first = each.nodes[0]
        root = tmp_path / first
        laid(root, each)
        words = there_and_back(version, root, functools.partial(edited, root, said), each.config)
        if words != ["judged", "judged"]:
            others[first] = "; ".join(words)
            refused += [name for name in each.nodes if family(name) == version]
    print(version, said, len(containerds()), "configurations;", others)
    left = {name: others.pop(name) for name in LEFT_TO_THE_OWNER}
    assert [name for name, why in LEFT_TO_THE_OWNER.items() if why not in left[name]] == []
    assert others == NOT_STARTED[version]
    assert set(refused) - {*LEFT_TO_THE_OWNER} <= NOT_AT_HAND
    assert f", {len(containerds()) - len(left) - len(others)} samples |" in row(f"containerd {version}")


@pytest.mark.parametrize("version", [version for version in CONTAINERD if version != "1.4"])
@pytest.mark.usefixtures("judges")
def test_a_containerd_of_the_nodes_own_version_tells_the_driver_that_the_audit_predicted(
    version: str, tmp_path: Path
) -> None:
    containerd = judge(version)
    said = containerd.version()
    wrong: list[str] = []
    silent: list[str] = []
    told: Counter[str] = Counter()
    for number, each in enumerate(containerds()):
        first = each.nodes[0]
        if version not in map(family, each.nodes) or first in {*LEFT_TO_THE_OWNER, *NOT_AT_HAND}:
            continue
        # The path of a socket is short.
        root = tmp_path / str(number)
        laid(root, each)
        if not (root / each.config.removeprefix("/")).exists():
            lay(root, {each.config: ""})
        for driver in (None, Driver.SYSTEMD):
            if driver:
                lay(root, edited(root, said, driver))
            predicted = facts(root, said)[0].driver.value
            try:
                with containerd.running(root, config=each.config):
                    socket = root / "run/containerd/containerd.sock"
                    answer = ask_driver(Reader(), "containerd", str(socket))
            except (CgmigrateError, ChildProcessError):
                silent.append(first)
                break
            told[str(answer)] += 1
            if answer != predicted or (driver and answer != driver):
                wrong.append(f"{first}: wanted {driver}, predicted {predicted}, told {answer}")
    print(version, said, dict(told), silent)
    assert not wrong, "\n".join(wrong)
    assert silent == WITHOUT_CRI[version]


def changes(name: str) -> Sequence[Change]:
    """Return what a plan changes in a node's files; nothing where one of them, or a driver that is none, keeps it from planning."""
    node = samples.facts(name)
    try:
        found = file_changes(node, Look(samples.reader(name)).read)
    except BlockedError:
        return ()
    return found if node.kubelet.driver.value in [*Driver] else ()


def command(root: Path, unit: str) -> list[str]:
    """Return the flags that a service of an image starts with."""
    look = Look(Reader(root))
    return [word.text for word in read_command(look, unit_on_disk(look, unit))][1:]


def of_docker(change: Change, driver: Driver) -> bytes:
    """Return a changed file of dockerd with one of the drivers."""
    if change.path == DAEMON_JSON:
        return docker.set_driver(change.before, driver).text
    set_driver = units.set_driver if change.unit_file else flags.set_driver
    return set_driver(change.after, driver, flags.DOCKER_DRIVER).text


@pytest.mark.parametrize("version", DOCKERD)
@pytest.mark.usefixtures("judges")
def test_dockerd_judges_the_samples_there_and_back(version: str, tmp_path: Path) -> None:
    dockerd = Dockerd(SUITES[DOCKERD[version]].path)
    seen: set[tuple[object, ...]] = set()
    words: Counter[str] = Counter()
    wrong: list[str] = []
    refused: dict[str, str] = {}
    for name in samples.names():
        if samples.facts(name).runtime.kind != "docker":
            continue
        root = tmp_path / name
        samples.lay(samples.sample(name), root)
        started = command(root, DOCKER)
        configuration = (*started, content(root, DAEMON_JSON).get(DAEMON_JSON))
        if configuration in seen:
            continue
        seen.add(configuration)
        if before := dockerd.refuses(root, *started):
            refused[name] = before
        ours = [each for each in changes(name) if "docker" in each.path]
        for driver in (Driver.SYSTEMD, Driver.CGROUPFS):
            lay(root, {each.path: of_docker(each, driver) for each in ours})
            after = dockerd.refuses(root, *command(root, DOCKER))
            if in_words(after) != in_words(before):
                wrong.append(f"{name} {driver}: {before} -> {after}")
            if [*map(in_words, command(root, DOCKER))] != [*map(in_words, started)]:
                wrong.append(f"{name} {driver}: another flag changed")
            words["refused before and after" if after else "accepted" if ours else "nothing to change"] += 1
    print(version, len(seen), "configurations", dict(words))
    assert not wrong, "\n".join(wrong)
    assert [name for name, why in DOCKER_REFUSED[version].items() if why not in refused[name]] == []
    assert refused.keys() == DOCKER_REFUSED[version].keys()
    assert f", {len(seen) - len(refused)} samples |" in row(f"dockerd {version}")


def in_words(said: str | None) -> str:
    """Return a text without the name of the driver."""
    return re.sub(r"(native\.cgroupdriver=)(cgroupfs|systemd)", r"\1…", said or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="the kubelet is started as nobody: run this as root")
def test_the_kubelet_has_what_the_plans_of_the_samples_give_it_and_nothing_else(
    kubelet: Path, tmp_path: Path
) -> None:
    seen: set[tuple[object, ...]] = set()
    wrong: list[str] = []
    refused: dict[str, str] = {}
    unread: list[str] = []
    for name in samples.names():
        planned_changes, had = changes(name), samples.facts(name).kubelet
        if not planned_changes or had.unit is None:
            continue
        roots = (tmp_path / name / "before", tmp_path / name / "after")
        for root in roots:
            samples.lay(samples.sample(name), root)
        lay(roots[1], {each.path: each.after for each in planned_changes})
        started, starts = (command(root, had.unit.name) for root in roots)
        layers = [each.path for each in had.driver.chain if each.kind == "config-drop-in"]
        texts = [content(root, had.config_file, *layers) if had.config_file else {} for root in roots]
        configuration = (*started, "", *starts, *(pair for text in texts for pair in text.items()))
        if (started, texts[0]) == (starts, texts[1]) or configuration in seen:
            continue
        seen.add(configuration)
        before, after = asked(kubelet, roots[0], started), asked(kubelet, roots[1], starts)
        if before.refused:
            refused[name] = before.refused
        elif before.unread:
            unread.append(name)
        edits = {edit.path_in_file: edit.after or "" for each in planned_changes for edit in each.edits}
        named = {SETTINGS.get(setting, setting): value for setting, value in edits.items()}
        wanted = {setting: value for setting, value in named.items() if setting in GO_NAMES}
        if after != before.with_values(wanted) or wanted["cgroupDriver"] != Driver.SYSTEMD:
            wrong.append(f"{name}: {before} -> {after}")
    print(len(seen), "configurations,", len(unread), "with a field that it does not read, refused:", refused)
    assert not wrong, "\n".join(wrong)
    assert [name for name, why in UNKNOWN_TO_1_20.items() if why not in refused[name]] == []
    assert refused.keys() == UNKNOWN_TO_1_20.keys()
    assert f", {len(seen) - len(refused)} samples |" in row("kubelet 1.20.2")

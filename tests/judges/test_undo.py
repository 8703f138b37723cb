# SPDX-License-Identifier: Apache-2.0
"""Every configuration that is judged, edited and taken back by the engine itself: the old bytes, and nothing else, come back.

What the daemons say of these files is in the other modules; here any seed will do, and no daemon is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.changes import Change
from migrator.configs import docker, kubelet
from migrator.configs.text import ConfigSyntaxError
from migrator.doors import doors_of
from migrator.errors import BlockedError
from migrator.host import Host
from migrator.interrupt import Interrupt
from migrator.journal import Run, Runs
from migrator.plan import plan_digest, render
from migrator.records import Status
from migrator.session import Voice, engine_of
from tests.unit.nodes import lay
from tools import samples

from . import test_containerd as containerd
from .layouts import layout
from .test_docker import daemon_json
from .test_kubelet import config
from .test_samples import changes

Files = Mapping[str, bytes]
VERSIONS = ("1.4.13", "1.6.20", "1.7.24", "2.1.9", None)
QUIET = Voice(say=lambda _: None, tell=lambda _: None)
SEEDS = st.integers(min_value=0, max_value=10**6)
DRIVERS = st.sampled_from(list(Driver))
FILES = settings(deadline=None, max_examples=40)


def content(root: Path) -> dict[str, bytes]:
    """Return every file of a node but what the tool keeps of its runs."""
    state = root / "var/lib/cgmigrate"
    return {
        str(path): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and state not in path.parents
    }


def begin(host: Host, before: Files, after: Files) -> Run:
    """Make a run that writes files."""
    changes = [
        Change(path=path, before=before.get(path), after=text, edits=(), why="")
        for path, text in after.items()
    ]
    steps = [
        {"id": f"write-file:{each.path}", "kind": "write-file", "why": "", "params": each.params()}
        for each in changes
    ]
    document = {"format": "cgmigrate-plan", "version": 1, "scope": "node", "steps": steps}
    contents = tuple(data for each in changes for data in (each.before, each.after) if data is not None)
    return Runs(host).create(plan_digest(document), render(document), b"{}", contents)


def goes_and_comes_back(before: Files, after: Files) -> None:
    """Have a run write the files that differ and take them back."""
    after = {path: text for path, text in after.items() if text != before.get(path)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay(root, before)
        first = content(root)
        host = Host(root)
        run = begin(host, before, after)

        with engine_of(doors_of(host), run, QUIET, Interrupt()) as engine:
            engine.forward(new=True)
        assert {str(root / path.removeprefix("/")): text for path, text in after.items()}.items() <= (
            content(root).items()
        )
        with engine_of(doors_of(host), run, QUIET, Interrupt()) as engine:
            engine.back("a test")

        assert run.state().status is Status.ROLLED_BACK
        assert first == content(root)


@given(SEEDS, st.sampled_from(VERSIONS), DRIVERS)
@FILES
def test_containerd_gets_its_bytes_back_and_a_second_edit_finds_nothing(
    seed: int, version: str | None, driver: Driver
) -> None:
    before = layout(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay(root, before)
        try:
            after = containerd.edited(root, version, driver)
        except (BlockedError, ConfigSyntaxError):
            return
        lay(root, after)
        assert containerd.edited(root, version, driver) == {}
    goes_and_comes_back(before, after)


@given(SEEDS, DRIVERS)
@FILES
def test_dockerd_gets_its_bytes_back_and_a_second_edit_finds_nothing(seed: int, driver: Driver) -> None:
    before = daemon_json(seed)
    after = docker.set_driver(before, driver).text
    again = docker.set_driver(after, driver)
    assert (again.text, again.edits) == (after, ())
    goes_and_comes_back({"/etc/docker/daemon.json": before}, {"/etc/docker/daemon.json": after})


@given(SEEDS, DRIVERS)
@FILES
def test_the_kubelet_gets_its_bytes_back_and_a_second_edit_finds_nothing(seed: int, driver: Driver) -> None:
    before = config(seed)
    after = kubelet.set_driver(before, driver).text
    again = kubelet.set_driver(after, driver)
    assert (again.text, again.edits) == (after, ())
    goes_and_comes_back({"/var/lib/kubelet/config.yaml": before}, {"/var/lib/kubelet/config.yaml": after})


@pytest.mark.parametrize("path", ["/etc/docker/daemon.json", "/etc/containerd/config.toml"])
def test_a_file_that_was_not_there_goes_with_its_directory(path: str) -> None:
    goes_and_comes_back({"/etc/hostname": b"worker-1\n"}, {path: b"made\n"})


def test_every_file_that_the_plans_of_the_samples_change_comes_back() -> None:
    every = {
        tuple((each.path, each.before, each.after) for each in changes(name)) for name in samples.names()
    }
    for files in every - {()}:
        before = {path: text for path, text, _ in files if text is not None}
        goes_and_comes_back(before, {path: text for path, _, text in files})
    assert len(every) > 50

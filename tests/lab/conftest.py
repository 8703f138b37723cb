# SPDX-License-Identifier: Apache-2.0
"""Fixtures: `node`, a fresh one per test and flavour, and `make_node` for tests that want several."""

import atexit
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from .cache import LabError
from .node import Node, abandoned, build, owned

_FAILURE = pytest.StashKey[str]()
MakeNode = Callable[..., Node]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs the lab."""
    if isinstance(item, pytest.Function) and "lab" in item.fixturenames:
        item.add_marker(pytest.mark.lab)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the lab before the first test: it is slow once, and no test's timeout should count it."""
    if session.config.option.collectonly or not any(item.get_closest_marker("lab") for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            build()
    except LabError as error:
        session.config.stash[_FAILURE] = str(error)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[type[Node]]:
    """Give what makes nodes on a machine that can, and leave none of them behind, however the session ends."""
    if reason := pytestconfig.stash.get(_FAILURE, None):
        if os.environ.get("CI") == "true":
            pytest.fail(f"the lab cannot start: {reason}")
        pytest.skip(f"the lab cannot start: {reason}")
    for machine in abandoned():  # of a session that was killed
        machine.destroy()

    def destroy_owned() -> None:
        for machine in owned():
            machine.destroy()

    atexit.register(destroy_owned)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield Node
    for number, handler in before.items():
        signal.signal(number, handler)
    destroy_owned()


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def make_node(lab: type[Node]) -> Iterator[MakeNode]:
    """Give a function that makes and boots a node of a flavour, with its pods running."""
    made = []

    def make(flavour: str, name: str | None = None) -> Node:
        node = lab.create(flavour, name)
        made.append(node)
        node.boot()
        node.wait_pods()
        return node

    yield make
    for node in made:
        node.destroy()


@pytest.fixture(params=["docker", "containerd"])
def node(request: pytest.FixtureRequest, make_node: MakeNode) -> Node:
    """Give a fresh booted node whose pods run, on driver cgroupfs."""
    return make_node(request.param)

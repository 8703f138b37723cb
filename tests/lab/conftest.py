# SPDX-License-Identifier: Apache-2.0
"""Fixtures: `node`, a fresh one per test and flavour, `cluster`, one per module; `make_node`, `make_cluster`."""

import atexit
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from . import cluster as clusters
from .cache import LabError, locked
from .cluster import Cluster
from .machine import remove_unused_networks
from .node import Node, abandoned, build, owned

_FAILURE = pytest.StashKey[str]()
_NO_CLUSTER = pytest.StashKey[str]()
MakeNode = Callable[..., Node]
MakeCluster = Callable[..., Cluster]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs the lab."""
    if isinstance(item, pytest.Function) and "lab" in item.fixturenames:
        item.add_marker(pytest.mark.lab)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the lab before the first test: it is slow once, and no test's timeout should count it."""
    if session.config.option.collectonly or not any(item.get_closest_marker("lab") for item in session.items):
        return
    wanted = {_FAILURE: build}
    if any(
        isinstance(item, pytest.Function) and "clusters_lab" in item.fixturenames for item in session.items
    ):
        wanted[_NO_CLUSTER] = clusters.build
    capture = session.config.pluginmanager.getplugin("capturemanager")
    for key, make in wanted.items():
        try:
            with capture.global_and_fixture_disabled():
                make()
        except LabError as error:
            session.config.stash[key] = str(error)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[type[Node]]:
    """Give what makes nodes on a machine that can, and leave none of them behind, however the session ends."""
    _refuse(pytestconfig, _FAILURE)
    with locked("abandoned"):  # this session's other workers begin at the same moment
        for machine in abandoned():  # of a session that was killed
            machine.destroy()
    remove_unused_networks()

    def destroy_owned() -> None:
        for machine in owned():
            machine.destroy()

    atexit.register(destroy_owned)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield Node
    for number, handler in before.items():
        signal.signal(number, handler)
    destroy_owned()


def _refuse(config: pytest.Config, key: pytest.StashKey[str]) -> None:
    if reason := config.stash.get(key, None):
        if os.environ.get("CI") == "true":
            pytest.fail(f"the lab cannot start: {reason}")
        pytest.skip(f"the lab cannot start: {reason}")


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


@pytest.fixture(scope="session")
def clusters_lab(pytestconfig: pytest.Config, lab: type[Node]) -> type[Cluster]:  # noqa: ARG001
    """Give what makes clusters on a machine that can."""
    _refuse(pytestconfig, _NO_CLUSTER)
    return Cluster


@pytest.fixture
def make_cluster(clusters_lab: type[Cluster]) -> Iterator[MakeCluster]:
    """Give a function that makes a cluster and waits until it is usable."""
    made = []

    def make(name: str | None = None) -> Cluster:
        cluster = clusters_lab.create(name)
        made.append(cluster)
        cluster.wait()
        return cluster

    yield make
    for cluster in made:
        cluster.destroy()


@pytest.fixture(scope="module")
def cluster(clusters_lab: type[Cluster]) -> Iterator[Cluster]:
    """Give a cluster that is fresh for each module of tests."""
    with clusters_lab.create() as made:
        made.wait()
        yield made

# SPDX-License-Identifier: Apache-2.0
"""Who goes and who stays: one row for every way through kubectl's filters; and every wording of its lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.drain import DrainEvent, DrainOptions, Move, preview, read_line, refusals
from migrator.facts.model import Budget, ClusterPod
from tests.unit.cluster_base import (
    AGENT,
    BARE,
    KEPT,
    MIRROR,
    ORPHAN,
    SCRATCH,
    STRICT,
    cluster,
    cluster_pod,
)

FORCE, DATA = "--force", "--delete-emptydir-data"
NONE = DrainOptions()
ALL = DrainOptions(force=True, delete_emptydir_data=True)


def move(pod: ClusterPod, options: DrainOptions = NONE, *budgets: Budget, version: str = "1.20.2") -> Move:
    (found,) = preview(cluster(pods=(pod,), budgets=budgets, version=version), options)
    assert (found.namespace, found.name, found.uid) == (pod.namespace, pod.name, pod.uid)
    return found


# pod, goes without options, goes with both, why, lost, its data is deleted, options that it takes
FILTERS: list[tuple[str, ClusterPod, bool, bool, str, bool, bool, tuple[str, ...]]] = [
    ("a ReplicaSet's", cluster_pod(), True, True, "ReplicaSet web-5d4", False, False, ()),
    ("a Job's", cluster_pod(owner_kind="Job", owner_name="j"), True, True, "Job j", False, False, ()),
    ("a DaemonSet's", AGENT, False, False, "DaemonSet agent", False, False, ()),
    (
        "a DaemonSet's with data",
        replace(AGENT, local_data=True),
        False,
        False,
        "DaemonSet agent",
        False,
        False,
        (),
    ),
    ("a DaemonSet's, finished", replace(AGENT, phase="Failed"), True, True, "finished", False, False, ()),
    (
        "an orphan of a DaemonSet",
        ORPHAN,
        False,
        True,
        "DaemonSet agent, which is gone",
        True,
        False,
        (FORCE,),
    ),
    (
        "an orphan of a DaemonSet with data",
        replace(ORPHAN, local_data=True),
        False,
        True,
        "DaemonSet agent, which is gone",
        True,
        True,
        (FORCE, DATA),
    ),
    ("an orphan, finished", replace(ORPHAN, phase="Succeeded"), True, True, "finished", False, False, ()),
    ("a static one", MIRROR, False, False, "static pod", False, False, ()),
    (
        "a static one with data",
        replace(MIRROR, local_data=True),
        False,
        False,
        "static pod",
        False,
        False,
        (),
    ),
    ("a static one, finished", replace(MIRROR, phase="Failed"), False, False, "static pod", False, False, ()),
    ("one with data", SCRATCH, False, True, "ReplicaSet web-5d4", False, True, (DATA,)),
    (
        "one with data, finished",
        replace(SCRATCH, phase="Succeeded"),
        True,
        True,
        "finished",
        False,
        False,
        (),
    ),
    ("a bare one", BARE, False, True, "nothing owns it", True, False, (FORCE,)),
    ("a bare one, finished", replace(BARE, phase="Failed"), True, True, "finished", False, False, ()),
    (
        "a bare one, pending",
        replace(BARE, phase="Pending"),
        False,
        True,
        "nothing owns it",
        True,
        False,
        (FORCE,),
    ),
    (
        "a bare one with data",
        replace(BARE, local_data=True),
        False,
        True,
        "nothing owns it",
        True,
        True,
        (FORCE, DATA),
    ),
    (
        "one that terminates",
        cluster_pod(terminating=True),
        True,
        True,
        "ReplicaSet web-5d4",
        False,
        False,
        (),
    ),
]


@pytest.mark.parametrize(
    ("pod", "goes", "goes_with_all", "why", "lost", "data", "overrides"),
    [row[1:] for row in FILTERS],
    ids=[row[0] for row in FILTERS],
)
def test_each_pod_goes_stays_or_needs_an_option(  # noqa: PLR0917 (columns of the table)
    pod: ClusterPod,
    goes: bool,
    goes_with_all: bool,
    why: str,
    lost: bool,
    data: bool,
    overrides: tuple[str, ...],
) -> None:
    found = move(pod)
    assert (goes, why, lost, data, overrides, overrides) == (
        found.goes,
        found.why,
        found.lost,
        found.data_deleted,
        found.needs,
        found.overrides,
    )
    forced = move(pod, ALL)
    assert (goes_with_all, (), overrides) == (forced.goes, forced.needs, forced.overrides)


def test_an_option_alone_is_not_enough_for_a_pod_that_takes_two() -> None:
    pod = replace(BARE, local_data=True)
    assert [(DATA,), (FORCE,)] == [
        move(pod, options).needs
        for options in (DrainOptions(force=True), DrainOptions(delete_emptydir_data=True))
    ]


OTHER = Budget(namespace="default", name="web", allowed=1, healthy=3, desired=2, expected=3)
UNHEALTHY = replace(STRICT, healthy=1, desired=2, expected=2)
NUMBERS = "strict: 0 allowed, 1 of 1 healthy, 1 desired"

BUDGETS: list[tuple[str, ClusterPod, tuple[Budget, ...], str, str]] = [
    ("one that allows nothing", KEPT, (STRICT,), "1.20.2", NUMBERS),
    ("one that allows one", KEPT, (replace(STRICT, allowed=1),), "1.20.2", ""),
    ("one of another namespace", KEPT, (replace(STRICT, namespace="shop"),), "1.20.2", ""),
    ("another one", KEPT, (OTHER,), "1.20.2", ""),
    ("a pod that is pending", replace(KEPT, phase="Pending", ready=False), (STRICT,), "1.20.2", ""),
    ("a pod that has finished", replace(KEPT, phase="Failed", ready=False), (STRICT,), "1.20.2", ""),
    ("a pod that goes anyway", replace(KEPT, terminating=True), (STRICT,), "1.20.2", ""),
    ("an unready pod, and enough others", replace(KEPT, ready=False), (STRICT,), "1.20.2", ""),
    ("the same before 1.20", replace(KEPT, ready=False), (STRICT,), "1.19.16", NUMBERS),
    (
        "an unready pod, and not enough others",
        replace(KEPT, ready=False),
        (UNHEALTHY,),
        "1.34.0",
        "strict: 0 allowed, 1 of 2 healthy, 2 desired",
    ),
    (
        "an unready pod, and a budget that desires nothing yet",
        replace(KEPT, ready=False),
        (replace(STRICT, healthy=0, desired=0, expected=0),),
        "1.34.0",
        "strict: 0 allowed, 0 of 0 healthy, 0 desired",
    ),
    (
        "two, whatever they allow",
        replace(KEPT, budgets=("strict", "web")),
        (replace(STRICT, allowed=1), OTHER),
        "1.34.0",
        "strict, web: the API server evicts no pod that has more than one budget",
    ),
    ("none of which anything is known", KEPT, (), "1.20.2", ""),
    ("a DaemonSet's pod, which stays", replace(AGENT, budgets=("strict",)), (STRICT,), "1.20.2", ""),
]


@pytest.mark.parametrize(
    ("pod", "budgets", "version", "expected"), [row[1:] for row in BUDGETS], ids=[row[0] for row in BUDGETS]
)
def test_a_budget_keeps_a_pod_or_does_not(
    pod: ClusterPod, budgets: tuple[Budget, ...], version: str, expected: str
) -> None:
    assert expected == move(pod, NONE, *budgets, version=version).budget


def test_the_pods_are_in_order_and_refusals_are_those_that_need_an_option() -> None:
    pods = (SCRATCH, MIRROR, BARE, cluster_pod("a", namespace="shop"), cluster_pod("a"))
    moves = preview(cluster(pods=pods), NONE)
    assert ["default/a", "default/bare", "default/scratch-7c-y", "kube-system/etcd-worker-1", "shop/a"] == [
        f"{each.namespace}/{each.name}" for each in moves
    ]
    assert ["bare", "scratch-7c-y"] == [each.name for each in refusals(moves)]
    assert () == refusals(preview(cluster(pods=pods), ALL))


BUDGET_TEXT = "Cannot evict pod as it would violate the pod's disruption budget."

LINES = [
    ("evicting pod default/web-5d4-x", "evicting", "default", "web-5d4-x"),
    ("evicting pod default/web-5d4-x\n", "evicting", "default", "web-5d4-x"),
    ("evicting pod default/web-5d4-x (server dry run)", "evicting", "default", "web-5d4-x"),
    ('evicting pod "web-5d4-x"', "evicting", "", "web-5d4-x"),  # 1.17
    ("pod/web-5d4-x evicted", "evicted", "", "web-5d4-x"),
    ("pod/web-5d4-x deleted", "evicted", "", "web-5d4-x"),
    ('pod "web-5d4-x" evicted', "evicted", "", "web-5d4-x"),
    (f'error when evicting pod "web" (will retry after 5s): {BUDGET_TEXT}', "blocked", "", "web"),  # to 1.19
    (
        f'error when evicting pods/"web" -n "shop" (will retry after 5s): {BUDGET_TEXT}',
        "blocked",
        "shop",
        "web",
    ),
    (
        (
            'error when evicting pods/"web" -n "shop" (will retry after 5s): Cannot evict pod as it would violate the '
            "pod's disruption budget. The disruption budget strict needs 1 healthy pods and has 1 currently"
        ),
        "blocked",
        "shop",
        "web",
    ),
    (
        (
            'error when evicting pods/"web" -n "shop" (will retry after 5s): pods "web" is forbidden: unable to create '
            "new content in namespace shop because it is being terminated"
        ),
        "blocked",
        "shop",
        "web",
    ),
    ("node/w1 cordoned", "other", "", ""),
    ("node/w1 already cordoned", "other", "", ""),
    ("node/w1 evicted", "other", "", ""),  # what 1.18 says at the end
    ("node/w1 drained", "other", "", ""),
    ("WARNING: ignoring DaemonSet-managed Pods: default/agent-x", "other", "", ""),
    ("Warning: ignoring DaemonSet-managed Pods: default/agent-x", "other", "", ""),
    (
        (
            'error: error when evicting pods/"web" -n "shop": This pod has more than one PodDisruptionBudget, which the '
            "eviction subresource does not support."
        ),
        "other",
        "",
        "",
    ),
    ('error when waiting for pod "web" terminating: global timeout reached: 5s', "other", "", ""),
    ("pod/web", "other", "", ""),
]


@pytest.mark.parametrize(("line", "kind", "namespace", "name"), LINES)
def test_a_line_of_kubectl_tells_what_happened_to_which_pod(
    line: str, kind: str, namespace: str, name: str
) -> None:
    expected = DrainEvent(kind=kind, namespace=namespace, name=name, text=line.strip())
    assert expected == read_line(line)


@pytest.mark.parametrize("line", ["", "\n", "  \t"])
def test_an_empty_line_tells_nothing(line: str) -> None:
    assert read_line(line) is None


@given(st.text())
def test_whatever_a_line_holds_it_is_an_event_of_one_line(line: str) -> None:
    event = read_line(line)
    assert (event is None) == (not line.split())
    assert event is None or event.text == " ".join(line.split())

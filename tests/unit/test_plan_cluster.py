# SPDX-License-Identifier: Apache-2.0
"""Whether a node may leave its cluster for a while, and which steps that puts into its plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.audit import audit
from migrator.drain import Move
from migrator.errors import BlockedError, ConflictError
from migrator.facts.api import to_config_map
from migrator.facts.look import Look
from migrator.facts.model import Cluster, Facts, KubeletConfigMap
from migrator.host import Reader
from migrator.plan_cluster import config_map_change, drain_params, gate, irreversible
from migrator.plan_options import PlanOptions
from migrator.plan_steps import node_steps
from tests.unit.cluster_base import AGENT, BARE, MIRROR, SCRATCH, cluster, cluster_node, cluster_pod
from tests.unit.facts_base import QUIET, but, pod

WEB = cluster_pod("web-1", owner_kind="ReplicaSet", owner_name="web")
DEFAULT, DRAINED = PlanOptions(), PlanOptions(already_drained=True)
ALL = PlanOptions(force=True, delete_emptydir_data=True)
CORDONED = cluster_node(unschedulable=True)
AWAY = Cluster(kubeconfig="/root/admin.conf", reason="connection refused")
AGENT_HERE = replace(pod("agent-1"), daemon_set=True)


def on(found: Cluster | None, *here: object, **node: object) -> Facts:
    return but(QUIET, cluster=found, pods=here, node=node)


REFUSED = {
    "an API server that is away": (
        on(AWAY),
        DEFAULT,
        "cannot be asked to drain this node: connection refused",
    ),
    "one that nobody asked": (on(None), DEFAULT, "nobody asked"),
    "a Node that is not told": (on(cluster(node=None)), DEFAULT, "does not give the Node"),
    "a right that is missing": (
        on(cluster(missing_rights=("create pods/eviction",))),
        DEFAULT,
        "may not drain this node; it lacks: create pods/eviction",
    ),
    "a pod of nobody": (on(cluster(pods=(BARE,))), DEFAULT, f"{BARE.name} (nothing owns it) needs --force"),
    "local data": (on(cluster(pods=(SCRATCH,))), DEFAULT, "needs --delete-emptydir-data"),
    "local data, with the other option": (
        on(cluster(pods=(SCRATCH,))),
        PlanOptions(force=True),
        "needs --delete-emptydir-data",
    ),
    "not drained, by the API": (on(cluster(pods=(WEB,))), DRAINED, "the node is not drained: default/web-1"),
    "not drained, a pod of nobody": (on(cluster(pods=(BARE,))), DRAINED, f"not drained: default/{BARE.name}"),
    "drained and not cordoned": (on(cluster(pods=(AGENT,))), DRAINED, "empty but not cordoned"),
    "not drained, by the runtime": (
        on(AWAY, pod("web-1"), AGENT_HERE),
        DRAINED,
        "not drained: default/web-1",
    ),
    "not drained, and the API may not tell": (
        on(cluster(missing_rights=("list pods",)), pod("web-1")),
        DRAINED,
        "not drained: default/web-1",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_node_that_may_not_leave_is_refused_with_the_reason(what: str) -> None:
    facts, options, said = REFUSED[what]

    with pytest.raises(BlockedError) as refused:
        gate(facts, options)

    assert said in refused.value.message
    assert refused.value.hint


STANDALONE = but(QUIET, kubelet={"kubeconfig": ""})
ALLOWED = {
    "a standalone kubelet": (STANDALONE, DEFAULT, []),
    "an image": (on(None, live=False), DEFAULT, []),
    "a pod with an owner": (on(cluster(pods=(WEB,))), DEFAULT, [("web-1", True)]),
    "everything, with the word given": (
        on(cluster(pods=(AGENT, BARE, MIRROR, SCRATCH))),
        ALL,
        [(AGENT.name, False), (BARE.name, True), (SCRATCH.name, True), (MIRROR.name, False)],
    ),
    "drained, by the API": (
        on(cluster(pods=(AGENT, MIRROR), node=CORDONED)),
        DRAINED,
        [(AGENT.name, False), (MIRROR.name, False)],
    ),
    "drained, by the runtime": (on(AWAY, AGENT_HERE, pod("cp", static=True, uid="c4d5" * 8)), DRAINED, []),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_a_node_that_may_leave_shows_who_goes(what: str) -> None:
    facts, options, expected = ALLOWED[what]

    moves = gate(facts, options)

    assert sorted(expected) == sorted((move.name, move.goes) for move in moves)


def kinds(facts: Facts, options: PlanOptions) -> list[str]:
    steps = node_steps(facts, audit(facts), (), options=options, moves=gate(facts, options), settings=None)
    return [step.id for step in steps]


CLUSTER_STEPS = ["cordon", "drain", "wait-ready(back)", "wait-ready", "drain(back)", "uncordon"]


@pytest.mark.parametrize(
    ("facts", "options", "expected"),
    [
        (on(cluster(pods=(WEB,))), DEFAULT, CLUSTER_STEPS),
        (on(cluster(pods=(AGENT,), node=CORDONED)), DRAINED, []),
        (on(AWAY), DRAINED, []),
        (STANDALONE, DEFAULT, []),
    ],
)
def test_the_steps_of_the_cluster_stand_around_the_switch(
    facts: Facts, options: PlanOptions, expected: list[str]
) -> None:
    found = kinds(facts, options)

    assert expected == [each for each in found if each in CLUSTER_STEPS]
    if expected:
        assert (
            found.index("guard")
            < found.index("cordon")
            < found.index("drain")
            < found.index("stop-unit:kubelet")
        )
        assert found.index("verify") < found.index("drain(back)") < found.index("uncordon") < len(found) - 1


def test_only_the_losses_that_are_shown_are_pinned() -> None:
    moves = gate(on(cluster(pods=(AGENT, BARE, SCRATCH, WEB))), ALL)

    params = drain_params(moves, ALL)

    assert ([BARE.uid], [SCRATCH.uid]) == (params["lost"], params["data"])
    assert [
        "2 pods evicted: made anew elsewhere, and not moved back by a rollback.",
        f"default/{BARE.name} is gone for good: nothing owns it.",
        f"default/{SCRATCH.name} loses what it keeps in its emptyDir volumes.",
    ] == list(irreversible(moves))


def test_a_pod_that_is_lost_with_its_data_is_told_once() -> None:
    both = Move(
        namespace="a", name="b", uid="u", goes=True, why="nothing owns it", lost=True, data_deleted=True
    )

    assert ["a/b is gone for good: nothing owns it."] == list(irreversible([both]))


TEXT = b"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: cgroupfs  # ours\nz: 1\n"
CHANGE = PlanOptions(cluster_config=True)


def with_map(text: bytes | None, **fields: object) -> Facts:
    name = "kubelet-config-1.20"
    found = KubeletConfigMap(name=name, present=False)
    if text is not None:
        found = to_config_map(
            Look(Reader()), {"metadata": {"name": name}, "data": {"kubelet": text.decode()}}
        )
    return on(cluster(config_map=found, **fields))


def test_only_the_driver_inside_the_config_map_changes() -> None:
    change = config_map_change(with_map(TEXT), CHANGE, TEXT)

    assert change is not None
    assert ("kubelet-config-1.20", TEXT) == (change.name, change.before)
    assert TEXT.replace(b"cgroupfs", b"systemd") == change.after


ENFORCED = b"enforceNodeAllocatable: [pods, kube-reserved]\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (ENFORCED + b"kubeReservedCgroup: /kube-reserved\n", r"/kube-reserved \(/kube_reserved.slice\)"),
        (ENFORCED + b"kubeReservedCgroup: /x/system.slice\n", r"/x/system.slice \(no name there\)"),
        (b"cgroupRoot: /pods\n", r"cgroupRoot: /pods \(/pods.slice\)"),
    ],
)
def test_a_config_map_whose_reserved_cgroups_the_driver_would_break_is_refused(
    more: bytes, said: str
) -> None:
    with pytest.raises(BlockedError, match=said):
        config_map_change(with_map(TEXT + more), CHANGE, TEXT + more)


@pytest.mark.parametrize(
    "more",
    [
        b"kubeReservedCgroup: /kube-reserved\n",
        ENFORCED + b"kubeReservedCgroup: /kube_reserved.slice\n",
        ENFORCED + b"systemReservedCgroup: /system-reserved\n",
        b"cgroupRoot: /\n",
    ],
)
def test_what_is_not_enforced_or_has_its_name_of_systemd_does_not_hinder_it(more: bytes) -> None:
    assert config_map_change(with_map(TEXT + more), CHANGE, TEXT + more) is not None


def test_what_kubeadm_reads_as_systemd_already_is_not_broken_by_saying_so() -> None:
    text = (TEXT + ENFORCED + b"kubeReservedCgroup: /kube-reserved\n").replace(b"cgroupDriver", b"x")

    assert config_map_change(with_map(text), CHANGE, text) is not None


def test_nothing_is_changed_that_was_not_asked_for_or_is_so_already() -> None:
    done = TEXT.replace(b"cgroupfs", b"systemd")

    assert config_map_change(with_map(TEXT), DEFAULT, TEXT) is None
    assert config_map_change(with_map(done), CHANGE, done) is None


@pytest.mark.parametrize(
    ("facts", "text", "error", "said"),
    [
        (on(AWAY), None, BlockedError, "cannot be asked: connection refused"),
        (STANDALONE, None, BlockedError, "belongs to no cluster"),
        (with_map(None), None, BlockedError, r"no ConfigMap kube-system/kubelet-config-1.20 \(F20\)"),
        (with_map(TEXT), TEXT + b"#", ConflictError, "changed while it was being looked at"),
        (with_map(b"a: ["), b"a: [", BlockedError, "data.kubelet:1"),
        (
            with_map(TEXT, config_map_rights=("update configmaps in kube-system",)),
            TEXT,
            BlockedError,
            "lacks: update configmaps",
        ),
    ],
)
def test_a_config_map_that_cannot_be_changed_is_refused_with_the_reason(
    facts: Facts, text: bytes | None, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        config_map_change(facts, CHANGE, text)

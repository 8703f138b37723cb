# SPDX-License-Identifier: Apache-2.0
"""What counts as proof that the API server knows the node of now, and what is the truth of before."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.steps.ready import not_ready, stale, younger

STARTED = 1_763_820_000.25  # 2025-11-22T14:00:00.25Z
SAME_SECOND, BEFORE, AFTER = "2025-11-22T14:00:00Z", "2025-11-22T13:59:59Z", "2025-11-22T14:00:07Z"


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2025-11-22T14:00:00.300000Z", True),
        ("2025-11-22T14:00:00.200000Z", False),
        (AFTER, True),
        (BEFORE, False),
        ("2025-11-22T15:00:01+01:00", True),
        (None, False),
        ("", False),
    ],
)
def test_a_time_of_the_api_is_compared_to_the_microsecond_it_has(stamp: str | None, expected: bool) -> None:
    assert expected is younger(stamp, STARTED)


def node(status: str, heartbeat: str, message: str = "") -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat, "message": message}
    return {
        "metadata": {"name": "w1"},
        "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, ready]},
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (node("True", AFTER), ""),
        (node("True", SAME_SECOND), ""),
        (node("True", BEFORE), "no status of w1 since its kubelet was started"),
        (node("Unknown", BEFORE, "Kubelet stopped posting"), "no status of w1 since its kubelet was started"),
        (node("False", AFTER, "container runtime is down"), "w1 is not Ready: container runtime is down"),
        ({"metadata": {"name": "w1"}, "status": {}}, "no status of w1 since its kubelet was started"),
    ],
)
def test_ready_of_before_the_kubelets_start_is_no_proof(found: dict[str, Any], expected: str) -> None:
    assert expected == not_ready(found, STARTED)


def pod(name: str, *ids: str, ready: str = "True", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}", **metadata},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"containerID": each} for each in ids],
        },
    }


MIRROR = {"kubernetes.io/config.hash": "hash-of-cp", "kubernetes.io/config.mirror": "hash-of-cp"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod("agent", "docker://new"), []),
        (pod("agent", "containerd://new"), []),
        (pod("agent", "docker://old"), ["default/agent"]),
        (pod("agent", "docker://new", "docker://old"), ["default/agent"]),
        (pod("agent", "docker://new", ready="False"), ["default/agent"]),
        (pod("agent"), ["default/agent"]),
        (pod("agent", "docker://old", deletionTimestamp=AFTER), []),
        (pod("other", "docker://old"), []),
        (pod("cp", "docker://old", annotations=MIRROR), ["default/cp"]),
        (pod("cp", "docker://new", annotations=MIRROR, ready="False"), []),
        (pod("cp", annotations=MIRROR), ["default/cp"]),
    ],
)
def test_a_pod_of_the_node_counts_only_with_containers_that_run_now(
    found: dict[str, Any], expected: list[str]
) -> None:
    own = frozenset({"uid-agent", "hash-of-cp"})

    assert expected == list(stale([found], own, {"new"}))

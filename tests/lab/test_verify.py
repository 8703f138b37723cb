# SPDX-License-Identifier: Apache-2.0
"""Verification of real nodes: fresh, migrated by hand to the letter, and tidied up after that."""

from __future__ import annotations

import json
import re
from typing import Any

from .cache import LabError
from .conftest import MakeNode
from .machine import until
from .node import KUBELET_CONFIG, Container, Node

VERIFY = """
import json, sys
from migrator.cgroups import Driver
from migrator.host import Reader
from migrator.verify import verify
from migrator.verify.view import to_json
print(json.dumps(to_json(verify(Reader(), Driver(sys.argv[1]), (), float(sys.argv[2])))))
"""
REMOVE = """
import sys
from migrator.cri import CriControl
containers, sandboxes = (part.split() for part in " ".join(sys.argv[1:]).split("--"))
with CriControl() as cri:
    cri._remove("RemoveContainer", [{"container_id": each} for each in containers])
    cri._remove("RemovePodSandbox", [{"pod_sandbox_id": each} for each in sandboxes])
"""
SCOPE = {"docker": "docker", "containerd": "cri-containerd"}


def python(node: Node, code: str, *arguments: str) -> str:
    """Run code with the checkout in the node; return what it prints."""
    path = "PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib"
    return node.run(["env", path, "python3", "-P", "-c", code, *arguments], timeout=120).stdout


def verified(node: Node, expected: str, settle: float = 0) -> dict[str, Any]:
    """Verify inside the node, as the command does."""
    document: dict[str, Any] = json.loads(python(node, VERIFY, expected, str(settle)))
    return document


def ids(document: dict[str, Any]) -> list[str]:
    return sorted({finding["id"] for finding in document["findings"]})


def failed(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [check for check in document["checks"] if not check["ok"]]


def tidy_up(node: Node, document: dict[str, Any]) -> None:
    """Do what the findings say; Debian has no crictl, so CRI's calls are made by hand."""
    for finding in document["findings"]:
        if finding["remediation"].startswith("crictl"):
            remove, remove_sandboxes = (part.split() for part in finding["remediation"].split(" && "))
            assert (remove[:3], remove_sandboxes[:3]) == (["crictl", "rm", "-f"], ["crictl", "rmp", "-f"])
            python(node, REMOVE, *remove[3:], "--", *remove_sandboxes[3:])
        else:
            node.run(finding["remediation"])


def migrate(node: Node) -> list[Container]:
    """Migrate by hand, and wait until the kubelet has replaced every container."""
    old = {container.id for container in node.containers()}
    node.manual_migration()

    def replaced() -> bool:
        try:
            return not old & {container.id for container in node.containers()}
        except LabError:  # one of them ended between being listed and being looked at
            return False

    until("new containers", replaced, 60)
    return node.wait_pods()


def test_a_fresh_node_is_on_cgroupfs_and_not_on_systemd(node: Node) -> None:
    document = verified(node, "cgroupfs", settle=2)
    assert (document["findings"], failed(document), document["ok"]) == ([], [], True)

    document = verified(node, "systemd")
    assert not document["ok"]
    expected = {"verify-kubelet-driver", "verify-runtime-driver", "verify-old-tree", "verify-place"}
    assert expected <= set(ids(document))
    [tree] = [finding for finding in document["findings"] if finding["id"] == "verify-old-tree"]
    assert tree["subject"] == "/kubepods"
    assert "processes live in" in tree["summary"]


def test_a_node_migrated_to_the_letter_keeps_what_verification_finds(node: Node) -> None:
    """And when that is removed by the commands that the findings give, the node is proven."""
    migrate(node)
    document = verified(node, "systemd")
    assert ids(document) == ["verify-old-container", "verify-old-tree"]
    places = [check for check in document["checks"] if check["systemd"].startswith("/kubepods.slice")]
    scopes = {check["place"] for check in places if check["place"].endswith(".scope")}
    assert len(scopes) == 7  # four containers, three sandboxes
    form = rf"/kubepods\.slice/.*/{SCOPE[node.flavour]}-[0-9a-f]{{64}}\.scope"
    assert all(re.fullmatch(form, scope) for scope in scopes)
    limits = {check["name"]: check for check in document["checks"]}
    memory = limits[f"default/burstable-{node.name} app memory limit"]
    assert (memory["cgroupfs"], memory["systemd"]) == ("100663296", "100663296")
    quota = limits[f"default/guaranteed-{node.name} main CPU quota per second"]
    assert (quota["cgroupfs"], quota["systemd"]) == ("200000", "200000")

    tidy_up(node, document)
    document = verified(node, "systemd", settle=3)
    assert (document["findings"], failed(document), document["ok"]) == ([], [], True)
    node.run(["systemctl", "daemon-reload"])
    document = verified(node, "systemd")
    assert (document["findings"], failed(document), document["ok"]) == ([], [], True)


def test_a_limit_changed_behind_systemds_back_is_found(make_node: MakeNode) -> None:
    node = make_node("containerd")
    container = next(each for each in migrate(node) if each.pod == "burstable")
    path = next(
        line.split(":", 2)[2]
        for line in node.read(f"/proc/{container.pid}/cgroup").splitlines()
        if line.split(":")[1] == "memory"
    )
    node.write(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes", "50331648")
    document = verified(node, "systemd")
    assert "verify-memory-limit" in ids(document)
    [finding] = [finding for finding in document["findings"] if finding["id"] == "verify-memory-limit"]
    assert finding["subject"] == path
    assert "50331648 in the kernel" in finding["summary"]


def test_a_silent_mismatch_is_found_by_its_literal_cgroups(make_node: MakeNode) -> None:
    """Kubelet on systemd, containerd on cgroupfs: active, Ready, Running, and outside every limit (F06)."""
    node = make_node("containerd")
    node.run(["systemctl", "stop", "kubelet"])
    config = node.read(KUBELET_CONFIG)
    node.write(KUBELET_CONFIG, config.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd"))
    node.run(["systemctl", "start", "kubelet"])
    until(
        "a literal cgroup",
        lambda: ":cri-containerd:" in node.run("cat /proc/[0-9]*/cgroup", check=False).stdout,
        60,
    )
    node.wait_pods()
    document = verified(node, "systemd")
    assert {"verify-literal-cgroup", "verify-runtime-driver", "verify-place"} <= set(ids(document))


def test_a_kubelet_that_was_not_restarted_is_found_and_a_stopped_one_stays_stopped(
    make_node: MakeNode,
) -> None:
    node = make_node("docker")
    config = node.read(KUBELET_CONFIG)
    node.write(KUBELET_CONFIG, config.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd"))
    document = verified(node, "systemd")
    assert {"verify-kubelet-stale", "verify-runtime-driver"} <= set(ids(document))
    node.run(["systemctl", "stop", "kubelet", "docker.socket", "docker.service"])
    assert {"verify-kubelet-health", "verify-incomplete"} <= set(ids(verified(node, "cgroupfs")))
    assert node.run(["systemctl", "is-active", "docker.service"], check=False).stdout == "inactive\n"

# SPDX-License-Identifier: Apache-2.0
"""What the tests of whole runs ask a lab node, in one place."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from .node import KUBELET_CONFIG, RUNTIME_CONFIG, Node

ALL = os.environ.get("CGMIGRATE_POWER") == "all"
"""Kill each step in every way on both flavours; else a step goes one way on one flavour and the other on the other."""
PLAN = "/root/plan.json"
SCOPE = {"docker": "docker", "containerd": "cri-containerd"}


def cgmigrate(node: Node, *arguments: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in the node; `check` is the exit code it must have, None: any."""
    done = node.run(["cgmigrate", *arguments], check=False, timeout=400)
    if check is not None:
        assert check == done.returncode, f"cgmigrate {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done


def document(node: Node, *arguments: str, check: int | None = 0) -> dict[str, Any]:
    """Return what a command prints as JSON."""
    found: dict[str, Any] = json.loads(cgmigrate(node, *arguments, "--format", "json", check=check).stdout)
    return found


def files(node: Node) -> dict[str, str]:
    """Return digest, mode and owner of every configuration file that a run could touch, and the state of /etc."""
    listing = (
        "find /etc/docker /etc/containerd /etc/default /etc/systemd /var/lib/kubelet/config.yaml"
        " /var/lib/kubelet/kubeadm-flags.env /etc/kubernetes /etc/cron.d /etc/prometheus"
    )
    names = node.run(f"{listing} 2>/dev/null -printf '%p %y %m %U:%G\\n' | sort", check=False).stdout
    sums = node.run(f"{listing} -type f 2>/dev/null -exec sha256sum {{}} + | sort -k2", check=False).stdout
    return {"names": names, "sums": sums}


def config_files(node: Node) -> dict[str, str]:
    """Return the two files of a lab node, by path."""
    return {path: node.read(path) for path in (KUBELET_CONFIG, RUNTIME_CONFIG[node.flavour])}


PLACES = {
    "docker": "docker ps -aq | xargs -r docker inspect --format '{{.HostConfig.CgroupParent}}'",
    "containerd": "for id in $(ctr -n k8s.io containers ls -q); do"
    " ctr -n k8s.io containers info $id | jq -r .Spec.linux.cgroupsPath; done",
}


def stored_places(node: Node) -> list[str]:
    """Return the cgroup that every container was made with, also of those that do not run."""
    found = node.run(PLACES[node.flavour]).stdout.split()
    assert found
    return found


def assert_on_systemd(node: Node) -> None:
    """Nothing of cgroupfs is left, every container is in its scope, nothing failed, no guard."""
    node.wait_pods()
    spelled = {path.split("/")[1] for paths in node.cgroups().values() for path in paths}
    assert {"kubepods.slice"} == spelled
    assert all("kubepods/" not in place and ".slice" in place for place in stored_places(node))
    assert "" == node.run("systemctl list-units --failed --plain --no-legend").stdout
    assert_no_guard(node)


def assert_on_cgroupfs(node: Node) -> None:
    """Nothing of systemd's spelling is left, neither unit nor directory in any hierarchy, no guard."""
    node.wait_pods()
    spelled = {path.split("/")[1] for paths in node.cgroups().values() for path in paths}
    assert {"kubepods"} == spelled
    assert all(place.startswith("/kubepods/") for place in stored_places(node))
    units = node.run("systemctl list-units --all --plain --no-legend 'kubepods*' '*.scope'").stdout
    assert "" == "\n".join(
        line
        for line in units.splitlines()
        if line.startswith("kubepods") or SCOPE[node.flavour] + "-" in line
    )
    assert "" == node.run("systemctl list-units --failed --plain --no-legend").stdout
    assert_no_guard(node)


def assert_no_guard(node: Node) -> None:
    found = node.run(
        "ls -d /etc/systemd/system/*.d/*cgmigrate* /run/cgmigrate /var/lib/cgmigrate/active", check=False
    )
    assert "" == found.stdout, found.stdout

# SPDX-License-Identifier: Apache-2.0
"""Checks of who else writes the files: distributions that own the driver, and configuration management (F19)."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import BLOCKER, INFO, WARNING, Check, command, is_switched, plural
from migrator.facts.agents import WRITING_UNITS
from migrator.facts.model import Facts, File
from migrator.findings import Finding

_STARTS = (
    "{} chooses the driver itself at every start (systemd, where it runs as a systemd service with the cpuset controller); "
    "there is no flag for it. Where it chose cgroupfs, start it by its unit, on a systemd of 244 or later; a "
    "config.toml.tmpl, config-v3.toml.tmpl or a kubelet-arg of your own can hold it there"
)

WHERE_TO_CHANGE = {
    "k3s": _STARTS.format("k3s"),
    "rke2": _STARTS.format("RKE2"),
    "microk8s": "edit /var/snap/microk8s/current/args/kubelet and "
    "/var/snap/microk8s/current/args/containerd-template.toml; containerd.toml is made from the template",
    "k8s-snap": "set --cgroup-driver in /var/snap/k8s/common/args/kubelet, and SystemdCgroup in a file of "
    "/var/snap/k8s/common/etc/containerd/conf.d, then restart the snap",
    "k0s": "set cgroupDriver in the worker profile of the cluster's k0s configuration, "
    "and SystemdCgroup in /etc/k0s/containerd.d/*.toml",
    "talos": "Talos has no systemd, so cgroupfs is the only driver there",
    "bottlerocket": "Bottlerocket makes the files from its settings at each boot; take an image of a newer variant",
    "openshift": "the Machine Config Operator writes the files: use a KubeletConfig and a ContainerRuntimeConfig of the pool",
    "kops": "nodeup writes the files at each boot: set spec.kubelet.cgroupDriver of the cluster (`kops edit cluster`), "
    "then `kops rolling-update cluster`",
    "eks-nodeadm": "nodeadm writes the files at each boot, with systemd unless told otherwise: take cgroupDriver out of "
    "spec.kubelet.config of the NodeConfig (user data, /etc/eks/nodeadm.d), and SystemdCgroup out of "
    "spec.containerd.config, then replace the node",
    "minikube": "`minikube start --force-systemd` writes the files again at each start: make the node anew",
    "kind": "kind chooses the driver in its node image: make the cluster anew with a newer image",
}
"""Distributions that own the driver, and where it is changed there (failure-modes 2.4)."""

WRITES_AGAIN = {
    "kubespray": (
        "kubespray made this node; its next run puts the driver of the inventory back",
        "set kubelet_cgroup_driver, and containerd_use_systemd_cgroup or docker_cgroup_driver, in the inventory as well",
    ),
    "eks": (
        "an EKS image made this node, and a node that replaces it has the driver of the image again",
        "the change holds for this machine; move the node group to an image of Amazon Linux 2023, which has systemd",
    ),
}
"""Distributions whose files are the node owner's, and come back all the same: what happens, and what to do about it."""

_FILE_KINDS = ("config-file", "config-drop-in", "env-file", "unit", "unit-drop-in")


def managed_distribution(facts: Facts) -> Iterator[Finding]:
    """Find a distribution that owns the driver, or writes the configuration again."""
    name, evidence = facts.node.distribution, facts.node.distribution_evidence
    if name in WHERE_TO_CHANGE:
        files = ", ".join(facts.node.distribution_files)
        switched = is_switched(facts)
        yield Finding(
            id="managed-distribution",
            severity=INFO if switched else BLOCKER,
            subject=evidence or name,
            summary=f"{name} owns the cgroup driver of this node"
            + (", and has it on systemd already" if switched else " and would undo a change of its files"),
            detail="Its files are made again at the next start."
            + (f" What decides on this node: {files}." if files else ""),
            remediation="" if switched else WHERE_TO_CHANGE[name],
            reference="F19",
        )
    elif name in WRITES_AGAIN and not is_switched(facts):
        summary, remedy = WRITES_AGAIN[name]
        yield Finding(
            id="managed-distribution",
            severity=WARNING,
            subject=evidence or name,
            summary=summary,
            remediation=remedy,
            reference="F19",
        )


def managed_files(facts: Facts) -> Iterator[Finding]:
    """Find files that a configuration management writes, among those that decide the driver."""
    if is_switched(facts):
        return
    by_tool: dict[str, list[File]] = {}
    for each in _deciding(facts):
        by_tool.setdefault(each.managed_by, []).append(each)
    for tool, files in by_tool.items():
        agents = [name for name in WRITING_UNITS.get(tool, ()) if name in facts.node.agents]
        places = ", ".join(
            f"{each.path}:{each.managed_line}" if each.managed_line else each.path for each in files
        )
        stop = f"{command('systemctl', 'disable', '--now', *agents)}; " if agents else ""
        yield Finding(
            id="managed-files",
            severity=BLOCKER if agents else WARNING,
            subject=files[0].path,
            summary=f"{tool} writes {plural(len(files), 'file')} that decide{'s' if len(files) == 1 else ''} the driver"
            + (f", and {', '.join(agents)} would put the old text back" if agents else ""),
            detail=f"Said by {places}. "
            + (
                "An agent that comes between puts one side back to the old driver, without a word."
                if agents
                else "Its next run puts the old text back, and with it the old driver on one side or both."
            ),
            remediation=f"{stop}change the driver where {tool} has it"
            + (", plan again, and start the agent after the switch" if agents else ", before its next run"),
            reference="F19",
        )


def _deciding(facts: Facts) -> Iterator[File]:
    """Return the managed files that name a driver, or would be given it."""
    chains = (*facts.kubelet.driver.chain, *facts.runtime.driver.chain)
    paths = {each.path for each in chains if each.kind in _FILE_KINDS and each.value is not None}
    paths |= {facts.kubelet.config_file, facts.runtime.config_file} | {
        each.path for each in facts.runtime.handlers
    }
    return (each for each in facts.files if each.managed_by and each.path in paths)


CHECKS = (
    Check(
        "managed-distribution",
        (BLOCKER, WARNING, INFO),
        ("F19",),
        "A distribution owns the driver, or writes the configuration again at its next run.",
        managed_distribution,
    ),
    Check(
        "managed-files",
        (BLOCKER, WARNING),
        ("F19",),
        "A configuration management writes files that decide the driver; its agent would put them back.",
        managed_files,
    ),
)

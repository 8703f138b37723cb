# SPDX-License-Identifier: Apache-2.0
"""What a kubelet leaves on disk and in the kernel while it runs, which its next start will meet again."""

from __future__ import annotations

import json
import re

from migrator.cgroups import CgroupNameError, Driver, translate_path
from migrator.facts.look import Look
from migrator.facts.model import Kubelet

ROOT_DIR = "/var/lib/kubelet"
"""`--root-dir` of a kubelet that is told no other."""

ENFORCED_BY = {"kubeReservedCgroup": "kube-reserved", "systemReservedCgroup": "system-reserved"}
"""Reserved cgroup -> the word in enforceNodeAllocatable that makes the kubelet insist on it (F38)."""

_CHECKPOINTS = ("cpu_manager_state", "memory_manager_state")
_POLICY = re.compile(r"[A-Za-z][A-Za-z-]{0,30}")
_MAX_CHECKPOINT = 1 << 20
_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_UNIFIED_TOGETHER = ("cpu", "memory")  # the two that the kubelet compares: k8s container_manager_linux.go


def gather_checkpoints(look: Look, root_dir: str | None) -> tuple[tuple[str, str], ...]:
    """Return (file, policy) of each manager's checkpoint; the kubelet exits when it names another policy (F60)."""
    found = []
    for name in _CHECKPOINTS:
        path = f"{(root_dir or ROOT_DIR).rstrip('/')}/{name}"
        text = look.reader.text(path, _MAX_CHECKPOINT) if path.startswith("/") else None
        if not text:
            continue
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        policy = document.get("policyName") if isinstance(document, dict) else None
        if isinstance(policy, str) and _POLICY.fullmatch(policy):
            found.append((path, policy))
        else:
            look.unknown("kubelet.checkpoints", f"{path} names no policy")
    return tuple(found)


def gather_pod_directories(look: Look, root_dir: str | None) -> tuple[str, ...]:
    """Return the uids of the pods that the kubelet keeps a directory for; it makes one before anything else of a pod."""
    return tuple(
        name
        for name in look.reader.names(f"{(root_dir or ROOT_DIR).rstrip('/')}/pods")
        if _UID.fullmatch(name)
    )


def places_of(look: Look, pid: int) -> tuple[tuple[str, str], ...]:
    """Return the cgroups of a process in the v1 hierarchies that the kubelet wants it to be alike in (F45)."""
    text = (look.reader.text(f"/proc/{pid}/cgroup") or "") if pid else ""
    places: dict[str, str] = {}
    for line in text.split("\n"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        places |= {name: path for name in controllers.split(",") if name in _UNIFIED_TOGETHER}
    return tuple(sorted(places.items()))


def enforced(kubelet: Kubelet) -> tuple[tuple[str, str], ...]:
    """Return (setting, cgroup) of the reserved cgroups that this kubelet insists on at its start."""
    words = {each.removesuffix("-compressible") for each in kubelet.enforce_node_allocatable}
    return tuple(
        (setting, value) for setting, value in kubelet.reserved_cgroups if ENFORCED_BY.get(setting) in words
    )


def enforced_paths(kubelet: Kubelet) -> tuple[str, ...]:
    """Return where the kubelet's root (F43) and those cgroups are under systemd; one without a name is a finding of its own."""
    found = []
    root = () if kubelet.cgroup_root in ("", "/") else (kubelet.cgroup_root,)
    for value in (*root, *(value for _, value in enforced(kubelet))):
        try:
            found.append(translate_path(f"/{value.lstrip('/')}", Driver.SYSTEMD))
        except CgroupNameError:
            continue
    return tuple(found)

# SPDX-License-Identifier: Apache-2.0
"""What a kubelet leaves on disk and in the kernel while it runs, which its next start will meet again."""

from __future__ import annotations

import contextlib
import json
import re

from migrator.cgroups import SLICE, CgroupName, CgroupNameError, Driver, expand_slice, translate_path
from migrator.configs.kubelet import KubeletConfig
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


def insisted_root(kubelet: Kubelet) -> str:
    """Return the root that this kubelet insists on, or nothing: with `cgroupsPerQOS: false` it does not look for one."""
    return kubelet.cgroup_root if kubelet.cgroups_per_qos and kubelet.cgroup_root.strip("/") else ""


def place_of_root(root: str) -> str:
    """Return where a `cgroupRoot` is under systemd (k8s `ParseCgroupfsToCgroupName`).

    Raises:
        CgroupNameError: it has no place there.
    """
    return CgroupName(tuple(part for part in root.split("/") if part)).to_systemd()


def place_of_reserved(value: str, driver: str | None) -> str:
    """Return where a reserved cgroup is under systemd: as the kubelet reads it now if that is its driver, else renamed.

    The kubelet takes the last component alone for the name of a slice (k8s `ParseSystemdToCgroupName`).

    Raises:
        CgroupNameError: it has no place there, or the kubelet would look elsewhere.
    """
    path = f"/{value.strip('/')}"
    place = path if driver == Driver.SYSTEMD else translate_path(path, Driver.SYSTEMD)
    if place == "/":
        return place
    unit = place.rpartition("/")[2].removesuffix(SLICE) + SLICE
    looks = expand_slice(unit)
    if driver != Driver.SYSTEMD and place != looks:
        raise CgroupNameError(
            f"the kubelet takes the last component alone, and would look for {unit}, at {looks}"
        )
    return looks


def insisted_paths(kubelet: Kubelet) -> dict[str, str]:
    """Return setting → place under systemd of the root (F43) and the enforced cgroups; one without is a finding of its own."""
    found = {}
    root = insisted_root(kubelet)
    for setting, value in ((("cgroupRoot", root),) if root else ()) + enforced(kubelet):
        with contextlib.suppress(CgroupNameError):
            found[setting] = (
                place_of_root(value)
                if setting == "cgroupRoot"
                else place_of_reserved(value, kubelet.driver.value)
            )
    return found


def renamed(config: KubeletConfig) -> tuple[str, ...]:
    """Return what a configuration insists on that is another cgroup under systemd, as `setting: value (its place there)`."""
    reserved = (
        ("kubeReservedCgroup", config.kube_reserved_cgroup),
        ("systemReservedCgroup", config.system_reserved_cgroup),
    )
    said = Kubelet(
        present=True,
        cgroup_root=config.cgroup_root or "",
        cgroups_per_qos=config.cgroups_per_qos is not False,
        reserved_cgroups=tuple((setting, value) for setting, value in reserved if value),
        enforce_node_allocatable=config.enforce_node_allocatable or (),
    )
    places = insisted_paths(said)
    root = insisted_root(said)
    return tuple(
        f"{setting}: {value} ({places.get(setting, 'no name there')})"
        for setting, value in ((("cgroupRoot", root),) if root else ()) + enforced(said)
        if places.get(setting) != f"/{value.strip('/')}"
    )

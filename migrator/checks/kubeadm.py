# SPDX-License-Identifier: Apache-2.0
"""Checks of what kubeadm would do to the node later: it writes kubelet files from a ConfigMap of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrator.checks.base import (
    CGROUPFS,
    INFO,
    SYSTEMD,
    WARNING,
    Check,
    command,
    is_switched,
    kubelet_driver,
    quoted,
    version,
    where,
)
from migrator.checks.cluster import reached
from migrator.checks.drivers import FLAG_KINDS, effect, effect_of_difference
from migrator.facts.kubeadm import DRIVER, INSTANCE, PATCHES
from migrator.facts.kubelets import NodeDriver
from migrator.facts.model import Facts, KubeletConfigMap
from migrator.findings import Finding

FILE = "/var/lib/kubelet/config.yaml"
"""Where kubeadm writes a kubelet's configuration, always."""

_DEFAULT_IS_SYSTEMD = (1, 22)  # of kubeadm, in `upgrade` too: kubernetes#99471
# kubernetes#99647; seen with 1.20: on the control plane kubeadm knows the CRI socket, on a worker it does not.
_ASKS_DOCKER_UNTIL = (1, 22)
_ASKS_DOCKER = "kubeadm before 1.22 asks `docker info` on a control-plane node and writes Docker's own driver"


def config_map_differs(facts: Facts) -> Iterator[Finding]:
    """Find a ConfigMap from which kubeadm would give this node another driver than the one it has, or will have."""
    found = facts.cluster.config_map if facts.cluster and facts.cluster.reached else None
    unreadable = any(unknown.subject == "cluster.config_map" for unknown in facts.unknowns)
    has = kubelet_driver(facts)
    if found is None or not found.present or unreadable or has not in (CGROUPFS, SYSTEMD):
        return
    gives = found.driver or unstated(facts)
    if gives == has == SYSTEMD:
        return
    stated = f"says {found.driver}" if found.driver else f"states no cgroupDriver, which makes {gives}"
    name = f"the ConfigMap kube-system/{found.name} {stated}"
    agrees = gives == SYSTEMD
    inert = _inert(facts)
    if _docker_decides(facts):
        inert = _ASKS_DOCKER
        summary = f"{name}; this node gets Docker's own driver all the same, others do not"
    elif agrees:
        summary = f"{name}: this node, on {has}, agrees with it once it is switched"
    elif has == SYSTEMD:
        summary = f"{name}, this node is on systemd: kubeadm would take it back"
    else:
        summary = f"{name}: after the switch this node differs from it, and kubeadm would take it back"
    detail = _what_kubeadm_does(facts, found.driver, gives, inert)
    remedy = "" if agrees else "cgmigrate cluster plan -o FILE"
    if others := renamed_by_driver(facts):
        remedy = edit_by_hand(found)
        detail += (
            f" Under systemd these of it are other cgroups, which a new node must have before it joins: {', '.join(others)} (F38, "
            "F43). So `cluster plan` refuses it: change driver and names together, by hand."
        )
    yield Finding(
        id="config-map-differs",
        severity=INFO if agrees or inert else WARNING,
        subject=f"configmap/{found.name}",
        summary=summary,
        detail=detail,
        remediation=remedy,
        reference="F18",
    )


def renamed_by_driver(facts: Facts) -> tuple[str, ...]:
    """Return what the ConfigMap names that the driver systemd would make other cgroups; nothing where kubeadm gives that driver now."""
    found = facts.cluster.config_map if facts.cluster else None
    return found.renamed if found and (found.driver or unstated(facts)) != SYSTEMD else ()


def edit_by_hand(found: KubeletConfigMap) -> str:
    """Return the command that opens a ConfigMap in an editor."""
    return command("kubectl", "-n", "kube-system", "edit", "configmap", found.name)


def _docker_decides(facts: Facts) -> bool:
    node = facts.cluster.node if facts.cluster else None
    return node is not None and _asks_docker(
        facts.kubelet.version, facts.runtime.shim, control_plane=node.control_plane
    )


def _asks_docker(kubelet: str | None, shim: str, *, control_plane: bool) -> bool:
    release = version(kubelet)
    return control_plane and shim == "dockershim" and release is not None and release < _ASKS_DOCKER_UNTIL


def unstated(facts: Facts) -> str:
    """Return what becomes of a ConfigMap without cgroupDriver; kubeadm is taken to be as old as the kubelet."""
    release = version(facts.kubelet.version)
    return SYSTEMD if release is not None and release >= _DEFAULT_IS_SYSTEMD else CGROUPFS


def _inert(facts: Facts) -> str:
    """Return why what kubeadm writes decides nothing on this node; empty where it decides."""
    decided = facts.kubelet.driver.decided_by
    if facts.kubelet.decides == "runtime":
        return "this kubelet takes its driver from the runtime (F09)"
    if decided is not None and decided.kind in FLAG_KINDS | {"config-drop-in"}:
        return f"{where(decided)} wins over it (F17)"
    if facts.kubelet.config_file and facts.kubelet.config_file != FILE:
        return f"this kubelet reads {facts.kubelet.config_file}"
    return ""


def _what_kubeadm_does(facts: Facts, stated: str, gives: str, inert: str) -> str:
    joins = f"A node that joins by `kubeadm join` gets {gives} whatever its runtime uses."
    if inert == _ASKS_DOCKER:
        return f"The next `kubeadm upgrade node` here does not follow the ConfigMap: {inert}. {joins}"
    if stated:
        writes = f"`cgroupDriver: {stated}`"
    elif gives == SYSTEMD:
        writes = "`cgroupDriver: systemd`, kubeadm's default since 1.22,"
    else:
        writes = "no cgroupDriver, so that the kubelet's default, cgroupfs, holds,"
    if inert:
        then = f"Here that decides nothing: {inert}."
    else:
        reference, what_happens = effect_of_difference(facts, gives)
        before = "" if kubelet_driver(facts) == SYSTEMD or gives != SYSTEMD else "before the switch "
        then = f"When the kubelet starts again {before}after that: {what_happens} ({reference})."
    return f"The next `kubeadm upgrade node` here writes {writes} to {FILE}. {then} {joins}"


def config_map_missing(facts: Facts) -> Iterator[Finding]:
    """Find a kubeadm cluster without the ConfigMap that its kubeadm reads."""
    cluster = reached(facts)
    if cluster and cluster.config_map and not cluster.config_map.present:
        name = cluster.config_map.name
        yield Finding(
            id="config-map-missing",
            severity=WARNING if facts.node.distribution == "kubeadm" else INFO,
            subject=f"configmap/{name}",
            summary=f"there is no ConfigMap kube-system/{name}, from which this cluster's kubeadm writes kubelet files",
            detail="`kubeadm upgrade node` and `kubeadm join` fail without it; it is called kubelet-config from 1.24 on, "
            "kubelet-config-1.X before.",
            remediation=command("kubectl", "get", "configmaps", "-n", "kube-system"),
            reference="F20",
        )


def patches(facts: Facts) -> Iterator[Finding]:
    """Find files of this node that kubeadm lays over what the ConfigMap says, where they state a driver or cgroup names."""
    by_file: dict[str, list[tuple[str, str, str]]] = {}
    for each in facts.kubelet.patches:
        if not is_switched(facts) or (each[1:] not in _as_they_are(facts)):
            by_file.setdefault(each[0].rpartition(":")[0], []).append(each)
    for path, stated in by_file.items():
        driver = next((value for _, setting, value in stated if setting == DRIVER), "")
        names = [setting for _, setting, _ in stated if setting != DRIVER]
        agrees = driver == SYSTEMD and not names
        upgrade = "kubeadm upgrade node" if path == INSTANCE else f"kubeadm upgrade node --patches {PATCHES}"
        inert = _inert(facts)
        then = f"Here that decides nothing: {inert}." if inert else ""
        if driver and not inert:
            reference, what_happens = effect_of_difference(facts, driver)
            before = "before the switch " if driver == SYSTEMD else "after the switch "
            then = f"When the kubelet starts again {before}with that: {what_happens} ({reference})."
        if names:
            then += " A name of a cgroup in the spelling of the other driver is another cgroup, or none."
        said = ", ".join(f"`{setting}: {value}`" for _, setting, value in stated)
        yield Finding(
            id="kubeadm-patches",
            severity=INFO if agrees or inert else WARNING,
            subject=stated[0][0],
            summary=f"{path} states {said}, which kubeadm lays over what the ConfigMap says",
            detail=f"The next `{upgrade}` writes {'it' if len(stated) == 1 else 'them'} to {FILE}. {then.strip()}".strip(),
            remediation="" if agrees else _patch_remedy(path, driver, names),
            reference="F18",
        )


def _as_they_are(facts: Facts) -> set[tuple[str, str]]:
    kubelet = facts.kubelet
    return {(DRIVER, SYSTEMD), ("cgroupRoot", kubelet.cgroup_root), *kubelet.reserved_cgroups}


def _patch_remedy(path: str, driver: str, names: list[str]) -> str:
    wanted = [f"`{DRIVER}: {SYSTEMD}`"] if driver not in ("", SYSTEMD) else []
    wanted += [f"{name} as it is in {FILE} then" for name in names]
    return f"once the node is switched, in {quoted(path)}: {', '.join(wanted)}; or take the line{'s' if len(wanted) > 1 else ''} out"


def consequences(driver: str, nodes: Iterable[NodeDriver]) -> list[str]:
    """Return, one line each, what kubeadm makes of each node of a cluster while the ConfigMap says `driver`."""
    lines = []
    for node in nodes:
        kind = node.runtime.partition(":")[0].replace("cri-o", "crio")
        # Dockershim was taken out of the kubelet in 1.24.
        shim = "cri-dockerd" if (version(node.version) or (0, 0)) >= (1, 24) else "dockershim"
        if not node.driver:
            lines.append(f"{node.node}: its kubelet could not be asked ({node.reason})")
        elif _asks_docker(node.version, shim if kind == "docker" else "", control_plane=node.control_plane):
            lines.append(f"{node.node}: runs with {node.driver}, whatever the ConfigMap says: {_ASKS_DOCKER}")
        elif node.driver == driver:
            lines.append(
                f"{node.node}: runs with {node.driver}; `kubeadm upgrade node` changes nothing there"
            )
        else:
            reference, then = effect(kind, shim if kind == "docker" else "", driver)
            lines.append(
                f"{node.node}: runs with {node.driver}; the next `kubeadm upgrade node` there writes {driver} into "
                f"{FILE}; when the kubelet starts again after that, {then} ({reference})"
            )
    lines.append(f"a new node joins with {driver}, so its runtime must use {driver} too")
    return lines


CHECKS = (
    Check(
        "config-map-differs",
        (WARNING, INFO),
        ("F18",),
        "kubeadm would give the node another driver than the one it has, or will have.",
        config_map_differs,
    ),
    Check(
        "kubeadm-patches",
        (WARNING, INFO),
        ("F18",),
        "A file of this node that kubeadm lays over the ConfigMap states a driver, or names of cgroups.",
        patches,
    ),
    Check(
        "config-map-missing",
        (WARNING, INFO),
        ("F20",),
        "The ConfigMap from which kubeadm writes kubelet files is not there.",
        config_map_missing,
    ),
)

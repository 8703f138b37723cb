# SPDX-License-Identifier: Apache-2.0
"""Gather every fact of a node in one look. Nothing that a node can have wrong raises here: it becomes an `Unknown`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from migrator.errors import CgmigrateError
from migrator.facts.agents import gather_agents, with_managers
from migrator.facts.cgroup import absent, enabled_controllers, slice_files, survey
from migrator.facts.cluster import Ask, gather_cluster, is_asked
from migrator.facts.devices import gather_gpus
from migrator.facts.kubelet import KubeletLook, decided, gather_kubelet
from migrator.facts.kubelet_state import insisted_paths
from migrator.facts.look import Look
from migrator.facts.manager import gather_manager
from migrator.facts.model import FACTS_VERSION, Cgroups, Facts, Kubelet, ReferringFile, Runtime, Source
from migrator.facts.node import gather_node
from migrator.facts.oci import gather_oci
from migrator.facts.references import gather_references
from migrator.facts.runtime import RuntimeLook, gather_runtime
from migrator.facts.units import started_at
from migrator.facts.workloads import gather_workloads
from migrator.host import Reader
from migrator.systemd import Units

KUBEPODS_UNITS = ("kubepods*.slice", "*-kubepods*.slice")
"""The kubelet's own slices, the second kind below a configured cgroup root."""

CONTAINER_SCOPES = ("docker-*.scope", "cri-containerd-*.scope", "crio-*.scope")


def gather(
    reader: Reader,
    progress: Callable[[str], None] = lambda _: None,
    ask: Ask | None = None,
    *,
    host_files: bool = True,
) -> Facts:
    """Look at a node: the machine, kubelet, runtime, cgroup tree, workloads, and what its API server says of it.

    `progress` is told each before it begins. The API server is asked only where `ask` says how: in the middle of a run it
    may be away, and nothing of the node itself may wait for it. `host_files`: also search those that are neither the kubelet's
    nor the runtime's for references to the old tree.
    """
    look = Look(reader)
    with ExitStack() as stack:
        units = stack.enter_context(Units(reader)) if reader.live else None
        progress("the node")
        gpus, linked = gather_gpus(look)
        node = replace(gather_node(look), gpus=gpus, gpu_links=linked, agents=gather_agents(look, units))
        progress("the kubelet")
        kubelet_look = gather_kubelet(look, units)
        progress("the container runtime")
        runtime_look = gather_runtime(look, units, node, kubelet_look.kubelet)
        kubelet = settle_driver(look, kubelet_look, runtime_look)
        progress("the cgroup tree")
        tree = survey(look, node.hierarchies, kubelet.cgroup_root)
        cgroups = _with_units(look, units, tree.cgroups)
        cgroups = replace(
            cgroups,
            slice_files=slice_files(reader, cgroups.kubepods_units),
            enabled=enabled_controllers(reader, node.hierarchies),
            reserved_absent=absent(look, node.hierarchies, insisted_paths(kubelet).values(), kubelet.unit),
        )
        runtime = gather_oci(look, runtime_look.runtime)
        manager = gather_manager(look, units)
    progress("pods and containers")
    pods, others = gather_workloads(look, runtime_look.containers, tree.pods, kubelet.cgroup_root)
    references: tuple[ReferringFile, ...] = ()
    if host_files:
        progress("host files that name the old tree")
        references = gather_references(look, kubelet, runtime_look.runtime)
    cluster = None
    if ask is not None and is_asked(kubelet, node, ask):
        progress("the API server")
        cluster = gather_cluster(look, kubelet, node, ask)
    with_managers(look)
    return Facts(
        version=FACTS_VERSION,
        node=node,
        kubelet=kubelet,
        runtime=runtime,
        cgroups=cgroups,
        manager=manager,
        pods=pods,
        other_containers=others,
        files=tuple(look.files[path] for path in sorted(look.files)),
        unknowns=tuple(look.unknowns),
        cluster=cluster,
        references=references,
    )


def gather_runtime_alone(reader: Reader) -> Runtime:
    """Look at the runtime and nothing else that takes time: it is asked while the node is out of service."""
    look = Look(reader)
    with Units(reader) as units:
        node = gather_node(look)
        return gather_runtime(look, units, node, gather_kubelet(look, units).kubelet).runtime


def settle_driver(look: Look, found: KubeletLook, runtime: RuntimeLook) -> Kubelet:
    """Return the kubelet with the runtime's answer on top of its own settings, where it asks for one and gets one (F09).

    It asks once, at its start: what a runtime says that was started later tells nothing of the running kubelet.
    """
    kubelet = found.kubelet
    if found.asks_runtime and runtime.containers is None and runtime.told is None:
        look.unknown(
            "kubelet.decides",
            "this kubelet takes the driver from a runtime that tells it, and it could not be asked",
        )
    if not found.asks_runtime or runtime.told is None:
        return kubelet
    answer = Source(kind="runtime", value=runtime.told, path=runtime.runtime.socket)
    running = kubelet.driver_running
    if kubelet.argv:
        service = runtime.runtime.units[-1] if runtime.runtime.units else None
        began = started_at(look.reader, kubelet.unit.main_pid) if kubelet.unit else None
        runtime_began = started_at(look.reader, service.main_pid) if service else None
        if began is None or runtime_began is None or runtime_began > began:
            look.unknown(
                "kubelet.driver_running",
                "the runtime, which decides, may have started after the kubelet asked it",
            )
            running = decided((replace(answer, value=None),))
        else:
            running = decided((*running.chain, answer))
    driver = decided((*kubelet.driver.chain, answer))
    return replace(kubelet, decides="runtime", driver=driver, driver_running=running)


def _with_units(look: Look, units: Units | None, cgroups: Cgroups) -> Cgroups:
    if units is None:
        return cgroups
    try:
        slices, scopes = units.list(*KUBEPODS_UNITS), units.list(*CONTAINER_SCOPES)
    except CgmigrateError as error:
        look.unknown("cgroups.units", error)
        return cgroups
    failed = [unit.name for unit in (*slices, *scopes) if unit.active_state == "failed"]
    return replace(
        cgroups,
        kubepods_units=tuple(unit.name for unit in slices if unit.load_state != "not-found"),
        container_scopes=tuple(unit.name for unit in scopes if unit.load_state != "not-found"),
        failed_units=tuple(sorted(failed)),
    )

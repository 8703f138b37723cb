# SPDX-License-Identifier: Apache-2.0
"""Verification of the node as a whole: both daemons' drivers, the kubelet, and what must not be there any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrator.cgroups import CgroupNameError, Driver
from migrator.changes import gvisor_handlers, why_left
from migrator.checks.base import command, kubelet_unit, plural, quoted, runtime_service, where
from migrator.checks.containerd import runc_handlers
from migrator.facts.model import Container, Facts, Pod, Tree
from migrator.facts.model import Driver as DriverFact
from migrator.plan_table import live_pods
from migrator.verify.model import Ledger
from migrator.witness import tree_root

_SLACK = 1.0  # seconds: a process' start is known in clock ticks, a file's time by another clock


def check_node(ledger: Ledger) -> None:
    """Hold the node to every rule that is not about one living pod."""
    unheard = (*ledger.evidence.silent, *_unheard(ledger.evidence.facts))
    for who, why in unheard:
        ledger.find(
            "verify-incomplete",
            who,
            f"{who} could not be heard: nothing that it would have said is proven",
            why,
            "cgmigrate audit",
        )
    if not unheard and not live_pods(ledger.evidence.facts):
        ledger.find(
            "verify-no-pods",
            ledger.evidence.facts.node.hostname,
            "no pod runs here: place and limits are unproven",
            remediation="cgmigrate verify again, when a pod runs on this node",
        )
    _drivers(ledger)
    _kubelet(ledger)
    _trees(ledger)
    _literal(ledger)
    _units(ledger)
    _containers(ledger)


def _unheard(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield who did not tell a fact without which something lives on the node that is not judged, and why."""
    for unknown in facts.unknowns:
        if unknown.subject in {"runtime.containers", "runtime.kind"}:
            yield unknown.subject, unknown.reason
    for unit in facts.runtime.units:
        if unit.name.endswith(".service") and unit.active_state not in {"active", ""}:
            yield unit.name, f"it is {unit.active_state}"
    if facts.node.uid != 0:
        yield "cgroupfs", "only root may read every process and cgroup"
    if not facts.node.hierarchies:
        yield "cgroupfs", "no cgroup hierarchy is mounted"


def _drivers(ledger: Ledger) -> None:
    facts, expected = ledger.evidence.facts, ledger.expected
    restart = command("systemctl", "restart", runtime_service(facts), kubelet_unit(facts))
    kubelet, runtime = facts.kubelet, facts.runtime
    # What a running daemon does not say is no contradiction: containerd before 2.0 has no RuntimeConfig, and a kubelet
    # that asked it (F09) keeps the answer to itself. A kubelet older than its files is another finding.
    running = kubelet.driver_running if kubelet.argv else DriverFact(value=None)
    reported = runtime.driver_reported
    sides = (
        ("verify-kubelet-driver", "kubelet configured driver", kubelet.driver, kubelet.config_file),
        ("verify-kubelet-driver", "kubelet running driver", running, ""),
        ("verify-runtime-driver", f"{runtime.kind} configured driver", runtime.driver, runtime.config_file),
        ("verify-runtime-driver", f"{runtime.kind} reported driver", reported, ""),
    )
    for rule, name, driver, file in sides:
        if driver.value is None and not file:
            continue
        place = where(driver.decided_by)
        ledger.hold(
            rule,
            driver.value == expected,
            f"{name}: {driver.value or 'unknown'}",
            place,
            summary=f"{name} is {driver.value or 'unknown'}, not {expected}",
            detail=_chain(driver),
            remediation=f"set {expected} in {quoted(place if place.startswith('/') else file)}, then {restart}"
            if file
            else restart,
        )
    for handler in runc_handlers(facts):
        if handler.is_default:
            continue
        uses = Driver.SYSTEMD if handler.systemd_cgroup else Driver.CGROUPFS
        ledger.hold(
            "verify-handler-driver",
            uses is expected,
            f"handler {handler.name}: {uses}",
            facts.runtime.config_file,
            summary=f"handler {handler.name} uses {uses}: pods with its runtime class land outside their cgroup",
            remediation=f"set SystemdCgroup = {str(expected is Driver.SYSTEMD).lower()} in the options of handler "
            f"{command(handler.name)} in {quoted(facts.runtime.config_file)}, then {restart}",
        )
    for handler in gvisor_handlers(facts):
        uses = Driver.SYSTEMD if handler.systemd_cgroup else Driver.CGROUPFS
        if why_left(facts, handler) is None:
            ledger.hold(
                "verify-handler-driver",
                uses is expected,
                f"handler {handler.name}: {uses}",
                handler.path,
                summary=f"handler {handler.name} uses {uses}: pods with its runtime class land outside their cgroup",
                remediation=f'set systemd-cgroup = "{str(expected is Driver.SYSTEMD).lower()}" in [runsc_config] of '
                f"{quoted(handler.path)}, and delete the pods that use it",
            )


def _chain(driver: DriverFact) -> str:
    said = [f"{where(source)} says {source.value}" for source in driver.chain if source.value is not None]
    return "; ".join(said) or "no source says anything"


def _kubelet(ledger: Ledger) -> None:
    evidence = ledger.evidence
    unit = kubelet_unit(evidence.facts)
    started = evidence.kubelet_started
    ledger.hold(
        "verify-kubelet-health",
        not evidence.health,
        "kubelet healthz",
        evidence.facts.kubelet.healthz or unit,
        summary=f"the kubelet is not healthy: {evidence.health}",
        remediation=command("journalctl", "-u", unit, "-n", "50"),
    )
    if started is None:
        return
    newer = sorted(path for path, written in evidence.written.items() if written > started + _SLACK)
    ledger.hold(
        "verify-kubelet-stale",
        not newer,
        "kubelet started after its configuration was written",
        ", ".join(newer) or evidence.facts.kubelet.config_file,
        summary=f"the running kubelet is older than {', '.join(newer)}: it may have been started with other content",
        detail="The same content written again, or a touch, does no harm; restart the kubelet to be sure.",
        remediation=command("systemctl", "restart", unit),
    )


def _trees(ledger: Ledger) -> None:
    """Find every tree but the kubelet's own: nobody looks at it again, and it keeps its CPU weight (F26).

    It is of the other spelling, or at the top while the kubelet has a root of its own.
    """
    facts = ledger.evidence.facts
    try:
        own = tree_root(ledger.expected, facts.kubelet.cgroup_root)
    except CgroupNameError:  # that the root has no name is told where the tree is read
        own = "/kubepods.slice" if ledger.expected is Driver.SYSTEMD else "/kubepods"
    trees = [tree for tree in facts.cgroups.trees if tree.path != own]
    units = sorted(unit for unit in ledger.evidence.listed if unit.endswith(".slice"))
    old_units = plural(len(units), "slice unit") if ledger.expected is Driver.CGROUPFS else ""
    if not trees:
        ledger.hold("verify-old-tree", True, "no tree but the kubelet's own", said=("none", old_units))
    for path in sorted({tree.path for tree in trees}):
        found = [tree for tree in trees if tree.path == path]
        directories = sum(tree.directories for tree in found)
        populated = sum(tree.populated for tree in found)
        ledger.hold(
            "verify-old-tree",
            False,
            "no tree but the kubelet's own",
            path,
            said=(f"{plural(directories, 'directory')}, {populated} populated", old_units),
            summary=f"{path} is left in {plural(len(found), 'hierarchy')}: {plural(directories, 'directory')}, "
            + (f"processes live in {populated} of them" if populated else "empty of processes"),
            detail="\n".join(
                f"{tree.mount}{tree.path}: {tree.directories} ({tree.populated} populated)" for tree in found
            ),
            remediation=_remove(found, populated, ledger),
        )


def _remove(trees: list[Tree], populated: int, ledger: Ledger) -> str:
    """Return the command that removes leftover trees; rmdir refuses where anything lives (F27)."""
    places = [f"{tree.mount}{tree.path}" for tree in trees]
    remove = command("find", *places, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")
    if trees[0].driver == Driver.SYSTEMD:
        stem = trees[0].path.rpartition("/")[2]
        remove = f"{command('systemctl', 'stop', stem)}; {remove}"
    return f"{remove_pods(ledger.evidence.facts)} && {remove}" if populated else remove


def remove_pods(facts: Facts, containers: list[str] | None = None) -> str:
    """Return the command that removes pods' containers, so that the kubelet makes them anew at the right place."""
    if facts.runtime.kind == "docker":
        ids = command(*containers) if containers else "$(docker ps -aq --filter label=io.kubernetes.pod.uid)"
        return f"docker rm -f {ids}"
    return f"crictl rmp -f {command(*containers)}" if containers else "crictl rmp -fa"


def _literal(ledger: Ledger) -> None:
    """Find the silent mismatch: kubelet systemd, runtime cgroupfs (F06)."""
    found = set(ledger.evidence.facts.cgroups.literal)
    for pod in ledger.evidence.facts.pods:
        found.update(path for container in pod.containers for path in container.cgroups if ".slice:" in path)
    for paths in ledger.evidence.processes.values():
        found.update(path for path in paths.values() if ".slice:" in path)
    if not found:
        ledger.hold(
            "verify-literal-cgroup", True, "no cgroup named …slice:cri-containerd:<id>", said=("none", "")
        )
    for path in sorted(found):
        ledger.note(False, "no cgroup named …slice:cri-containerd:<id>", path, ("exists", "no unit"))
    if found:
        # One container's cgroup has the same name in every hierarchy, in /proc and below the mounts.
        names = sorted({path.rpartition("/")[2] for path in found})
        ledger.find(
            "verify-literal-cgroup",
            min(path for path in found if path.endswith(names[0])),
            f"{plural(len(names), 'container')} in a literal cgroup, outside every limit of the pod: the runtime's "
            "handler was on cgroupfs when they were made, and a later correction does not move them",
            "\n".join(names),
            _literal_remedy(ledger, names, sorted(found)),
        )


def _literal_remedy(ledger: Ledger, names: list[str], paths: list[str]) -> str:
    """Return what moves these containers: the right handler, and their pods made anew by the kubelet."""
    facts = ledger.evidence.facts
    wrong = [each for each in runc_handlers(facts) if not each.systemd_cgroup]
    words = [
        f"set SystemdCgroup = true in the options of handler {command(each.name)} in {quoted(each.path or facts.runtime.config_file)}"
        for each in wrong
        if ledger.expected is Driver.SYSTEMD
    ]
    if words:
        words.append(command("systemctl", "restart", runtime_service(facts)))
    ids = {name.rpartition(":")[2] for name in names}
    pods = [pod for pod in facts.pods if any(each.id in ids for each in pod.containers)]
    places = [path for path in paths if path.startswith("/sys/")]
    if pods:
        words.append(remove_pods(facts, sorted(_sandboxes(pods, ids))))
    elif places:  # nothing that the runtime knows lives there
        words.append(command("find", *places, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"))
    return ", then ".join(words)


def _sandboxes(pods: Iterable[Pod], ids: set[str]) -> set[str]:
    """Return the sandbox of each pod that is among `ids`, else its newest one."""
    found: set[str] = set()
    for pod in pods:
        found |= {each.id for each in pod.containers if each.sandbox and each.id in ids} or {pod.sandbox_id}
    return found - {""}


def _units(ledger: Ledger) -> None:
    evidence = ledger.evidence
    states = {unit: values.get("ActiveState", "") for unit, values in evidence.shown.items()}
    states |= evidence.listed
    failed = sorted(
        {unit for unit, state in states.items() if state == "failed"} | {*evidence.facts.cgroups.failed_units}
    )
    ledger.hold(
        "verify-failed-unit",
        not failed,
        "no failed slice or scope",
        said=("", ", ".join(failed) or "none"),
        subject="systemd",
        summary=f"{plural(len(failed), 'unit')} of Kubernetes failed: a container of that name would not be placed in it",
        remediation=command("systemctl", "reset-failed", *failed) if failed else "",
    )
    if ledger.expected is Driver.CGROUPFS:
        ids = {container.id for pod in evidence.facts.pods for container in pod.containers}
        old = sorted(
            unit
            for unit, state in states.items()
            # A look at a unit by its name loads it, inactive, for a moment: that is no unit of anybody's.
            if state != "inactive"
            and (unit.endswith(".slice") or unit.removesuffix(".scope").rpartition("-")[2] in ids)
        )
        ledger.hold(
            "verify-old-unit",
            not old,
            "no unit of Kubernetes",
            said=("", ", ".join(old) or "none"),
            subject="systemd",
            summary=f"{plural(len(old), 'unit')} of Kubernetes still loaded although cgroupfs is the driver: the next "
            "switch to systemd would find them",
            remediation=command("systemctl", "stop", *old) if old else "",
        )


def _containers(ledger: Ledger) -> None:
    """Find containers that remember the other driver: they cannot be started again (F08, F64)."""
    facts = ledger.evidence.facts
    old = [
        (pod, container)
        for pod in facts.pods
        for container in pod.containers
        if (spelling := _spelling(container)) and spelling is not ledger.expected
    ]
    for pod, container in old:
        ledger.note(False, f"{_label(pod, container)} ({container.state})", container.cgroup_parent)
    ledger.hold(
        "verify-old-container",
        not old,
        "no container of the other driver",
        said=(f"{len(old)}" if old else "none", ""),
        subject=facts.runtime.kind,
        summary=f"{plural(len(old), 'container')} of Kubernetes made under the other driver: none can be started again",
        detail="\n".join(
            f"{container.id[:12]} {_label(pod, container)} ({container.state}): {container.cgroup_parent}"
            for pod, container in old
        ),
        remediation=_remove_containers(facts, [container for _, container in old]),
    )
    for container in facts.other_containers:
        if (spelling := _spelling(container)) and spelling is not ledger.expected:
            ledger.hold(
                "verify-foreign-container",
                False,
                f"container {container.name}",
                container.id,
                summary=f"{container.name} is no container of Kubernetes and asks for {container.cgroup_parent}, "
                f"which {ledger.expected} cannot give it: it will not start again",
                remediation=f"create it anew: {command('docker', 'rm', container.id)}, then docker run --cgroup-parent=<name>"
                + (".slice …" if ledger.expected is Driver.SYSTEMD else " …"),
            )


def _remove_containers(facts: Facts, containers: list[Container]) -> str:
    """Return the command that removes these containers, and no living one beside them."""
    if facts.runtime.kind == "docker":
        return command("docker", "rm", "-f", *(each.id for each in containers)) if containers else ""
    alone = [each.id for each in containers if not each.sandbox]
    sandboxes = [each.id for each in containers if each.sandbox]
    commands = (("rm", alone), ("rmp", sandboxes))
    return " && ".join(command("crictl", verb, "-f", *ids) for verb, ids in commands if ids)


def _spelling(container: Container) -> Driver | None:
    """Return the driver whose spelling a container's stored parent has; None when the runtime stored none."""
    parent = container.cgroup_parent
    if not parent:
        return None
    return Driver.SYSTEMD if parent.rpartition("/")[2].split(":")[0].endswith(".slice") else Driver.CGROUPFS


def _label(pod: Pod, container: Container) -> str:
    return f"{pod.namespace}/{pod.name} {'sandbox' if container.sandbox else container.name}".strip()

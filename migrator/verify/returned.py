# SPDX-License-Identifier: Apache-2.0
"""Verification that what must run on the node runs again, and goes on running."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrator.cgroups import Driver, parse
from migrator.checks.base import command, kubelet_unit, pod_label
from migrator.facts.model import Facts, Pod
from migrator.plan_table import Translation, is_live, live_pods
from migrator.verify.model import Ledger
from migrator.verify.units import control_group
from migrator.witness import Manifest


def check_returned(ledger: Ledger, table: Sequence[Translation]) -> None:
    """Hold the node to its static pods' files, to the pods of the table, and all of them to one life (F07, F33)."""
    _manifests(ledger)
    _table(ledger, table)
    _steady(ledger)


def _manifests(ledger: Ledger) -> None:
    """Hold the node to its static pods' files (F33)."""
    facts = ledger.evidence.facts
    log = command("journalctl", "-u", kubelet_unit(facts), "-n", "50")
    pods = [pod for pod in live_pods(facts) if pod.name]
    for path, why in ledger.evidence.unread:
        ledger.find("verify-manifest-unread", path, f"{path} is no static pod that can be read", why, log)
    for manifest in ledger.evidence.manifests:
        pod = _pod_of(manifest, ledger.evidence.manifests, pods)
        alive = {each.name for each in pod.containers if is_live(each)} if pod else set()
        missing = [name for name in manifest.containers if name not in alive]
        ledger.hold(
            "verify-pod-missing",
            pod is not None and not missing,
            f"static pod {manifest.namespace}/{manifest.name}",
            manifest.path,
            said=(f"{len(alive)} containers" if pod else "does not run", ""),
            summary=f"static pod {manifest.namespace}/{manifest.name} does not run"
            + (f" its containers {', '.join(missing)}" if pod else ""),
            remediation=log,
        )


def _table(ledger: Ledger, table: Sequence[Translation]) -> None:
    """Hold the node to the table of pods that stay on it, each at the place of the expected driver."""
    facts = ledger.evidence.facts
    live = {pod.uid: pod for pod in live_pods(facts)}
    for row in table:
        if row.kind != "pod":
            continue
        place = next(
            (path for path in (row.to_path, row.from_path) if _spelled(path, facts) is ledger.expected),
            row.to_path,
        )
        there = place in ledger.evidence.cgroups
        ledger.hold(
            "verify-pod-missing",
            row.pod_uid in live and there,
            f"pod {row.namespace}/{row.pod} of the table",
            place,
            said=("exists" if there else "missing", control_group(ledger, place)),
            summary=f"{row.namespace}/{row.pod} is not back at {place}: "
            + ("its cgroup is not there" if not there else "it does not run"),
            remediation=command("journalctl", "-u", kubelet_unit(facts), "-n", "50"),
        )


def _spelled(path: str, facts: Facts) -> Driver | None:
    place = parse(path, facts.kubelet.cgroup_root or "/")
    return place.driver if place else None


def _pod_of(manifest: Manifest, manifests: Sequence[Manifest], pods: Sequence[Pod]) -> Pod | None:
    """Return the static pod of a manifest: the kubelet calls it `<name>-<node>`, so the longest name that fits is its."""
    for pod in pods:
        if pod.static and pod.namespace == manifest.namespace and pod.name.startswith(f"{manifest.name}-"):
            fitting = (
                other.name
                for other in manifests
                if other.namespace == manifest.namespace and pod.name.startswith(f"{other.name}-")
            )
            if max(fitting, key=len) == manifest.name:
                return pod
    return None


def _steady(ledger: Ledger) -> None:
    """Hold containers to one life while they were watched: a loop of restarts shows in its second sample (F07)."""
    now = running(ledger.evidence.facts)
    known = {pod.uid: pod for pod in ledger.evidence.facts.pods}
    for uid, before in sorted(ledger.evidence.before.items()):
        pod = known.get(uid)
        if pod is None:
            continue
        lost = {name: old for name, old in before.items() if now.get(uid, {}).get(name) != old}
        ledger.hold(
            "verify-restart",
            not lost,
            f"{pod_label(pod)} kept running",
            said=(", ".join(sorted(id_[:12] for id_ in before.values())), ""),
            summary=f"{pod_label(pod)}: {', '.join(sorted(name or 'sandbox' for name in lost))} did not live through the watch",
            remediation=command("journalctl", "-u", kubelet_unit(ledger.evidence.facts), "-n", "50"),
        )


def running(facts: Facts) -> dict[str, dict[str, str]]:
    """Return which containers live now: pod uid → container name → id. A sandbox has the empty name."""
    return {pod.uid: dict(_live(pod)) for pod in live_pods(facts)}


def _live(pod: Pod) -> Iterator[tuple[str, str]]:
    for container in pod.containers:
        if container.state == "running":
            yield "" if container.sandbox else container.name, container.id

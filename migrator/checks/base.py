# SPDX-License-Identifier: Apache-2.0
"""What every check is made of, and the few questions that many of them ask of the facts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from migrator.facts.model import Facts, Pod, Source
from migrator.findings import Finding, Severity
from migrator.plan_table import is_live, live_pods

__all__ = [
    "BLOCKER",
    "CGROUPFS",
    "INFO",
    "SYSTEMD",
    "WARNING",
    "Check",
    "command",
    "is_live",
    "is_switched",
    "kubelet_driver",
    "kubelet_unit",
    "live_pods",
    "other",
    "plural",
    "pod_label",
    "runtime_service",
    "settled_driver",
    "version",
    "where",
]

BLOCKER, WARNING, INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO

CGROUPFS, SYSTEMD = "cgroupfs", "systemd"

_DEFAULT_SERVICE = {"docker": "docker.service", "containerd": "containerd.service", "crio": "crio.service"}


@dataclass(frozen=True, slots=True)
class Check:
    """One entry of the registry: what can be found, how much it may weigh, and the pure function that looks."""

    id: str
    severities: tuple[Severity, ...]
    references: tuple[str, ...]
    """F-numbers, empty where the rule is this tool's own."""
    description: str
    """One sentence for the documentation."""
    find: Callable[[Facts], Iterable[Finding]]


def version(text: str | None) -> tuple[int, int] | None:
    """Return (major, minor) of `1.20.2`, `v1.28.3+k3s1`, `1.6.20~ds1`; None when it is unknown."""
    found = re.match(r"v?(\d+)\.(\d+)", text or "")
    return (int(found[1]), int(found[2])) if found else None


def where(source: Source | None) -> str:
    """Return the place of a source as an operator would open it: `file:line`, `file`, or what kind of place it is."""
    if source is None:
        return "nowhere"
    if not source.path:
        return "built-in default" if source.kind == "default" else source.kind
    return f"{source.path}:{source.line}" if source.line else source.path


def kubelet_driver(facts: Facts) -> str | None:
    """Return the driver that the kubelet would use if it started now, whoever decides it (F09)."""
    deciding = facts.runtime.driver if facts.kubelet.decides == "runtime" else facts.kubelet.driver
    return deciding.value


def settled_driver(facts: Facts) -> str | None:
    """Return the driver that both sides are configured for and, as far as is known, run with; None in any mixture."""
    kubelet, runtime = kubelet_driver(facts), facts.runtime.driver.value
    running = {facts.runtime.driver_reported.value}
    if facts.kubelet.decides != "runtime":
        running.add(facts.kubelet.driver_running.value)
    return runtime if kubelet == runtime and running <= {runtime, None} else None


def is_switched(facts: Facts) -> bool:
    """Tell whether the node is on systemd already, so that nothing of it will move."""
    return settled_driver(facts) == SYSTEMD


def other(driver: str) -> str:
    """Return the spelling that is not `driver`'s."""
    return CGROUPFS if driver == SYSTEMD else SYSTEMD


def runtime_service(facts: Facts) -> str:
    """Return the name of the runtime's own service: the last one stopped, or the usual name of its kind."""
    services = [unit.name for unit in facts.runtime.units if unit.name.endswith(".service")]
    usual = _DEFAULT_SERVICE.get(facts.runtime.kind, "")
    return usual if usual in services or not services else services[-1]


def kubelet_unit(facts: Facts) -> str:
    """Return the name of the kubelet's unit."""
    return facts.kubelet.unit.name if facts.kubelet.unit else "kubelet.service"


def pod_label(pod: Pod) -> str:
    """Return `namespace/name`, or the uid where the runtime gave no name."""
    return f"{pod.namespace}/{pod.name}" if pod.name else f"pod {pod.uid}"


def command(*words: str) -> str:
    """Return one shell command line with every word quoted as needed: names of the node may hold anything."""
    return shlex.join(words)


def on_disk(facts: Facts, path: str) -> str:
    """Return where a command finds a path of the node: of an image, below the directory that was given as `--root DIR`."""
    return path if facts.node.live else f"DIR{path}"


def quoted(place: str) -> str:
    """Return a place as it can be pasted into a shell: a path with what is odd in it quoted, other words as they are."""
    return shlex.quote(place) if place.startswith("/") else place


def plural(count: int, noun: str) -> str:
    """Return `1 pod`, `2 pods`; a noun of several words bends at its end."""
    ending = "" if count == 1 else "ies" if noun.endswith("y") else "s"
    return f"{count} {noun[:-1] if ending == 'ies' else noun}{ending}"

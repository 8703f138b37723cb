# SPDX-License-Identifier: Apache-2.0
"""Checks of the runc on this node: its known bugs, and the devices that containers can lose with it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from migrator.checks.base import INFO, WARNING, Check
from migrator.facts.model import Facts
from migrator.findings import Finding

Release = tuple[int, int, int, float]


def runc_release(oci: str) -> Release | None:
    """Return the release in `runc 1.1.5+ds1`, `runc 1.0.0~rc93`; a final one is after its candidates; None for another."""
    found = re.match(r"runc (\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[~-]rc\.?(\d{1,4}))?", oci)
    if found is None:
        return None
    return int(found[1]), int(found[2]), int(found[3]), int(found[4]) if found[4] else math.inf


def runc_version(facts: Facts) -> Iterator[Finding]:
    """Find a runc with a known bug of the systemd driver."""
    release = runc_release(facts.runtime.oci)
    if release is None:
        return
    many = facts.node.cpus > 8 and facts.kubelet.cpu_manager_policy == "static"
    rules = (
        (
            release == (1, 0, 0, 94),
            ("F48", WARNING, "leaks connections to the bus until root has none left", "1.0.0-rc95"),
        ),
        (
            release == (1, 1, 3, math.inf),
            ("F55", WARNING, "takes /dev/pts from running containers at a daemon-reload", "1.1.4"),
        ),
        (
            release < (1, 1, 6, 0) and many,
            (
                "F58",
                WARNING,
                "gives pinned containers other CPUs than asked for where there are more than 8",
                "1.1.6",
            ),
        ),
        (
            release < (1, 1, 6, 0),
            (
                "F24",
                INFO,
                "leaves a container outside its scope where a failed one of the same name is loaded",
                "1.1.6",
            ),
        ),
    )
    for applies, (reference, severity, what, fixed) in rules:
        if applies:
            yield Finding(
                id="runc-version",
                severity=severity,
                subject=facts.runtime.oci,
                summary=f"{facts.runtime.oci} {what} with the systemd driver",
                detail=f"runc {fixed} is the first without it; a distribution may have taken the correction earlier.",
                remediation=f"upgrade runc to {fixed} or later",
                reference=reference,
            )


def gpu_node(facts: Facts) -> Iterator[Finding]:
    """Find a node with GPUs, which containers can lose at a daemon-reload."""
    if not facts.node.gpus:
        return
    release = runc_release(facts.runtime.oci)
    old = release is None or release < (1, 1, 7, 0)
    safe = facts.node.gpu_links is True and not old
    told = f"{facts.runtime.oci} is older than 1.1.7, which needs them. "
    if release is None:
        told = "runc heeds them from 1.1.7 on, and which release runs here is not known. "
    yield Finding(
        id="gpu-node",
        severity=INFO if safe else WARNING,
        subject=facts.node.gpus[0],
        summary="containers with a GPU lose it at a daemon-reload under the systemd driver"
        + (", unless they were given it past the runtime" if safe else ""),
        detail="systemd then writes the device rules of their scopes anew, from what it knows: "
        "`Failed to initialize NVML: Unknown Error`. A device node is known by its link in /dev/char. "
        + ("Every one has its link. " if facts.node.gpu_links else "Links are missing or could not be seen. ")
        + (told if old else "")
        + "A run reloads systemd while no pod runs; later reloads are the danger.",
        remediation="nvidia-ctk system create-dev-char-symlinks --create-all, at every boot, "
        "or give devices by CDI; then run a GPU pod and `systemctl daemon-reload` before the next node",
        reference="F55",
    )


CHECKS = (
    Check(
        "runc-version",
        (WARNING, INFO),
        ("F24", "F48", "F55", "F58"),
        "This runc has a known bug of the systemd driver.",
        runc_version,
    ),
    Check(
        "gpu-node",
        (WARNING, INFO),
        ("F55",),
        "The node has GPUs, which containers can lose at a daemon-reload.",
        gpu_node,
    ),
)

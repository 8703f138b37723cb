# SPDX-License-Identifier: Apache-2.0
"""All step kinds, by the name that plans use."""

from __future__ import annotations

from migrator.steps import Step
from migrator.steps.cgroup import RemoveCgroups
from migrator.steps.file import WriteFile
from migrator.steps.guard import Guard, ReleaseGuard
from migrator.steps.health import AssertDriver, Verify, WaitHealthy
from migrator.steps.sandboxes import RemoveSandboxes
from migrator.steps.unit import DaemonReload, StartUnit, StopUnit

KINDS: dict[str, type[Step]] = {
    kind.kind: kind
    for kind in (
        AssertDriver,
        DaemonReload,
        Guard,
        ReleaseGuard,
        RemoveCgroups,
        RemoveSandboxes,
        StartUnit,
        StopUnit,
        Verify,
        WaitHealthy,
        WriteFile,
    )
}

# SPDX-License-Identifier: Apache-2.0
"""All step kinds, by the name that plans use."""

from __future__ import annotations

from migrator.steps import Step
from migrator.steps.cgroup import RemoveCgroups
from migrator.steps.cluster import Cordon, Drain, Uncordon
from migrator.steps.cluster_config import ClusterConfig
from migrator.steps.file import WriteFile
from migrator.steps.guard import Guard, ReleaseGuard
from migrator.steps.health import AssertDriver, Verify, WaitHealthy
from migrator.steps.ready import WaitReady
from migrator.steps.sandboxes import RemoveSandboxes
from migrator.steps.unit import DaemonReload, StartUnit, StopUnit

KINDS: dict[str, type[Step]] = {
    kind.kind: kind
    for kind in (
        AssertDriver,
        ClusterConfig,
        Cordon,
        DaemonReload,
        Drain,
        Guard,
        ReleaseGuard,
        RemoveCgroups,
        RemoveSandboxes,
        StartUnit,
        StopUnit,
        Uncordon,
        Verify,
        WaitHealthy,
        WaitReady,
        WriteFile,
    )
}

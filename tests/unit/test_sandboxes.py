# SPDX-License-Identifier: Apache-2.0
"""Which processes are taken for a sandbox that containerd is making."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from migrator.steps.sandboxes import young_shims
from tests.unit.nodes import Link, lay

SHIM = "/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-id\0abc\0-address\0/run/containerd/containerd.sock\0"
KUBELETS = '{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}'
BOOTED = 1_700_000_000


@pytest.mark.parametrize(
    ("argv", "bundle", "age", "found"),
    [
        pytest.param(SHIM, KUBELETS, 5, [77], id="the kubelet's, just begun"),
        pytest.param(f"{SHIM}start\0", KUBELETS, 5, [77], id="the program that starts the shim"),
        pytest.param(SHIM, KUBELETS, 3600, [], id="left behind an hour ago"),
        pytest.param(
            SHIM, '{"annotations":{"nerdctl/name":"x"}}', 5, [], id="somebody else's in that namespace"
        ),
        pytest.param(SHIM, None, 5, [], id="its bundle is gone"),
        pytest.param(SHIM.replace("k8s.io", "moby"), KUBELETS, 5, [], id="Docker's"),
        pytest.param("/usr/bin/vi\0k8s.io\0", KUBELETS, 5, [], id="another program"),
        pytest.param("", KUBELETS, 5, [], id="a thread of the kernel"),
    ],
)
def test_a_young_shim_of_the_kubelets_is_one(
    tmp_path: Path, argv: str, bundle: str | None, age: int, found: list[int]
) -> None:
    ticks = int(time.time() - age - BOOTED) * os.sysconf("SC_CLK_TCK")
    content: dict[str, str | bytes | Link | None] = {
        "/proc/77/cmdline": argv,
        "/proc/77/stat": f"77 (containerd-shim) S 1 {' '.join(['0'] * 17)} {ticks} 0 0\n",
        "/proc/stat": f"cpu 1\nbtime {BOOTED}\n",
        "/proc/77/cwd": Link("/run/bundle"),
        "/run/bundle": None,
    }
    if bundle is not None:
        content["/run/bundle/config.json"] = bundle
    assert found == young_shims(lay(tmp_path, content))

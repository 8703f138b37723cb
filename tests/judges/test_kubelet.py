# SPDX-License-Identifier: Apache-2.0
"""kubelet 1.20.2 on the configuration files that cgmigrate writes."""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from migrator.cgroups import Driver
from migrator.configs import kubelet
from tests.lab.cache import LabError, build
from tests.lab.kubernetes import KUBELET
from tests.lab.packages import host_packages

from .daemons import in_private_root

FILES = 40
PAST_ITS_CONFIGURATION = "mkdir /var/lib/kubelet: permission denied"
SETTINGS = [
    "address: 0.0.0.0",
    "authentication:\n  anonymous:\n    enabled: false\n  webhook: {cacheTTL: 0s, enabled: true}",
    "clusterDNS:\n- 10.96.0.10",
    "clusterDomain: cluster.local",
    'cgroupRoot: "/"',
    "evictionHard: {memory.available: 10Mi, nodefs.available: 1Gi}  # small disk",
    "enforceNodeAllocatable: [pods]",
    "failSwapOn: no",
    "featureGates:\n  # ours\n  CSIMigration: false",
    "kubeReserved:\n    cpu: 100m\n    memory: 256Mi",
    "rotateCertificates: true",
    "staticPodPath: '/etc/kubernetes/manifests'",
    "systemReservedCgroup: /system.slice",
]
DRIVERS = [None, "cgroupfs", "cgroupfs", '"cgroupfs"', "'cgroupfs'   # until the switch", "systemd", "", "~"]


@pytest.fixture(scope="session")
def binary() -> Path:
    """Have the lab's kubelet."""
    try:
        build([KUBELET], host_packages)
    except LabError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"there is no kubelet: {error}")
    return KUBELET.path / "usr/bin/kubelet"


def config(seed: int) -> bytes:
    """Return a KubeletConfiguration as operators have it; the same for the same seed."""
    choose = random.Random(seed)
    lines = choose.sample(SETTINGS, choose.randrange(1, 7))
    driver = choose.choice(DRIVERS)
    if driver is not None:
        lines.insert(choose.randrange(len(lines) + 1), f"cgroupDriver: {driver}".rstrip())
    head = ["apiVersion: kubelet.config.k8s.io/v1beta1", "kind: KubeletConfiguration"]
    text = "\n".join([*head, *lines]) + choose.choice(["\n", "\n", "", "\n\n# the end\n"])
    match choose.randrange(8):
        case 0:
            text = text.replace("\n", "\r\n")
        case 1:
            text = "---\n" + text
        case 2:
            document = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
            extra = {"cgroupDriver": "cgroupfs"} if driver else {}
            text = json.dumps(
                {**document, "failSwapOn": False, **extra}, indent=choose.choice([None, 2, "\t"])
            )
        case _:
            pass
    return text.encode()


def refuses(binary: Path, root: Path, text: bytes) -> str | None:
    """Return why the kubelet does not take a file; None when it gets on to what nobody may do: make its folder."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/kubelet.yaml").write_bytes(text)
    argv = [
        binary,
        "--config",
        "/etc/kubelet.yaml",
        "--kubeconfig",
        "/nonexistent",
        "--container-runtime=remote",
    ]
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--", *argv]
    done = subprocess.run(
        in_private_root(root, [*nobody, "--container-runtime-endpoint=unix:///nonexistent"]),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith(("F", "E")) or "strict" in line]
    return (
        None
        if len(said) == 1 and PAST_ITS_CONFIGURATION in said[0]
        else "\n".join(said) or done.stderr[-300:]
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="the kubelet is started as nobody: run this as root")
def test_the_kubelet_accepts_every_rewritten_file(binary: Path, tmp_path: Path) -> None:
    wrong = {
        f"{seed} {driver}": refused
        for seed in range(FILES)
        for driver in (Driver.SYSTEMD, Driver.CGROUPFS)[: 2 if seed % 4 == 0 else 1]
        if (refused := refuses(binary, tmp_path, kubelet.set_driver(config(seed), driver).text))
    }
    assert wrong == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="the kubelet is started as nobody: run this as root")
@pytest.mark.parametrize("text", ["cgroupDrivr: systemd\n", "cgroupDriver: [systemd]\n", "cgroupDriver: {\n"])
def test_this_judge_can_say_no(binary: Path, tmp_path: Path, text: str) -> None:
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    assert refuses(binary, tmp_path, (head + text).encode())

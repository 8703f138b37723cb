# SPDX-License-Identifier: Apache-2.0
"""kubelet 1.20.2 on the files that cgmigrate writes: it accepts them, and has the intended values and no others.

At a high log level the kubelet tells the configuration that it made of file and flags. That is compared, before and after.
"""

import json
import os
import random
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from migrator.configs.kubelet import set_text

from .daemons import in_private_root

FILES = 40
PAST_ITS_CONFIGURATION = "kubeconfig: stat /nonexistent: no such file or directory"
HARMLESS = (
    "--container-runtime=remote",
    "--container-runtime-endpoint=unix:///nonexistent",
    "--kubeconfig=/nonexistent",
    "--bootstrap-kubeconfig=",
    "--client-ca-file=",
    "--cloud-provider=",
    "--tls-cert-file=/nonexistent",
    "--tls-private-key-file=/nonexistent",
    "--root-dir=/proc/none",
    "--cert-dir=/proc/none",
    "--logtostderr=true",
    "--v=5",
)
"""After the node's own flags: files that are not there are not looked for, and the kubelet ends once it has its configuration."""
GO_NAMES = {
    "cgroupDriver": "CgroupDriver",
    "cgroupRoot": "CgroupRoot",
    "kubeReservedCgroup": "KubeReservedCgroup",
    "systemReservedCgroup": "SystemReservedCgroup",
    "kubeletCgroups": "KubeletCgroups",
}
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a kubelet says of a file and its flags."""

    refused: str | None
    """Why it does not take them; None when it gets on to the cluster, which it cannot reach."""
    unread: str
    """The first field that it does not know and passes over with a warning."""
    effective: str
    """The configuration that it made of them, as Go prints it; without the addresses of pointers."""

    def with_values(self, values: Mapping[str, str]) -> "Answer":
        """Return the answer with other values of some settings."""
        effective = self.effective
        for setting, value in values.items():
            effective, count = re.subn(
                rf'\b{GO_NAMES[setting]}:"[^"]*"', f'{GO_NAMES[setting]}:"{value}"', effective
            )
            if self.refused is None and count != 1:
                raise AssertionError(f"{setting}: {count} times in what the kubelet says")
        return replace(self, effective=effective)


def asked(binary: Path, root: Path, flags: Sequence[str]) -> Answer:
    """Start the kubelet, as nobody, with the files of ROOT and these flags."""
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--", binary, *flags, *HARMLESS]
    done = subprocess.run(
        in_private_root(root, nobody), capture_output=True, text=True, check=False, timeout=120
    )
    # Every line of the log begins with its level and the time; what refuses a flag has neither.
    lines = [re.sub(r"^([IWEF])\d{4} \S+ +\d+ ", r"\1 ", line) for line in done.stderr.splitlines()]
    said = [line for line in lines if line.startswith(("F ", "E ", "unknown flag", "invalid argument"))]
    told = [line for line in lines if "] KubeletConfiguration: " in line]
    accepted = done.returncode and len(said) == 1 and PAST_ITS_CONFIGURATION in said[0] and len(told) == 1
    # The whole file comes between the two.
    unread = re.search(
        r"strict decoder error for .*?(unknown field: \w+|key \S+ already set)", done.stderr, re.DOTALL
    )
    return Answer(
        None if accepted else "\n".join(said) or done.stderr[-300:],
        unread[1] if unread else "",
        re.sub(r"0xc[0-9a-f]+", "0x", told[0]) if told else "",
    )


def judged(binary: Path, root: Path, text: bytes) -> Answer:
    """Return what the kubelet says of one configuration file."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/kubelet.yaml").write_bytes(text)
    return asked(binary, root, ["--config=/etc/kubelet.yaml"])


@pytest.mark.skipif(os.geteuid() != 0, reason="the kubelet is started as nobody: run this as root")
def test_the_kubelet_accepts_every_rewritten_file_and_nothing_else_changes(
    kubelet: Path, tmp_path: Path
) -> None:
    wrong: list[str] = []
    for seed in range(FILES):
        text = config(seed)
        before = judged(kubelet, tmp_path, text)
        for values in edits(seed):
            for setting, value in values.items():
                text = set_text(text, setting, value).text
            before = before.with_values(values)
            after = judged(kubelet, tmp_path, text)
            if before.refused or before.unread or after != before:
                wrong.append(f"{seed} {values}: {before.refused} -> {after.refused or after.effective}")
    assert not wrong, "\n".join(wrong)


def edits(seed: int) -> list[dict[str, str]]:
    """Return what is set in a file, one after the other: the driver, and now and then it back, or what else plans rewrite."""
    driver = {"cgroupDriver": "systemd"}
    match seed % 4:
        case 0:
            return [driver, {"cgroupDriver": "cgroupfs"}]
        case 1:
            names = {"kubeReservedCgroup": "/kube_reserved.slice", "kubeletCgroups": "/kube_reserved.slice"}
            return [driver | names]
        case 2:
            return [driver | {"systemReservedCgroup": "/a.slice/a-b.slice"}]
        case _:
            return [driver]


@pytest.mark.skipif(os.geteuid() != 0, reason="the kubelet is started as nobody: run this as root")
@pytest.mark.parametrize(
    "text",
    [
        "cgroupDrivr: systemd\n",
        "cgroupDriver: [systemd]\n",
        "cgroupDriver: {\n",
        "enforceNodeAllocatable: [kube-reserved]\n",
    ],
)
def test_this_judge_can_say_no(kubelet: Path, tmp_path: Path, text: str) -> None:
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    answer = judged(kubelet, tmp_path, (head + text).encode())
    assert answer.refused or answer.unread

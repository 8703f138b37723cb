# SPDX-License-Identifier: Apache-2.0
"""Capture a fresh lab node as a sample node: `python -m tests.lab.capture FLAVOUR NAME`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from .node import Node

CHECKOUT = Path(__file__).resolve().parent.parent.parent
NODES = CHECKOUT / "tests/nodes"
FACTS = """
from migrator.facts.gather import gather
from migrator.facts.store import dump
from migrator.host import Reader
print(dump(gather(Reader())), end="")
"""
FILES = """
ls -d /etc/os-release /usr/lib/os-release /etc/machine-id /etc/hostname /etc/docker/daemon.json /etc/containerd/config.toml \
  /etc/default/kubelet /etc/default/docker /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  /etc/kubernetes/manifests/* /etc/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d/* \
  /lib/systemd/system/docker.service /lib/systemd/system/docker.socket /lib/systemd/system/containerd.service \
  /proc/sys/kernel/random/boot_id /proc/self/mountinfo /proc/swaps /proc/self/cgroup
for p in $(cat /sys/fs/cgroup/systemd/kubepods/*/cgroup.procs /sys/fs/cgroup/systemd/kubepods/*/*/cgroup.procs \
    /sys/fs/cgroup/systemd/kubepods/*/*/*/cgroup.procs) $(pgrep -x 'kubelet|dockerd|containerd'); do
  ls -d /proc/$p/cgroup /proc/$p/cmdline
done
find /sys/fs/cgroup/memory/kubepods /sys/fs/cgroup/systemd/kubepods -name cgroup.procs
"""


def capture(flavour: str, name: str) -> None:
    """Write `tests/nodes/NAME` anew from a node that is made for it; its `node.toml` is written by hand."""
    target = NODES / name
    with Node.create(flavour, "sample-" + flavour) as node:
        node.boot()
        node.wait_pods()
        path = "PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib"
        facts = node.run(["env", path, "python3", "-P", "-c", FACTS]).stdout
        listing = sorted(
            {
                *node.run(FILES, check=False).stdout.split(),
                *(each["file"]["path"] for each in json.loads(facts)["references"]),
            }
        )
        root = target / "root"
        shutil.rmtree(root, ignore_errors=True)
        for each in listing:
            # cat, not tar: files of /proc and cgroupfs say that their size is 0
            text = node.run(["cat", each], check=False).stdout
            file = root / each.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace(str(CHECKOUT), "/src/cgmigrate"))  # bind mounts name where we stand
        for link, to in (("sbin/init", "/lib/systemd/systemd"),):
            (root / link).parent.mkdir(parents=True, exist_ok=True)
            (root / link).symlink_to(to)
            (root / to.lstrip("/")).touch()
    (target / "facts.json").write_text(json.dumps(json.loads(facts), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    capture(*sys.argv[1:])

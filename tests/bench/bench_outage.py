# SPDX-License-Identifier: Apache-2.0
"""Budget: a switch by the tool takes a node out of service for at most 1.1 times as long as the manual procedure.

The outage begins when systemd takes the kubelet out of `active`, which is the first thing that either side does to the
node's services (a node of a cluster is drained before, and that does not count). It ends when the kubelet's healthz says
`ok` *and* every container that belongs to the node (static pods, DaemonSets) runs as a new one: the start of the last of
their first processes, as the kernel tells it. Both ends are read afterwards from systemd and /proc; nobody times commands.

So what the tool does before the stop and after the pods are back (plan, guard, verification, release) is no outage, and what
it does between is. The manual procedure is the documented one, as fast as it can be: one shell script, both files
prepared. Under containerd its containers of before go on running until the kubelet finds each in the wrong place and
makes it anew; until then the node is in a mixed state, and for this definition that is not back.

Each round makes a fresh node for each side, and both sides take turns at being first; medians are compared. A round of a
cluster drains and switches one of its nodes, and brings it back to what it was by hand and a reboot.

    python -m tests.bench.bench_outage [--json FILE] [--rounds N] [--cluster w1,w2,cp1] [--verbose]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.cluster import Cluster
    from tests.lab.node import Node

BUDGET = 1.1
ROUNDS = 5
FLAVOURS = ("docker", "containerd")
SIDES = ("manual", "tool")
SETTLE = 6.0  # seconds that a node is left alone before it is measured, and that new containers must last
PATIENCE = 240.0
CONFIG = "/var/lib/kubelet/config.yaml"
RUNTIME = {"docker": "/etc/docker/daemon.json", "containerd": "/etc/containerd/config.toml"}
PLAN = "/root/outage-plan.json"
ADMIN = "/root/outage-admin.conf"

# Looks 50 times a second, and tells the moment (CLOCK_MONOTONIC, as systemd) of the first `ok` after one that was not.
WATCH = """
import http.client, time
def healthy():
    try:
        asked = http.client.HTTPConnection("127.0.0.1", 10248, timeout=1)
        asked.request("GET", "/healthz")
        return asked.getresponse().read() == b"ok"
    except OSError:
        return False
print("watching", flush=True)
while healthy():
    time.sleep(0.02)
while not healthy():
    time.sleep(0.02)
print(time.clock_gettime(time.CLOCK_MONOTONIC))
"""


@dataclass(frozen=True)
class Outage:
    """Seconds from the kubelet's stop: to its healthz, and to the end of the outage (both of them, or later)."""

    healthz: float
    whole: float


def main() -> int:
    """Measure, print a table, and say whether the standalone nodes are within the budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cluster", default="", help="measure these nodes of a cluster, not standalone ones")
    parser.add_argument("--verbose", action="store_true", help="show what the tool says")
    options = parser.parse_args()
    from tests.lab.cache import LabError  # noqa: PLC0415

    names = [name for name in options.cluster.split(",") if name] or FLAVOURS
    measured: dict[tuple[str, str], list[Outage]] = {}
    try:
        rounds = cluster_rounds if options.cluster else standalone_rounds
        for where, side, outage in rounds(names, options.rounds, options.verbose):
            measured.setdefault((where, side), []).append(outage)
            print(f"{where} {side}: healthz {outage.healthz:.2f} s, whole {outage.whole:.2f} s", flush=True)
    except LabError as error:
        if measured:
            raise
        print(f"outage: skipped: the lab cannot start: {error}")
        return 0
    figures = {name: value for where in names for name, value in compared(where, measured).items()}
    for line in table(names, figures):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(figures[f"{where}_ratio"] <= BUDGET for where in names) else 1


def compared(where: str, measured: dict[tuple[str, str], list[Outage]]) -> dict[str, float]:
    """Return medians and ratios of one kind of node."""
    figures = {}
    for side in SIDES:
        found = measured[where, side]
        figures[f"{where}_{side}_s"] = round(statistics.median(each.whole for each in found), 2)
        figures[f"{where}_{side}_healthz_s"] = round(statistics.median(each.healthz for each in found), 2)
    for what in ("", "_healthz"):
        figures[f"{where}{what}_ratio"] = round(
            figures[f"{where}_tool{what}_s"] / figures[f"{where}_manual{what}_s"], 3
        )
    return figures


def table(names: Sequence[str], figures: dict[str, float]) -> Iterator[str]:
    """Yield the medians side by side."""
    yield f"{'':12} {'manual':>8} {'tool':>8} {'ratio':>6}   healthz alone: manual, tool, ratio"
    for where in names:
        whole, healthz = (
            [figures[f"{where}{key}"] for key in keys]
            for keys in (
                ("_manual_s", "_tool_s", "_ratio"),
                ("_manual_healthz_s", "_tool_healthz_s", "_healthz_ratio"),
            )
        )
        yield (
            f"{where:12} {whole[0]:7.2f}s {whole[1]:7.2f}s {whole[2]:6.2f}   "
            f"{healthz[0]:.2f}s {healthz[1]:.2f}s {healthz[2]:.2f}"
        )


def standalone_rounds(
    flavours: Sequence[str], rounds: int, verbose: bool
) -> Iterator[tuple[str, str, Outage]]:
    """Measure fresh standalone nodes, a pair in each round."""
    from tests.lab.node import Node  # noqa: PLC0415

    def made(flavour: str) -> Node:
        node = Node.create(flavour)
        try:
            node.boot()
            node.wait_pods()
        except BaseException:
            node.destroy()
            raise
        return node

    for number in range(rounds):
        for flavour in flavours:
            with ThreadPoolExecutor(len(SIDES)) as pool:
                nodes = dict(zip(turns(number), pool.map(made, [flavour] * len(SIDES)), strict=True))
            try:
                for side, node in nodes.items():
                    wanted = {(each.pod, each.name) for each in node.containers()}
                    if side == "tool":
                        node.run(["cgmigrate", "plan", "-o", PLAN])
                    yield flavour, side, measure(node, wanted, work_of(side, node, verbose))
            finally:
                for node in nodes.values():
                    node.destroy()


def cluster_rounds(names: Sequence[str], rounds: int, verbose: bool) -> Iterator[tuple[str, str, Outage]]:
    """Measure nodes of one cluster, each side on each in each round."""
    from tests.lab.cluster import Cluster  # noqa: PLC0415

    with Cluster.create() as cluster:
        cluster.wait()
        for number in range(rounds):
            for name in names:
                for side in turns(number):
                    with taken_back(cluster, name) as node:
                        wanted = own_containers(cluster, name)
                        if side == "tool":
                            cluster.give_admin(name, ADMIN)
                            node.run(["cgmigrate", "plan", "--kubeconfig", ADMIN, "-o", PLAN])
                        else:
                            cluster.kubectl("drain", name, "--ignore-daemonsets", timeout=200)
                        yield name, side, measure(node, wanted, work_of(side, node, verbose))


def turns(number: int) -> Sequence[str]:
    """Return the sides in the order of this round."""
    return SIDES if number % 2 == 0 else SIDES[::-1]


@contextmanager
def taken_back(cluster: Cluster, name: str) -> Iterator[Node]:
    """Give a node of a cluster, and bring it back to cgroupfs afterwards, without containers, cgroups or runs of now."""
    node = cluster.nodes[name]
    files = {path: node.read(path) for path in (CONFIG, RUNTIME[node.flavour])}
    yield node
    node.run("systemctl stop kubelet")
    if node.flavour == "docker":
        node.run("docker ps -aq --filter label=io.kubernetes.pod.uid | xargs -r docker rm -f")
    else:
        path = "PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib"
        code = "from migrator.cri import CriControl\nwith CriControl() as cri: cri.remove_kubernetes(lambda _: None)"
        node.run(["env", path, "python3", "-P", "-c", code])
    for file, text in files.items():
        node.write(file, text)
    node.run("rm -rf /var/lib/cgmigrate")
    node.reboot()
    cluster.wait()
    cluster.kubectl("uncordon", name)


def own_containers(cluster: Cluster, name: str) -> set[tuple[str, str]]:
    """Return (pod, container) of what stays on a node through a drain: static pods and DaemonSets'."""
    found = cluster.get("pods", "-A", "--field-selector", f"spec.nodeName={name}")
    return {
        (pod["metadata"]["name"].removesuffix(f"-{name}"), container["name"])
        for pod in found
        if pod["metadata"].get("ownerReferences", [{}])[0].get("kind") in ("DaemonSet", "Node")
        for container in pod["spec"]["containers"]
    }


def work_of(side: str, node: Node, verbose: bool) -> Callable[[], None]:
    """Return what a side does to a node, with everything prepared that may be prepared."""
    if side == "tool":

        def tool() -> None:
            done = node.run(["cgmigrate", "apply", PLAN, "--yes"], timeout=400)
            if verbose:
                print(done.stderr, flush=True)

        return tool
    runtime, config = node.flavour, RUNTIME[node.flavour]
    text = node.read(config)
    if runtime == "docker":
        text = json.dumps({**json.loads(text), "exec-opts": ["native.cgroupdriver=systemd"]}, indent=4) + "\n"
    else:
        text = text.replace("SystemdCgroup = false", "SystemdCgroup = true")
    node.write("/root/runtime.new", text)
    kubelet = node.read(CONFIG).replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd")
    node.write("/root/kubelet.new", kubelet)
    script = f"""
        systemctl stop kubelet
        systemctl stop {runtime}
        cp /root/kubelet.new {CONFIG}
        cp /root/runtime.new {config}
        systemctl start {runtime}
        systemctl start kubelet
    """

    def manual() -> None:
        node.run(f"set -e\n{script}")

    return manual


def measure(node: Node, wanted: set[tuple[str, str]], work: Callable[[], None]) -> Outage:
    """Do the work and return the outage that it made."""
    time.sleep(SETTLE)
    before = {each.id for each in node.containers()}
    watch = node.popen(["python3", "-c", WATCH])
    if watch.stdout is None or watch.stdout.readline() != "watching\n":
        raise SystemExit(f"{node.name}: the watch of healthz does not start: {watch.communicate()[1]}")
    work()
    try:
        healthy = float(watch.communicate(timeout=PATIENCE)[0])
    except subprocess.TimeoutExpired as error:
        watch.kill()
        raise SystemExit(f"{node.name}: no healthz after {PATIENCE:g} s") from error
    pids = lasting(node, wanted, before)
    stopped = int(node.run("systemctl show -P ActiveExitTimestampMonotonic kubelet").stdout) / 1e6
    began = [int(each.rpartition(")")[2].split()[19]) for each in stats(node, pids)]
    # The kernel counts a process' start in hundredths of a second, and through suspends.
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    last = max(began) / 100 - suspended
    if not stopped < healthy or not all(stopped < each / 100 - suspended for each in began):
        raise SystemExit(f"{node.name}: healthz or a container is from before the stop")
    return Outage(healthy - stopped, max(healthy, last) - stopped)


def lasting(node: Node, wanted: set[tuple[str, str]], before: set[str]) -> list[int]:
    """Return the pids of the new containers when all are there and have lasted; one that is made twice counts late."""
    from tests.lab.cache import LabError  # noqa: PLC0415

    deadline, since = time.monotonic() + PATIENCE, time.monotonic()
    last: dict[tuple[str, str], str] = {}
    pids: list[int] = []
    while time.monotonic() < deadline:
        try:
            found = [each for each in node.containers() if (each.pod, each.name) in wanted]
        except LabError:  # the runtime does not answer yet, or a container has gone while it was looked at
            found = []
        now = {(each.pod, each.name): each.id for each in found}
        if now != last:
            last, since, pids = now, time.monotonic(), [each.pid for each in found]
        elif now.keys() == wanted and not before & {*now.values()} and time.monotonic() - since > SETTLE:
            return pids
        time.sleep(0.5)
    raise SystemExit(f"{node.name}: {sorted(wanted)} do not run anew after {PATIENCE:g} s, only {last}")


def stats(node: Node, pids: Sequence[int]) -> list[str]:
    """Return /proc/PID/stat of processes of a node."""
    return node.run(["cat", *(f"/proc/{pid}/stat" for pid in pids)]).stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())

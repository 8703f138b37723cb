# SPDX-License-Identifier: Apache-2.0
"""Budget: verifying 2,000 scopes costs, on systemd's side, at most 1.5 times one `systemctl show` of all units.

Makes a throwaway node, starts 2,000 transient scopes below kubepods.slice in it, and measures inside the node: what
verification asks of systemd (one `systemctl show`, D-Bus, parsing both) against the bare program, interleaved, median.

    python -m tests.bench.bench_verify [--json FILE] [--scopes N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BUDGET = 1.5
RUNS = 7
BATCH = 20
POD = "kubepods-besteffort-pod{:032x}.slice"


def main() -> int:
    """Measure on a node, print the ratio, and say whether it is within the budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--scopes", type=int, default=2000)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options.scopes)))
        return 0
    figures = on_a_node(options.scopes)
    if figures is None:
        return 0
    print(
        f"verify, {figures['scopes']} scopes, systemd side: {figures['ratio']:.2f} x `systemctl show` "
        f"({figures['verify_s']:.2f} s / {figures['show_s']:.2f} s, median of {RUNS}), budget {BUDGET}; "
        f"cgroupfs side {figures['cgroupfs_s']:.2f} s"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["ratio"] <= BUDGET else 1


def on_a_node(scopes: int) -> dict[str, Any] | None:
    """Run `measure` in a throwaway node; None, with the reason printed, where no node can be had."""
    from tests.lab.cache import LabError  # noqa: PLC0415 the node's Python has no need of the lab
    from tests.lab.node import Node  # noqa: PLC0415

    try:
        node = Node.create("containerd")
    except LabError as error:
        print(f"verify: skipped: the lab cannot start: {error}")
        return None
    with node:
        node.boot()
        node.wait_healthy()
        # The kubelet would remove pods' slices that it does not know.
        node.run(["systemctl", "stop", "kubelet"])
        argv = ["env", "PYTHONPATH=/opt/cgmigrate:/opt/cgmigrate/lib", "python3", "-P"]
        done = node.run(
            [*argv, "-m", "tests.bench.bench_verify", "--inside", "--scopes", str(scopes)], timeout=580
        )
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures


def measure(scopes: int) -> dict[str, Any]:
    """Start the scopes and compare; runs inside the node as root."""
    sleepers = [
        subprocess.Popen(["/bin/sleep", "3600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(scopes)
    ]
    try:
        asyncio.run(start_scopes([sleeper.pid for sleeper in sleepers]))
        return compare(scopes)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()


def compare(scopes: int) -> dict[str, Any]:
    """Time both, interleaved, in this process: neither side counts Python's own start."""
    from migrator.facts.model import Hierarchy  # noqa: PLC0415 only inside the node
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.witness import PROPERTIES, look_at_systemd, look_at_tree  # noqa: PLC0415

    reader = Reader()
    show: list[float] = []
    verify: list[float] = []
    bare = ["systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", "*"]
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run(bare, check=True, stdout=subprocess.PIPE)
        show.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        found = look_at_systemd(reader)
        verify.append(time.perf_counter() - begin)
        if found.silent or len(found.shown) < scopes or found.shown.keys() != found.listed.keys():
            raise SystemExit(
                f"{len(found.shown)} and {len(found.listed)} units of {scopes} scopes: {found.silent}"
            )
    memory = (Hierarchy(mount="/sys/fs/cgroup/memory", version=1, controllers=("memory",)),)
    begin = time.perf_counter()
    tree = look_at_tree(reader, memory, "/kubepods.slice")
    cgroupfs = time.perf_counter() - begin
    if len(tree) < scopes:
        raise SystemExit(f"{len(tree)} cgroups were found of {scopes} scopes")
    return {
        "scopes": scopes,
        "show_s": round(statistics.median(show), 4),
        "verify_s": round(statistics.median(verify), 4),
        "cgroupfs_s": round(cgroupfs, 4),
        "ratio": round(statistics.median(verify) / statistics.median(show), 3),
        "budget": BUDGET,
    }


async def start_scopes(pids: list[int]) -> None:
    """Put each process into a scope of its own, four to a pod's slice, with limits as a container has them."""
    from dbus_next.aio.message_bus import MessageBus  # noqa: PLC0415 only inside the node
    from dbus_next.constants import BusType, MessageType  # noqa: PLC0415
    from dbus_next.message import Message  # noqa: PLC0415
    from dbus_next.signature import Variant  # noqa: PLC0415

    bus: Any = await MessageBus(bus_type=BusType.SYSTEM).connect()

    async def start(index: int, pid: int) -> None:
        reply = await bus.call(
            Message(
                destination="org.freedesktop.systemd1",
                path="/org/freedesktop/systemd1",
                interface="org.freedesktop.systemd1.Manager",
                member="StartTransientUnit",
                signature="ssa(sv)a(sa(sv))",
                body=[
                    f"cri-containerd-{index:064x}.scope",
                    "fail",
                    [
                        ["PIDs", Variant("au", [pid])],
                        ["Slice", Variant("s", POD.format(index // 4))],
                        ["Delegate", Variant("b", True)],
                        ["DefaultDependencies", Variant("b", False)],
                        ["MemoryAccounting", Variant("b", True)],
                        ["MemoryLimit", Variant("t", 32 << 20)],
                        ["CPUShares", Variant("t", 102)],
                    ],
                    [],
                ],
            )
        )
        if reply is None or reply.message_type is MessageType.ERROR:
            raise SystemExit(f"scope {index}: {reply.body if reply else 'no reply'}")

    # A busy systemd that cannot read its bus for long is disconnected from it.
    for first in range(0, len(pids), BATCH):
        await asyncio.gather(*(start(first + at, pid) for at, pid in enumerate(pids[first : first + BATCH])))
        await wait_for_jobs()
    bus.disconnect()


async def wait_for_jobs() -> None:
    """Wait until no job is left."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        asking = await asyncio.create_subprocess_exec(
            "systemctl", "list-jobs", "--no-legend", stdout=asyncio.subprocess.PIPE
        )
        jobs, _ = await asking.communicate()
        if not jobs.strip():
            return
        await asyncio.sleep(0.1)
    raise SystemExit("systemd did not start the scopes in time")


if __name__ == "__main__":
    sys.exit(main())

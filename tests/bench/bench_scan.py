# SPDX-License-Identifier: Apache-2.0
"""Time the cgroup scan of 10,000 cgroups against `find -type d` over the same tree.

The tree is shaped like kubepods and made in a private subtree of a cgroup v1 hierarchy (or of cgroup2); it goes away
again also after Ctrl-C. Runs are interleaved and medians compared: the scan alone, inside one process, and whole processes
with the interpreter's start, which no scan can do without.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from migrator.facts.cgroup import scan, walk  # noqa: E402 the checkout is put on the path first
from migrator.facts.model import Hierarchy  # noqa: E402
from migrator.facts.node import own_hierarchies, parse_mountinfo  # noqa: E402
from migrator.host import Reader  # noqa: E402

BUDGET = 1.2
MEMORY_BUDGET = 120
CLASSES = ("", "/burstable", "/besteffort")
CONTAINERS = 3

SCAN = """
import resource, sys
from migrator.facts.cgroup import scan
from migrator.facts.model import Hierarchy
from migrator.host import Reader
found = scan(Reader(), [Hierarchy(mount=sys.argv[1], version=1)])
sys.stdout.write(f"{found.trees[0].directories} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}")
"""


def names(count: int) -> Iterator[str]:
    """Yield the paths of `count` cgroups, parents first: kubepods, the classes, pods with their containers."""
    yield from itertools.islice(_names(), count)


def _names() -> Iterator[str]:
    yield "/kubepods"
    yield "/kubepods/burstable"
    yield "/kubepods/besteffort"
    for number in itertools.count():
        pod = f"/kubepods{CLASSES[number % 3]}/pod{number:08x}-1111-4222-8333-444455556666"
        yield pod
        yield from (f"{pod}/{container:x}{number:063x}" for container in range(CONTAINERS))


@contextlib.contextmanager
def tree(hierarchy: Hierarchy, count: int) -> Iterator[Path]:
    """Make the cgroups and remove them again, whatever happens."""
    root = Path(hierarchy.mount, f"cgmigrate-bench-{os.getpid()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        root.mkdir()
        for name in names(count):
            Path(f"{root}{name}").mkdir()
        yield root
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        for below, _ in sorted(walk(str(root)), reverse=True):
            Path(f"{root}{below}").rmdir()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)


def timed(work: Callable[[], object]) -> float:
    """Return how long some work took, in seconds of wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(argv: list[str]) -> str:
    """Run a program of this benchmark and return what it printed."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def measure(root: Path, rounds: int) -> dict[str, float]:
    """Return medians in seconds and their ratios."""
    find = ["find", str(root / "kubepods"), "-type", "d"]
    python = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path[:0] = {[*filter(None, sys.path)]!r}\n{SCAN}",
        str(root),
    ]
    hierarchy = Hierarchy(mount=str(root), version=1)
    works: dict[str, Callable[[], object]] = {
        "find": lambda: run(find),
        "walk": lambda: sum(1 for _ in walk(str(root))),
        "scan": lambda: scan(Reader(), [hierarchy]),
        "scan_process": lambda: run(python),
    }
    listed = {line.removeprefix(str(root)) for line in run(find).splitlines()}
    if listed != {path for path, _ in walk(str(root)) if path}:
        sys.exit("the walk and `find -type d` do not see the same directories")
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        # In turns: on v1 a second read of `cgroup.procs` within a second finds what the kernel kept of the first.
        for name in (*works, *works)[turn % len(works) :][: len(works)]:
            times[name].append(timed(works[name]))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    directories, mebibytes = map(int, run(python).split())
    if directories != len(listed):
        sys.exit(f"the scan counts {directories} directories, `find -type d` {len(listed)}")
    return medians | {
        "cgroups": directories,
        "ratio": medians["scan"] / medians["find"],
        "ratio_walk": medians["walk"] / medians["find"],
        "ratio_process": medians["scan_process"] / medians["find"],
        "mebibytes": mebibytes,
    }


def hierarchy_to_use() -> Hierarchy:
    """Return a hierarchy in which cgroups can be made: pids of v1 where there is one, else cgroup2."""
    own, _ = own_hierarchies(parse_mountinfo(Path("/proc/self/mountinfo").read_text()))
    ranked = sorted(own, key=lambda each: (each.controllers != ("pids",), each.version != 2))
    found = next((each for each in ranked if os.access(each.mount, os.W_OK)), None)
    if found is None:
        sys.exit("skipped: no cgroup hierarchy is writable here; run as root")
    return found


def main() -> None:
    """Measure, print, and write the figures where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cgroups", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    hierarchy = hierarchy_to_use()
    with tree(hierarchy, options.cgroups) as root:
        found = measure(root, options.rounds)
    print(
        f"{found['cgroups']:,.0f} cgroups in {hierarchy.mount}; medians of {options.rounds} interleaved runs"
    )
    for name in ("find", "walk", "scan", "scan_process"):
        print(f"  {name:13} {found[name] * 1000:7.1f} ms   {found[name] / found['find']:.2f} x find")
    print(
        f"scan: {found['ratio']:.2f} x `find -type d` (budget {BUDGET}); whole process {found['ratio_process']:.2f} x"
    )
    print(
        f"peak memory of the scanning process: {found['mebibytes']:.0f} MiB (budget of an audit {MEMORY_BUDGET})"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

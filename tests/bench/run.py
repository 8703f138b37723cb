# SPDX-License-Identifier: Apache-2.0
"""Run every benchmark and write docs/benchmarks.md: measured ratios beside their budgets.

python tests/bench/run.py            full inputs; exit 1 when one fails or is over budget
python tests/bench/run.py --quick    small inputs, to see that the benchmarks work; judges and writes nothing
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Bench:
    """One program `bench_<name>.py`; `quick` are its arguments for small inputs, None when it has no quick form."""

    name: str
    quick: tuple[str, ...] | None


@dataclass(frozen=True)
class Row:
    """One budget: `key` is the figure of `bench` that is held to it."""

    work: str
    budget: float
    unit: str
    bench: str
    key: str


BENCHES = (
    Bench("startup", ("--runs", "11")),
    Bench("translate", ("--lines", "100000", "--runs", "3")),
    Bench("scan", ("--cgroups", "1000", "--rounds", "3")),
    Bench("verify", None),
    Bench("outage", None),
)

ROWS = (
    Row("`cgmigrate --version`, wall", 3, "x `python3 -c pass`", "startup", "ratio"),
    Row("`cgmigrate --help`, wall", 3, "x `python3 -c pass`", "startup", "help_ratio"),
    Row("`translate` of 1,000,000 log lines", 1, "x a Perl one-liner", "translate", "ratio_perl"),
    Row("`translate` of 1,000,000 log lines", 0.1, "x GNU `sed -E`", "translate", "ratio_sed"),
    Row("cgroup scan, 10,000 cgroups", 1.2, "x `find -type d`", "scan", "ratio"),
    Row("`verify` of 2,000 scopes, systemd side", 1.5, "x one `systemctl show`", "verify", "ratio"),
    Row("memory of that scan's process", 120, "MiB", "scan", "mebibytes"),
    Row("outage of a Docker node", 1.1, "x the manual procedure", "outage", "docker_ratio"),
    Row("outage of a containerd node", 1.1, "x the manual procedure", "outage", "containerd_ratio"),
)

OUTAGE = (
    "The outage of a node begins when systemd takes the kubelet out of `active`, and ends when its healthz says `ok` and every "
    "container that belongs to the node runs as a new one. The manual procedure is the documented one as one shell script "
    "with both files prepared. `python -m tests.bench.bench_outage --cluster w1,w2,cp1` measures nodes of a cluster."
)


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    figures: dict[str, Figures] = {}
    reasons: dict[str, str] = {}
    failed = False
    for bench in BENCHES:
        if quick and bench.quick is None:
            print(f"== {bench.name}: left out, it has no quick form", flush=True)
            continue
        print(f"== {bench.name}", flush=True)
        found, reason, broke = run(bench.name, (bench.quick or ()) if quick else ())
        failed |= broke
        if found is None:
            reasons[bench.name] = reason
        else:
            figures[bench.name] = found
    if quick:
        return 1 if failed else 0
    lines = table(figures, reasons)
    print("\n".join(lines))
    PAGE.write_text(page(lines), encoding="utf-8")
    over = [row for row in ROWS if row.bench in figures and figures[row.bench][row.key] > row.budget]
    return 1 if failed or over else 0


def run(name: str, arguments: Sequence[str]) -> tuple[Figures | None, str, bool]:
    """Run one benchmark; return its figures, or why there are none, and whether it broke."""
    with tempfile.TemporaryDirectory(prefix="cgmigrate-bench-") as directory:
        file = Path(directory) / "figures.json"
        words = [sys.executable, "-m", f"tests.bench.bench_{name}", "--json", str(file), *arguments]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            said = ""
            for line in process.stdout or ():
                print(f"  {line}", end="", flush=True)
                said = line.strip() or said
        if file.exists():
            figures: Figures = json.loads(file.read_text(encoding="utf-8"))
            return figures, "", False
    broke = process.returncode != 0
    return None, said or f"exit code {process.returncode}", broke


def table(figures: Mapping[str, Figures], reasons: Mapping[str, str]) -> list[str]:
    """Return the table of budgets as lines of Markdown."""
    lines = ["| work | measured | at most | |", "|---|---|---|---|"]
    for row in ROWS:
        if row.bench in figures:
            value = figures[row.bench][row.key]
            verdict = "within" if value <= row.budget else "**over**"
            measured = f"{value:.3g}"
        else:
            measured, verdict = "", f"not measured: {reasons.get(row.bench, 'left out')}"
        lines.append(f"| {row.work} | {measured} | {row.budget:g} {row.unit} | {verdict} |")
    return lines


def page(lines: Sequence[str]) -> str:
    """Return docs/benchmarks.md."""
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "<!-- Written by `make bench`. -->",
            "",
            "Ratios, measured in one run: both sides take turns on the same machine, and medians are compared. The machine",
            f"of this run: {machine()}.",
            "",
            *lines,
            "",
            OUTAGE,
            "",
            "Run them yourself: `make bench` (as root, on an idle machine). `make bench QUICK=1` takes small inputs and judges nothing.",
            "",
        ]
    )


def machine() -> str:
    """Return what the figures were measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} x {cpu}, Linux {'.'.join(platform.release().split('.')[:2])}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())

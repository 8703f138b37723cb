# SPDX-License-Identifier: Apache-2.0
"""Start-up: `cgmigrate --version` and `--help` against `python3 -c pass` of the same interpreter, whole processes, taking turns.

python -m tests.bench.bench_startup [--json FILE] [--runs N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

BUDGET = 3.0
RUNS = 41
COMMAND = Path(sys.executable).parent / "cgmigrate"
RACERS = {
    "python": [sys.executable, "-c", "pass"],
    "version": [str(COMMAND), "--version"],
    "help": [str(COMMAND), "--help"],
}


def measure(runs: int) -> dict[str, float]:
    """Return the median wall time of each racer in seconds; they take turns, so all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in RACERS}
    for _ in range(runs + 1):
        for name, words in RACERS.items():
            begin = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - begin)
    return {
        name: statistics.median(each[1:]) for name, each in times.items()
    }  # the first one fills the caches


def main() -> int:
    """Measure and print; exit 1 when over budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    medians = measure(arguments.runs)
    figures = {
        "runs": arguments.runs,
        "python_s": round(medians["python"], 4),
        "version_s": round(medians["version"], 4),
        "help_s": round(medians["help"], 4),
        "ratio": round(medians["version"] / medians["python"], 2),
        "help_ratio": round(medians["help"] / medians["python"], 2),
        "budget": BUDGET,
    }
    print(
        f"--version: {figures['ratio']:.2f} x `python3 -c pass` ({figures['version_s'] * 1000:.0f} ms / "
        f"{figures['python_s'] * 1000:.0f} ms, median of {arguments.runs}), budget {BUDGET:g}; "
        f"--help {figures['help_ratio']:.2f} x ({figures['help_s'] * 1000:.0f} ms)"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if max(figures["ratio"], figures["help_ratio"]) <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())

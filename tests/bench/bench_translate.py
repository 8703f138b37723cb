# SPDX-License-Identifier: Apache-2.0
"""Translate a log: `cgmigrate translate -` against Perl and GNU sed, whole processes, taking turns, equal output required.

python -m tests.bench.bench_translate [--json FILE] [--lines N] [--runs N]

A third of the lines holds a path of one of 200 pods and 600 containers, in the forms that a kubelet's log, cAdvisor's
metrics and `/proc` have; some hold two, some one that must stay. The peers in `peers/` are the fastest that were found
for this log, and know no more than it needs. All run in a UTF-8 locale, as an operator's shell has it; since sed is
faster in the C locale, the ratio to that is printed as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

BUDGETS = {"perl": 1.0, "sed": 0.1}
LINES = 1_000_000
RUNS = 5
PEERS = Path(__file__).resolve().parent / "peers"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
COMMAND = (
    str(Path(sys.executable).parent / "cgmigrate"),
    "translate",
    "--to",
    "systemd",
    "--runtime",
    "docker",
    "-",
)
SED = ("sed", "-E", "-f", str(PEERS / "translate.sed"))

RACERS: Mapping[str, tuple[Sequence[str], Mapping[str, str]]] = {
    "cgmigrate": (COMMAND, ENVIRONMENT),
    "perl": (("perl", "-p", str(PEERS / "translate.pl")), ENVIRONMENT),
    "sed": (SED, ENVIRONMENT),
    "sed in the C locale": (SED, {**ENVIRONMENT, "LC_ALL": "C"}),
}

TIMES = "Nov 22 14:{m:02}:{s:02} node-7"
WITH_PATH = {
    TIMES + ' kubelet[2211]: manager.go:{n}] Added container: "{p}" (aliases: [k8s_app_web-{n}])': 25,
    'container_memory_working_set_bytes{{container="app",id="{p}",image="app:1.{n}",pod="web-{n}"}} {u}': 40,
    TIMES + " oomd: killed {n} in /sys/fs/cgroup/memory{p}: usage above limit for {s} s": 10,
    TIMES + " agent: read /sys/fs/cgroup/cpu,cpuacct{p}/cpuacct.usage in {u} ns": 10,
    "{n}: 4:memory:{p}": 10,
    TIMES + ' audit: cgroup="{p}" peer="{other}"': 2,
    'container_cpu_usage_seconds_total{{id="{level}"}} {u}': 2,
    TIMES + " systemd[1]: Created slice kubepods-burstable-pod{n}.slice.": 1,
    TIMES + ' rules: id=~"/kubepods/burstable/pod.+" for {n} s': 0.05,
}
WITHOUT = (
    TIMES + ' kubelet[2211]: prober.go:{n}] Readiness probe for "web-{n}_prod(3f2a):app" succeeded',
    TIMES
    + ' dockerd[981]: level=info msg="ignoring event" container={h} module=libcontainerd topic=/tasks/delete',
    '10.0.{m}.{s} - - [22/Nov/2025:14:{m:02}:{s:02} +0000] "GET /api/v1/items/{n}?page={s} HTTP/1.1" 200 {u}',
    'node_cpu_seconds_total{{cpu="{s}",mode="idle"}} {u}.{n}',
)


def log(count: int) -> Iterator[str]:
    """Yield the same lines each time."""
    rng = random.Random(1)
    paths = list(pods(rng))
    containers = [f"{rng.getrandbits(256):064x}" for _ in range(50)]
    forms, weights = list(WITH_PATH), list(WITH_PATH.values())
    for _ in range(count):
        form = rng.choices(forms, weights)[0] if rng.randrange(3) == 0 else rng.choice(WITHOUT)
        yield (
            form.format(
                p=rng.choice(paths),
                other=rng.choice(paths),
                level=rng.choice(("/kubepods", "/kubepods/burstable", "/kubepods/besteffort")),
                h=rng.choice(containers),
                m=rng.randrange(60),
                s=rng.randrange(60),
                n=rng.randrange(10_000),
                u=rng.randrange(1_000_000),
            )
            + "\n"
        )


def pods(rng: random.Random) -> Iterator[str]:
    """Yield the paths of 200 pods, every tenth of them static, and of three containers of each."""
    for number in range(200):
        uid = uuid.UUID(int=rng.getrandbits(128))
        pod = f"/kubepods{rng.choice(('', '/burstable', '/besteffort'))}/pod{uid.hex if number % 10 == 0 else uid}"
        yield pod
        yield from (f"{pod}/{rng.getrandbits(256):064x}" for _ in range(3))


def digest(racer: str, file: Path) -> str:
    """Return a digest of what a racer makes of the log."""
    words, environment = RACERS[racer]
    with file.open("rb") as source:
        done = subprocess.run(words, stdin=source, stdout=subprocess.PIPE, check=True, env=environment)
    return hashlib.sha256(done.stdout).hexdigest()


def seconds(racer: str, file: Path) -> float:
    """Return the wall time of a whole process that reads the log from a file and writes to /dev/null."""
    words, environment = RACERS[racer]
    with file.open("rb") as source:
        begin = time.perf_counter()
        subprocess.run(words, stdin=source, stdout=subprocess.DEVNULL, check=True, env=environment)
        return time.perf_counter() - begin


def main() -> int:
    """Measure and print; exit 1 when over budget or when the outputs differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cgmigrate-bench-") as directory:
        file = Path(directory) / "log"
        with file.open("w") as stream:
            stream.writelines(log(arguments.lines))
        if len({digest(racer, file) for racer in RACERS}) != 1:
            print(
                "the outputs differ: " + ", ".join(f"{racer} {digest(racer, file)[:8]}" for racer in RACERS)
            )
            return 1
        times: dict[str, list[float]] = {racer: [] for racer in RACERS}
        for _ in range(arguments.runs):
            for racer, found in times.items():
                found.append(seconds(racer, file))
    medians = {racer: statistics.median(found) for racer, found in times.items()}
    own = medians["cgmigrate"]
    figures = {
        "lines": arguments.lines,
        "runs": arguments.runs,
        **{f"{racer.replace(' ', '_')}_s": round(median, 3) for racer, median in medians.items()},
        "ratio_perl": round(own / medians["perl"], 3),
        "ratio_sed": round(own / medians["sed"], 3),
        "ratio_sed_in_c_locale": round(own / medians["sed in the C locale"], 3),
    }
    print(f"{arguments.lines} lines, output equal; median of {arguments.runs}: cgmigrate {own:.2f} s")
    for racer, median in medians.items():
        if racer != "cgmigrate":
            budget = f", budget {BUDGETS[racer]:g}" if racer in BUDGETS else ""
            print(f"{own / median:.3f} x {racer} ({median:.2f} s){budget}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(own / medians[racer] <= budget for racer, budget in BUDGETS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())

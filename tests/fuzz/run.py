# SPDX-License-Identifier: Apache-2.0
"""Feed hostile input to every parser, for as long as is wanted, and keep the figures.

python -m tests.fuzz.run                                   a minute over all targets; exit 1 when one breaks
python -m tests.fuzz.run --target plan --seconds 600       one target for ten minutes of CPU
python -m tests.fuzz.run --runs 10000000 --figures F.json  a campaign: goes on where F.json ends; stop it at any time
python -m tests.fuzz.run --write --figures F.json …        docs/fuzzing.md from the figures of one or more campaigns

Each round gives every target the same CPU time; input k of (seed, target, round) is always the same bytes. What breaks is
made small and written to tests/fuzz/corpus/<target>/, where test_fuzz.py replays it for ever. Engines: `mutate` (the
default), `hypothesis`, and `atheris` (coverage-guided; needs `pip install atheris`, one target in one process).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.judge import MEMORY, SECONDS, Crash, judge, limits, shrunk
from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import ROOT, TARGETS, Target

CORPUS = Path(__file__).resolve().parent / "corpus"
PAGE = ROOT / "docs" / "fuzzing.md"
SLICE = 2.0
"""Seconds of CPU that one target gets in one round."""


@dataclass
class Tally:
    """What one target has been through."""

    runs: int = 0
    refused: int = 0
    seconds: float = 0.0
    broken: dict[str, int] = field(default_factory=dict)
    """Signature of a crash → how many inputs had it."""


@dataclass
class Figures:
    """One campaign; `source` is a digest of migrator/, so that nobody takes old figures for new ones."""

    engine: str
    seed: int
    source: str
    rounds: int = 0
    targets: dict[str, Tally] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """Inputs of all targets."""
        return sum(tally.runs for tally in self.targets.values())

    @property
    def broken(self) -> int:
        """Distinct defects."""
        return sum(len(tally.broken) for tally in self.targets.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    options = _options(argv)
    if options.write:
        PAGE.write_text(page([_load(Path(path)) for path in options.figures]))
        return 0
    names = options.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        sys.exit(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if options.engine == "atheris":
        return atheris(TARGETS[names[0]], options.runs, options.seed, int(options.seconds or 60))
    seconds = options.seconds or (0.0 if options.runs else 60.0)
    jobs = [
        Job(
            name_of(options.figures, at),
            options.engine,
            tuple(names),
            options.seed + at,
            share(options.runs, options.jobs),
            seconds,
        )
        for at in range(options.jobs)
    ]
    if len(jobs) == 1:
        return campaign(jobs[0])
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        return max(pool.map(campaign, jobs))


def name_of(figures: Sequence[str], job: int) -> Path | None:
    """Return where a job keeps its figures: each its own, the first as given."""
    if not figures:
        return None
    path = Path(figures[0])
    return path.with_suffix(f".{job}{path.suffix}") if job else path


def share(runs: int, jobs: int) -> int:
    """Return how many of the inputs each job makes."""
    return -(-runs // jobs)


@dataclass(frozen=True)
class Job:
    """What one process does: `runs` inputs, or `seconds` of CPU, whichever ends first; 0 is no end."""

    path: Path | None
    engine: str
    names: tuple[str, ...]
    seed: int
    runs: int
    seconds: float


def campaign(job: Job) -> int:
    """Run rounds over the targets to the job's end; return 1 when an input broke something, ever."""
    path, engine, names, seed = job.path, job.engine, job.names, job.seed
    figures = Figures(engine, seed, source())
    if path and path.exists():
        figures = _load(path)
        if (figures.seed, figures.source, figures.engine) != (seed, source(), engine):
            sys.exit(f"{path} is of another seed, engine or source; give another --figures")
    for name in names:
        for data in TARGETS[name].seeds:  # what is loaded late is loaded before memory is counted
            judge(TARGETS[name], data)
    began = _cpu(figures)
    slice_ = min(SLICE, job.seconds / len(names)) if job.seconds else SLICE
    with limits():
        while True:
            for name in names:
                tally = figures.targets.setdefault(name, Tally())
                source_ = inputs(engine, TARGETS[name], f"{seed}:{name}:{figures.rounds}")
                crashes = sample(TARGETS[name], source_, slice_, tally)
                for crash in crashes:
                    report(crash)
                if _is_done(figures, job, began):
                    break
            figures.rounds += 1
            if path:
                _save(path, figures)
            if _is_done(figures, job, began):
                break
    print(table(figures))
    return 1 if figures.broken else 0


def _is_done(figures: Figures, job: Job, began: float) -> bool:
    is_counted = bool(job.runs) and figures.runs >= job.runs
    return is_counted or (bool(job.seconds) and _cpu(figures) - began >= job.seconds)


def _cpu(figures: Figures) -> float:
    return sum(tally.seconds for tally in figures.targets.values())


def sample(target: Target, source_: Iterator[bytes], seconds: float, tally: Tally) -> list[Crash]:
    """Run inputs for some seconds of CPU; return the first, made small, of each kind that broke something new."""
    found: list[Crash] = []
    used, began = 0.0, time.process_time()
    for data in source_:
        verdict = judge(target, data)
        tally.runs += 1
        tally.refused += verdict.refused
        used += time.process_time() - began
        if crash := verdict.crash:
            if crash.signature not in tally.broken:
                found.append(crash if "TooSlow" in crash.signature else shrunk(target, crash))
            tally.broken[crash.signature] = tally.broken.get(crash.signature, 0) + 1
        began = time.process_time()  # making it small is no part of the figures
        if used >= seconds:
            break
    tally.seconds += used
    return found


def inputs(engine: str, target: Target, key: str) -> Iterator[bytes]:
    """Return an endless source of inputs, the same for the same key."""
    if engine == "hypothesis":
        return _from_hypothesis(target, key)
    return iter(Mutator(target.seeds, target.words, key, json_like=target.json_like))


def _from_hypothesis(target: Target, key: str) -> Iterator[bytes]:
    """Let Hypothesis choose seed, places and pieces."""
    from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415 late: one engine of three
    from hypothesis import seed as seeded  # noqa: PLC0415
    from hypothesis import strategies as st  # noqa: PLC0415

    piece = st.one_of(
        st.sampled_from(target.words or (b"",)), st.binary(max_size=16), st.text(max_size=8).map(_utf8)
    )
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), piece), max_size=6)
    made: list[bytes] = []

    def draw(data: bytes, changes: list[tuple[float, int, bytes]]) -> None:
        for at, length, new in changes:
            start = int(at * len(data))
            data = data[:start] + new + data[start + length :]
        made.append(data)

    good = st.one_of(st.sampled_from(target.seeds), st.binary(max_size=400))
    for number in itertools.count():
        chance = int.from_bytes(hashlib.sha256(f"{key}:{number}".encode()).digest()[:8], "big")
        plain = settings(
            max_examples=500,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seeded(chance)(plain(given(good, edits)(draw)))()
        yield from made
        made.clear()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def atheris(target: Target, runs: int, seed: int, seconds: int) -> int:
    """Fuzz one target by coverage with atheris, which ends the process at the first crash."""
    engine = importlib.import_module("atheris")  # optional, and nobody else's
    with engine.instrument_imports(include=["migrator"]):
        for name in [name for name in sys.modules if name.startswith(("migrator", "tests.fuzz.targets"))]:
            del sys.modules[name]
        targets = importlib.import_module("tests.fuzz.targets")  # again, and now instrumented

    again = targets.TARGETS[target.name]

    def one(data: bytes) -> None:
        with contextlib.suppress(*again.may_raise):
            again.run(data)

    directory = CORPUS.parents[2] / "build" / "fuzz" / target.name
    directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds):
        (directory / f"seed-{number}").write_bytes(data)
    words = directory.with_suffix(".dict")
    spelled = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words if word)
    words.write_text("".join(f'"{word}"\n' for word in spelled))
    limits_ = [f"-timeout={SECONDS:g}", f"-rss_limit_mb={(MEMORY >> 20) + 300}", f"-max_total_time={seconds}"]
    limits_ += [
        f"-artifact_prefix={directory}-",
        f"-seed={seed}",
        f"-dict={words}",
        *([f"-runs={runs}"] if runs else []),
    ]
    engine.Setup([sys.argv[0], *limits_, str(directory)], one)
    engine.Fuzz()
    return 0


def report(crash: Crash) -> None:
    """Write what broke to the corpus, and say so."""
    directory = CORPUS / crash.target
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / crash.name
    path.write_bytes(crash.data)
    print(
        f"BROKEN {crash.target}: {crash.signature}: {crash.detail}\n  {path.name}: {crash.data[:300]!r}",
        flush=True,
    )


def table(figures: Figures) -> str:
    """Return the figures as rows of a Markdown table."""
    rows = ["| target | inputs | refused | per second | broken |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, tally in sorted(figures.targets.items()):
        rate = tally.runs / tally.seconds if tally.seconds else 0
        refused = 100 * tally.refused / (tally.runs or 1)
        rows.append(f"| {name} | {tally.runs:,} | {refused:.0f} % | {rate:,.0f} | {len(tally.broken)} |")
    seconds = sum(tally.seconds for tally in figures.targets.values())
    rows.append(
        f"| **all** | **{figures.runs:,}** | | {figures.runs / (seconds or 1):,.0f} | **{figures.broken}** |"
    )
    return "\n".join(rows)


def _found(campaigns: Sequence[Figures]) -> str:
    """Say what broke, by name: a fault of the parser, or one of the promises that a target holds it to."""
    found = [
        f"{target}: {what}"
        for each in campaigns
        for target, tally in each.targets.items()
        for what in tally.broken
    ]
    return "nothing broke" if not found else "what broke is mended, and in the corpus: " + "; ".join(found)


def page(campaigns: Sequence[Figures]) -> str:
    """Return docs/fuzzing.md."""
    total = sum(each.runs for each in campaigns)
    lines = [
        "# Fuzzing",
        "",
        f"**{total:,} inputs over {len(TARGETS)} parsers; {_found(campaigns)}.** Every parser of something that",
        "cgmigrate did not write itself was fed with damaged and hostile input: it may answer, or refuse with the error that it",
        f"documents; anything else, more than {SECONDS:g} s of CPU, or more than {MEMORY >> 20} MiB of memory is a defect.",
        "",
        "Run `make fuzz` after a change to a parser (`SECONDS=600` for longer, `TARGET=plan` for one). CI runs a minute and a half",
        "of it with a seed that it prints, replays every input that ever broke something (`tests/fuzz/corpus`), and holds every",
        "parser to the table of classic attacks in `tests/fuzz/test_hostile.py`. This page is written by",
        "`python -m tests.fuzz.run --write --figures FILE…` from the figures of a campaign, which `--runs 10000000 --figures FILE`",
        "makes or continues. *Refused* is the share of inputs that ended in a documented error.",
        "",
    ]
    for each in campaigns:
        seconds = sum(tally.seconds for tally in each.targets.values())
        lines += [
            f"## Engine `{each.engine}`, seed {each.seed}",
            "",
            f"{each.rounds} rounds, {seconds / 3600:.1f} h of CPU, source {each.source}.",
            "",
            table(each),
            "",
        ]
    return "\n".join(lines)


def source() -> str:
    """Return a digest of the code that is tested and of what tests it."""
    digest = hashlib.sha256()
    for path in sorted(
        [
            *(ROOT / "migrator").rglob("*.py"),
            *(ROOT / "migrator").rglob("*.json"),
            *CORPUS.parent.glob("*.py"),
        ]
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _load(path: Path) -> Figures:
    data: dict[str, Any] = json.loads(path.read_bytes())
    return Figures(**{**data, "targets": {name: Tally(**tally) for name, tally in data["targets"].items()}})


def _save(path: Path, figures: Figures) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(figures), indent=1))
    temporary.replace(path)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=("mutate", "hypothesis", "atheris"), default="mutate")
    parser.add_argument("--target", action="append", help="of: " + ", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=0, help="inputs in total")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CGMIGRATE_FUZZ_SEED", "1")))
    parser.add_argument("--seconds", type=float, default=0, help="of CPU in total, for each job")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--figures", nargs="+", default=[], help="file that keeps a campaign")
    parser.add_argument("--write", action="store_true", help="write docs/fuzzing.md from the figures")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

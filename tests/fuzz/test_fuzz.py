# SPDX-License-Identifier: Apache-2.0
"""A minute and a half of fuzzing, and every input that ever broke something.

CGMIGRATE_FUZZ_SEED gives other inputs; a failure names the seed, and the input as Python writes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.judge import MEMORY, judge, limits
from tests.fuzz.judge import SECONDS as ALLOWED
from tests.fuzz.mutate import Mutator
from tests.fuzz.run import CORPUS, PAGE, Figures, Tally, inputs, page, sample
from tests.fuzz.targets import TARGETS, BrokenError, Target

SEED = int(os.environ.get("CGMIGRATE_FUZZ_SEED", "1"))
SECONDS = 3.0
"""Of CPU for one target: a minute and a half for all."""

KEPT = [path for path in sorted(CORPUS.glob("*/*")) if path.is_file()]


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_is_answered_or_refused(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds:
        assert judge(target, data).crash is None, data
    tally = Tally()
    with limits():
        crashes = sample(target, inputs("mutate", target, f"{SEED}:{name}:0"), SECONDS, tally)
    print(f"{name}: seed {SEED}, {tally.runs} inputs, {tally.refused} refused")
    assert [] == [(f"seed {SEED}", crash.signature, crash.detail, crash.data) for crash in crashes]
    assert tally.runs > 0


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read(name: str) -> None:
    """Else the inputs that are made of them would be refused at the door, and prove nothing."""
    read = [data for data in TARGETS[name].seeds if not judge(TARGETS[name], data).refused]
    assert list(TARGETS[name].seeds) == read


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_broke_is_mended(path: Path) -> None:
    with limits():
        crash = judge(TARGETS[path.parent.name], path.read_bytes()).crash
    assert crash is None, (crash.signature, crash.detail)


def test_the_same_seed_makes_the_same_inputs() -> None:
    def first(seed: str) -> list[bytes]:
        target = TARGETS["plan"]
        made = Mutator(target.seeds, target.words, seed, json_like=True)
        return [made.one() for _ in range(50)]

    assert first("1:plan:0") == first("1:plan:0")
    assert first("1:plan:0") != first("2:plan:0")


def _spin(_: bytes) -> None:
    while True:
        pass


def _grow(_: bytes) -> None:
    bytearray(400 * 1024 * 1024)


def _stumble(data: bytes) -> None:
    if b"(" in data:
        raise ZeroDivisionError


def _break(_: bytes) -> None:
    raise BrokenError("a promise: not kept")


def _refuse(_: bytes) -> None:
    raise ValueError


@pytest.mark.parametrize(
    ("run", "signature"),
    [
        (_spin, "TooSlowError in tests/fuzz/judge.py:judge"),
        (_grow, "MemoryError in tests/fuzz/judge.py:judge"),
        (_stumble, "ZeroDivisionError in tests/fuzz/test_fuzz.py:_stumble"),
        (_break, "a promise"),
        (_refuse, None),
    ],
)
def test_what_is_wrong_is_noticed(run: Callable[[bytes], None], signature: str | None) -> None:
    """The judge itself: without this, a fuzzer that sees nothing looks like a parser that holds."""
    with limits():
        verdict = judge(Target("t", run, (ValueError,), ()), b"x(")
    assert (verdict.crash and verdict.crash.signature, verdict.refused) == (signature, signature is None)


def test_the_page_adds_campaigns_up() -> None:
    tally = Tally(runs=1500, refused=750, seconds=3.0, broken={"x": 2})
    text = page(
        [Figures("mutate", 7, "abc", 2, {"plan": tally}), Figures("atheris", 8, "abc", 1, {"plan": tally})]
    )
    assert "**3,000 inputs" in text
    assert "| plan | 1,500 | 50 % | 500 | 1 |" in text
    assert "seed 7" in text
    assert "seed 8" in text


def test_the_page_of_the_last_campaign_names_the_parsers_and_limits_of_now() -> None:
    said = " ".join(PAGE.read_text().split())

    assert f"inputs over {len(TARGETS)} parsers" in said
    assert f"more than {ALLOWED:g} s of CPU, or more than {MEMORY >> 20} MiB of memory is a defect" in said

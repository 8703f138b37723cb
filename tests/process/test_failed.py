# SPDX-License-Identifier: Apache-2.0
"""Each call of the real command that changes something is refused by the disk, once or from then on.

What is refused is counted from a good run; the exit code tells how it ended, and the files must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.command import (
    Done,
    Effect,
    Prepared,
    injected,
    process,
    settle,
    snapshot,
    standing,
)

SHARES = 8
ERRORS = {
    "fsync": ("EIO", "ENOSPC+"),
    "rename": ("ENOSPC", "EIO+", "EROFS", "EACCES+"),
    "openat": ("ENOSPC", "EROFS"),
    "write": ("ENOSPC", "EIO"),
    "mkdir": ("ENOSPC", "EROFS+"),
    "unlink": ("EIO", "EACCES"),
    "ftruncate": ("ENOSPC",),
    "pwrite64": ("ENOSPC",),
    "chmod": ("EROFS",),
    "fchmod": ("EPERM",),
    "fchown": ("EPERM",),
}
"""Errors that a call can meet; + means that it meets them from then on."""


def faults(direction: str, effects: list[Effect]) -> Iterator[tuple[Effect, str]]:
    """Yield every call with its errors: all of them where it is an fsync or a rename of a run, else one, in turn.

    Until a run has its name, and in its log, writing ends like opening; `resume` does what `apply` does.
    """
    turn = 0
    for effect in effects:
        errors = ERRORS[effect.call]
        making, log = "/runs/.RUN" in effect.path, effect.path.endswith("log.jsonl")
        if effect.call == "write" and (making or log):
            continue
        turn += 1
        every = effect.call in ("fsync", "rename") and not making and direction != "resume"
        for error in errors if every else [errors[turn % len(errors)]]:
            yield effect, error


def test_every_call_that_changes_something_has_its_errors(prepared: Prepared) -> None:
    directions = (prepared.forward, prepared.back, prepared.again)

    assert set() == {effect.call for effects in directions for effect in effects} - set(ERRORS)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("direction", ["apply", "rollback", "resume"])
def test_a_refused_call_ends_as_the_exit_code_says_and_can_be_settled(
    prepared: Prepared, tmp_path: Path, direction: str, share: int
) -> None:
    wrong = []
    cases = list(faults(direction, prepared.effects(direction)))
    log = tmp_path / "log"
    for effect, error in cases[share::SHARES]:
        node, words = prepared.begin(direction, tmp_path / "node")
        until = "+" if error.endswith("+") else ""
        inject = f"{effect.call}:error={error.rstrip('+')}:when={effect.when}{until}"
        done = process(*words, trace=effect.call, inject=[inject], log=log)
        met = injected(log, node)
        found = [] if (effect.call, effect.path) in met[:1] else [f"met {met[:1]}, count anew"]
        found += ended(prepared, direction, node, done)
        journalled = "without its journal" not in done.err
        found += settle(prepared, node, tmp_path / "resumed", journalled=journalled)
        wrong += [f"{effect} {error}: {each}" for each in found]

    assert len(cases) > SHARES
    assert not wrong, "\n".join(wrong)


def ended(prepared: Prepared, direction: str, node: Path, done: Done) -> list[str]:
    """Return where exit code, `status` and files disagree."""
    told, files = standing(node), snapshot(node)
    before = prepared.last if direction == "rollback" else prepared.first
    is_first, is_last = files == prepared.first, files == prepared.last
    if done.crashed:
        return [f"crashed: {done.err}"]
    match done.code:
        case 0 if direction == "rollback":
            right = is_first and told == "rolled-back"
        case 0:
            right = is_last and told == "committed"
        case 4:  # nothing was changed
            right = files == before and told in ("none", "planned", "rolled-back", "applying", "committed")
        case 5:
            right = is_first and told == "rolled-back" and direction != "rollback"
        case 6:
            right = told in ("dirty", "applying", "rolling-back") or (
                direction == "rollback" and "the rollback goes on without its journal" in done.err
            )
        case _:
            right = False
    return [] if right else [f"exit code {done.code}, and the run is {told}: {done.err}"]

# SPDX-License-Identifier: Apache-2.0
"""A unified diff that an operator may paste into a ticket: secrets are masked, line for line."""

from __future__ import annotations

import difflib
import re

from migrator.configs.secrets import MASK, mask_secrets

__all__ = ["MASK", "unified_diff"]

_MANY_LINES = 4000
"""From here on lines that stand everywhere are no landmarks: comparing them all would take for ever."""

# A terminal must not act on what a configuration file holds.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n|\Z)")


def unified_diff(path: str, before: bytes | None, after: bytes | None, context: int = 3) -> str:
    """Return the unified diff of a file with secrets masked; empty when nothing changes.

    Args:
        path: the name in the two header lines.
        before: the old text; None when there was no file.
        after: the new text; None when there will be no file.
        context: how many unchanged lines to show around a change.
    """
    if before == after:
        return ""
    old, new = _lines(before), _lines(after)
    shown_old, shown_new = _shown(before), _shown(after)
    first, tail = _window(old, new, context)
    matcher = difflib.SequenceMatcher(
        None,
        old[first : len(old) - tail],
        new[first : len(new) - tail],
        autojunk=len(old) + len(new) > _MANY_LINES,
    )
    out = [
        f"--- {path if before is not None else '/dev/null'}\n",
        f"+++ {path if after is not None else '/dev/null'}\n",
    ]
    for group in matcher.get_grouped_opcodes(context):
        shifted = [(tag, a + first, b + first, c + first, d + first) for tag, a, b, c, d in group]
        old_range = _range(shifted[0][1], shifted[-1][2])
        new_range = _range(shifted[0][3], shifted[-1][4])
        out.append(f"@@ -{old_range} +{new_range} @@\n")
        for tag, old_start, old_end, new_start, new_end in shifted:
            if tag == "equal":
                out += [_shown_line(" ", line) for line in shown_old[old_start:old_end]]
                continue
            out += [_shown_line("-", line) for line in shown_old[old_start:old_end]]
            out += [_shown_line("+", line) for line in shown_new[new_start:new_end]]
    return "".join(out)


def _window(old: list[str], new: list[str], context: int) -> tuple[int, int]:
    """Return how many equal lines to leave out at both ends: comparing is quadratic where lines repeat."""
    shorter = min(len(old), len(new))
    head = tail = 0
    while head < shorter and old[head] == new[head]:
        head += 1
    while tail < shorter - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return max(0, head - context), max(0, tail - context)


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode("utf-8", "backslashreplace")
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _shown(data: bytes | None) -> list[str]:
    text = mask_secrets("".join(_lines(data)))
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _shown_line(column: str, line: str) -> str:
    line = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line)
    return f"{column}{line}" if line.endswith("\n") else f"{column}{line}\n\\ No newline at end of file\n"


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"

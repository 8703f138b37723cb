# SPDX-License-Identifier: Apache-2.0
"""Who writes a file, as its own first comments say: a change by hand lasts until that tool's next run (F19)."""

from __future__ import annotations

import re

_HEADER_LINES = 40
_COMMENT = re.compile(rb"\s*(?:#|;|//|/\*|\*|--)(.*)", re.DOTALL)

MANAGERS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        # `ansible_managed` is "Ansible managed" by default; people prefix and extend it.
        "Ansible": r"\bansible[ _-]managed\b|\b(?:managed|generated|written|created|deployed) (?:by|with) ansible\b",
        "Puppet": r"\b(?:managed|generated|maintained|controlled|written) (?:by|with) puppet\b|\bpuppet[ -]managed\b",
        "Chef": r"\b(?:managed|generated|maintained|written) (?:by|with) (?:chef|cinc)\b|\bchef[ -]managed\b",
        "Salt": r"\b(?:managed|generated|maintained|written) (?:by|with) salt(?:stack)?\b|\bsalt[ -]managed\b",
        "CFEngine": r"\b(?:managed|generated|maintained|written) (?:by|with) cfengine\b",
        "cloud-init": r"\b(?:managed|generated|installed|written|created) (?:by|with|from) cloud-init\b",
    }.items()
}
"""What the headers of each tool say."""

_DENIED = re.compile(
    r"(?:\bnot|n't|\bnever|\bno longer|\bformerly|\bpreviously|\bused to)(?: +(?:be|been|being|yet|currently))? +\Z",
    re.IGNORECASE,
)
"""What right before such words makes them say the opposite; in "do not edit, managed by" it is about something else."""


def managed_by(text: bytes) -> tuple[str, int]:
    """Return the tool that a file's first comments name, and the line; empty and 0 for none."""
    for number, line in enumerate(text[: 1 << 14].split(b"\n")[:_HEADER_LINES], start=1):
        comment = _COMMENT.match(line)
        said = comment[1].decode("utf-8", "replace") if comment else ""
        for name, pattern in MANAGERS.items():
            if any(not _DENIED.search(said, 0, found.start()) for found in pattern.finditer(said)):
                return name, number
    return "", 0

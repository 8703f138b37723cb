# SPDX-License-Identifier: Apache-2.0
"""The one place where text from the node is made fit for a terminal; whatever writes to one comes through here.

File, unit, pod and host names, messages of daemons, configuration and reviewed plans are other people's text. What in it
could steer a terminal, reorder a line or hide in one is shown as an escape instead. JSON needs nothing of this: it is
written in ASCII. `translate` is exempt: it is a filter, and its output is the input but for the paths.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from io import TextIOWrapper

# Unicode calls these letters or marks, and draws nothing for them: Default_Ignorable_Code_Point, and the empty Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def plain(text: str) -> str:
    r"""Return text with everything that a reader would not see as itself shown as an escape: ESC as `\x1b`, a newline as `\x0a`.

    Bidirectional overrides, zero-width and other invisible characters and undecodable bytes are shown too.
    """
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    return "".join(
        character if character.isprintable() and not _INVISIBLE.match(character) else _escape(ord(character))
        for character in text
    )


def take_any_text() -> None:
    """Let a terminal that knows fewer characters than we write show their escapes, rather than end what was going on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def plain_mode() -> bool:
    """Tell whether lines are written and nothing is drawn: for a screen reader, or a terminal that cannot."""
    return bool(os.environ.get("CGMIGRATE_PLAIN")) or os.environ.get("TERM") == "dumb"


def wrap(line: str, width: int) -> list[str]:
    """Return a line in pieces of at most `width` columns, all under its indent; a word that is longer stays whole."""
    if len(line) <= width:
        return [line]
    import textwrap  # noqa: PLC0415 - late

    indent = len(line) - len(line.lstrip(" ").removeprefix("- "))
    return textwrap.wrap(
        line,
        max(width, 20),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def note(line: str) -> None:
    """Tell a line on stderr, if anybody listens: a terminal that went away never decides what a run does."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(plain(line) + "\n")
        sys.stderr.flush()


def paragraph(text: str) -> None:
    """Tell a text of several lines on stderr; all but the first are indented, so none can pass for the start of another."""
    first, *others = text.split("\n")
    note(first)
    for line in others:
        note(f"    {line}" if line else "")


def ascii_json(document: object) -> str:
    """Return a document as JSON text that holds nothing but printable ASCII and newlines."""
    import json  # noqa: PLC0415 - late: `translate -` starts faster without

    return json.dumps(document, indent=2, sort_keys=True)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # what surrogateescape makes of an undecodable byte
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

# SPDX-License-Identifier: Apache-2.0
"""A terminal to write views to."""

from __future__ import annotations

import io
import re

SGR = re.compile(r"\x1b\[[0-9;]*m")
"""A colour."""


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

# SPDX-License-Identifier: Apache-2.0
"""Configuration files as text: read the driver out of them, and write it in without touching anything else.

Everything here is pure: bytes in, data or bytes out. Files are read and written by steps, undone from blobs.
"""

from __future__ import annotations

from migrator.configs.diff import MASK, unified_diff
from migrator.configs.text import ConfigSyntaxError, Edit, Edited, UnsupportedShapeError

__all__ = ["MASK", "ConfigSyntaxError", "Edit", "Edited", "UnsupportedShapeError", "unified_diff"]

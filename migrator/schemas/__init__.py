# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of every format that cgmigrate reads or writes; the version is in the file's name."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

NAMES = ("answers-1", "audit-1", "facts-1", "plan-1", "report-1", "verify-1")


def schema_bytes(name: str) -> bytes:
    """Return a schema's text.

    Raises:
        KeyError: no schema of this name.
    """
    if name not in NAMES:
        raise KeyError(name)
    return resources.files(__name__).joinpath(f"{name}.schema.json").read_bytes()


def load_schema(name: str) -> dict[str, Any]:
    """Return a schema as data."""
    schema: dict[str, Any] = json.loads(schema_bytes(name))
    return schema

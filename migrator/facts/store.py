# SPDX-License-Identifier: Apache-2.0
"""Facts as JSON and back, and the digest that a plan carries."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from migrator.configs.text import is_deeper
from migrator.errors import UsageError
from migrator.facts.model import FACTS_VERSION, Facts

if TYPE_CHECKING:
    from cattrs import Converter

SCHEMA = "facts-1.schema.json"

_PASSING: Mapping[str, frozenset[str]] = {
    "node": frozenset({"boot_id", "uid"}),
    "unit": frozenset({"main_pid", "invocation_id", "active_state", "sub_state"}),
    "units": frozenset({"main_pid", "invocation_id", "active_state", "sub_state"}),
    "containers": frozenset({"pids", "state"}),
    "other_containers": frozenset({"pids", "state"}),
    "pods": frozenset({"sandbox_state"}),
    "trees": frozenset({"populated"}),
    "cgroups": frozenset({"descendants", "dying"}),
    "manager": frozenset({"bus_connections", "units", "mounts", "run_scopes", "cpu_percent"}),
    "unknowns": frozenset({"reason"}),
    "cluster": frozenset({"reason", "etcd_healthy", "etcd_unready"}),
    "cluster.node": frozenset({"ready"}),
    "cluster.control_plane": frozenset({"ready"}),
    "cluster.pods": frozenset({"phase", "ready", "terminating"}),
    "cluster.budgets": frozenset({"allowed", "healthy", "desired", "expected"}),
}
"""What `digest` leaves out, by the key that holds the object, or by the two last keys: see there."""

_MAX_FAULTS = 100  # of a document; one is told

_PROCESS = re.compile(r"^/proc/\d+/")


def to_json(facts: Facts) -> dict[str, Any]:
    """Return facts as plain JSON data."""
    return cast("dict[str, Any]", _converter().unstructure(facts))


def from_json(document: object) -> Facts:
    """Return the facts in a document.

    Raises:
        UsageError: it does not have the shape of `facts-1.schema.json`; the message says where.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 late: only a saved file needs it
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    if is_deeper(document):
        raise UsageError("malformed facts: nested too deeply")
    if isinstance(document, dict) and document.get("version", FACTS_VERSION) != FACTS_VERSION:
        raise UsageError(
            f"these facts are of version {document['version']!r:.40}, and this cgmigrate reads version {FACTS_VERSION}",
            hint="gather them again: `cgmigrate audit --format json`",
        )
    error = best_match(islice(Draft202012Validator(schema()).iter_errors(document), _MAX_FAULTS))
    if error is not None:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        raise UsageError(f"malformed facts at {where or 'the top'}: {error.message[:200]}")
    return _converter().structure(document, Facts)


def dump(facts: Facts) -> str:
    """Return facts as the text of a file; the same facts give the same text."""
    return json.dumps(to_json(facts), indent=1, sort_keys=True) + "\n"


def load(text: str | bytes) -> Facts:
    """Return the facts in the text of a file.

    Raises:
        UsageError: it is no JSON, or malformed.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"malformed facts: {error}") from error
    return from_json(document)


def digest(facts: Facts) -> str:
    """Return the SHA-256, in hex, of all facts that stay the same between two looks at a node nobody touches.

    Left out is what changes by itself: boot id, process ids, invocation ids; the active state of units, containers and
    sandboxes; which cgroups hold a process now; the kernel's and systemd's counters; the wording of why a fact is unknown; the uid
    that looked; and what the API server says of the health of nodes, pods, budgets and etcd. What is configured, which
    pods and containers there are, and where, all count.
    """
    text = json.dumps(_lasting("", "", to_json(facts)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of facts."""
    text = importlib.resources.files("migrator").joinpath("schemas", SCHEMA).read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


def _lasting(holder: str, key: str, value: object) -> object:
    match value:
        case dict():
            passing = _PASSING.get(f"{holder}.{key}", _PASSING.get(key, frozenset()))
            return {name: _lasting(key, name, inner) for name, inner in value.items() if name not in passing}
        case list():
            return [_lasting(holder, key, inner) for inner in value]
        case str():
            return _PROCESS.sub("/proc/PID/", value)
        case _:
            return value


@functools.cache
def _converter() -> Converter:
    import cattrs  # noqa: PLC0415 late: a look at the node needs no JSON

    return cattrs.Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list})

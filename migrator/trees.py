# SPDX-License-Identifier: Apache-2.0
"""Cgroup trees as a reader sees them, in the report and on the terminal; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from migrator.plan_table import Translation

_ID = re.compile(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One cgroup of a tree; `what` lives there, empty for those that only hold others."""

    path: str
    what: str = ""


def short(path: str) -> str:
    """Return a path for a reader: of a container's id the first twelve digits, as `docker ps` and `crictl ps` show it."""
    return _ID.sub(r"\1…", path)


def branches(places: Mapping[str, str]) -> tuple[Branch, ...]:
    """Return places, each with what lives there, and all that is above them, each before what is in it."""
    whole = dict(places)
    for path in places:
        parts = path.strip("/").split("/")
        for count in range(1, len(parts)):
            whole.setdefault("/" + "/".join(parts[:count]), "")
    return tuple(
        Branch(path=path, what=whole[path]) for path in sorted(whole, key=lambda path: path.split("/"))
    )


def before_and_after(
    rows: Sequence[Translation], going: Collection[tuple[str, str]] = ()
) -> tuple[tuple[Branch, ...], tuple[Branch, ...]]:
    """Return where all pods and containers of the table are, and where they will be; the pods `going` only are.

    Container ids are short. Who has no name is called nothing: it is called by its id in the path.
    """
    before, after = {}, {}
    for row in rows:
        goes = (row.namespace, row.pod) in going
        name = row.label if (row.pod if row.kind == "pod" else row.container) else ""
        before[_shortened(row.from_path, row)] = f"{name} (evicted)" if goes and row.kind == "pod" else name
        if not goes:
            after[_shortened(row.to_path, row)] = name
    return branches(before), branches(after)


def _shortened(path: str, row: Translation) -> str:
    return path.replace(row.container_id, row.container_id[:12]) if row.container_id else path

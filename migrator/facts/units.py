# SPDX-License-Identifier: Apache-2.0
"""Systemd units as facts: as systemd has them loaded, or, where it cannot be asked, as their files say."""

from __future__ import annotations

from migrator.errors import CgmigrateError, HostError
from migrator.facts.look import Look
from migrator.facts.model import Unit
from migrator.facts.node import UNIT_DIRECTORIES
from migrator.systemd import Units

_NOWHERE = "/dev/null"


def gather_unit(look: Look, units: Units | None, name: str) -> Unit:
    """Return a unit; `load_state` is `not-found` when there is none. `units` is None for an image."""
    if units is not None:
        try:
            state = units.state(name)
        except CgmigrateError as error:
            look.unknown("node.systemd", error)
        else:
            return Unit(
                name=name,
                load_state=state.load_state,
                active_state=state.active_state,
                sub_state=state.sub_state,
                unit_file_state=state.unit_file_state,
                fragment=state.fragment_path,
                drop_ins=state.drop_in_paths,
                main_pid=state.main_pid,
                invocation_id=state.invocation_id,
                need_daemon_reload=state.need_daemon_reload,
            )
    return unit_on_disk(look, name)


def unit_on_disk(look: Look, name: str) -> Unit:
    """Return a unit as its files say; states that only systemd knows stay empty (systemd.unit(5), load path)."""
    reader = look.reader
    candidates = (f"{directory}/{name}" for directory in UNIT_DIRECTORIES)
    fragment = next((path for path in candidates if reader.exists(path) or _is_null(look, path)), "")
    if not fragment:
        return Unit(name=name, load_state="not-found")
    if _is_null(look, fragment):
        return Unit(name=name, load_state="masked", unit_file_state="masked", fragment=fragment)
    return Unit(
        name=name,
        load_state="loaded",
        unit_file_state="enabled" if _enabled(look, name) else "disabled",
        fragment=fragment,
        drop_ins=drop_ins_on_disk(look, name),
    )


def drop_ins_on_disk(look: Look, name: str) -> tuple[str, ...]:
    """Return a unit's drop-ins in the order in which systemd reads them: by file name, wherever they are.

    The same file name in a more specific or earlier directory hides the others; a link to /dev/null hides them all.
    """
    stem, _, kind = name.rpartition(".")
    parts = stem.split("-")
    truncated = [f"{'-'.join(parts[:count])}-.{kind}" for count in range(len(parts) - 1, 0, -1)]
    found: dict[str, str] = {}
    for unit in (name, *truncated, kind):
        for directory in UNIT_DIRECTORIES:
            for file in look.reader.names(f"{directory}/{unit}.d"):
                if file.endswith(".conf"):
                    found.setdefault(file, f"{directory}/{unit}.d/{file}")
    return tuple(path for _, path in sorted(found.items()) if not _is_null(look, path))


def _enabled(look: Look, name: str) -> bool:
    """Tell whether any unit wants or requires this one by a link in /etc."""
    directory = UNIT_DIRECTORIES[0]
    return any(
        name in look.reader.names(f"{directory}/{each}")
        for each in look.reader.names(directory)
        if each.endswith((".wants", ".requires"))
    )


def _is_null(look: Look, path: str) -> bool:
    try:
        return look.reader.node_path(look.reader.resolve(path)) == _NOWHERE
    except HostError:
        return False

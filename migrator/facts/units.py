# SPDX-License-Identifier: Apache-2.0
"""Systemd units as facts: as systemd has them loaded, or, where it cannot be asked, as their files say."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from migrator.configs.flags import Flag, Origin, Word, flag_values, parse_env_file
from migrator.configs.text import ConfigSyntaxError
from migrator.configs.units import UnitConfig, effective_argv, order_drop_ins, parse_unit, unset_variables
from migrator.configs.words import plain_words
from migrator.errors import CgmigrateError, HostError
from migrator.facts.look import Look
from migrator.facts.model import Source, Unit
from migrator.facts.node import UNIT_DIRECTORIES
from migrator.host import Reader
from migrator.systemd import Units

_NOWHERE = "/dev/null"
GUARD = "00-cgmigrate-guard.conf"
"""The drop-in by which an open run keeps a unit down (decision 0003)."""


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
                triggers=triggers(look, (state.fragment_path, *state.drop_in_paths)),
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
    drop_ins = drop_ins_on_disk(look, name)
    return Unit(
        name=name,
        load_state="loaded",
        unit_file_state="enabled" if _enabled(look, name) else "disabled",
        fragment=fragment,
        drop_ins=drop_ins,
        triggers=triggers(look, (fragment, *drop_ins)),
    )


def triggers(look: Look, paths: Iterable[str]) -> tuple[str, ...]:
    """Return a unit's triggering conditions as `FILE:LINE: Condition…=|…`, those of a run's guard left out.

    An empty assignment takes away all before it (systemd.unit(5), "Conditions and Asserts").
    """
    found: list[str] = []
    for path in paths:
        if path.endswith(f"/{GUARD}"):
            continue
        for number, line in enumerate((look.reader.text(path) or "" if path else "").split("\n"), start=1):
            key, equals, value = (part.strip() for part in line.partition("="))
            if key.startswith("Condition") and equals and not value:
                found.clear()
            elif key.startswith("Condition") and value.startswith("|"):
                found.append(f"{path}:{number}: {key}={value}")
    return tuple(found)


def drop_ins_on_disk(look: Look, name: str) -> tuple[str, ...]:
    """Return a unit's drop-ins in the order in which systemd reads them; a link to /dev/null hides a file name."""
    stem, _, kind = name.rpartition(".")
    parts = stem.split("-")
    truncated = [f"{'-'.join(parts[:count])}-.{kind}" for count in range(len(parts) - 1, 0, -1)]
    found = (
        f"{directory}/{unit}.d/{file}"
        for unit in (name, *truncated, kind)
        for directory in UNIT_DIRECTORIES
        for file in look.reader.names(f"{directory}/{unit}.d")
        if file.endswith(".conf")
    )
    return tuple(path for path in order_drop_ins(found) if not _is_null(look, path))


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


def read_command(look: Look, unit: Unit) -> tuple[Word, ...]:
    """Return the argv that a service would start with now, each word with the file and line where it is written.

    From its files on disk, environment files included; empty when it has none. What cannot be read or parsed is noted,
    and left out.
    """
    if unit.load_state == "masked":
        return ()
    try:
        argvs = effective_argv(*_service(look, unit))
    except ConfigSyntaxError as error:
        look.unknown(unit.fragment, error.message, error.line)
        return ()
    return argvs[-1] if argvs else ()


def manager_variables(look: Look, unit: Unit) -> tuple[str, ...]:
    """Return the variables in a service's `ExecStart=` that nothing but systemd's own environment sets.

    `systemctl set-environment` and `DefaultEnvironment=` set it (systemd.exec(5), "Environment variables").

    Raises:
        HostError: they cannot be asked for.
    """
    names = unset_variables(*_service(look, unit))
    if not names or not look.reader.live:
        return ()
    said = look.reader.run(["systemctl", "show-environment"])
    if said.code != 0:
        raise HostError(f"`systemctl show-environment` failed ({said.code}): {said.stderr.strip()}")
    known = {line.partition("=")[0] for line in said.stdout.splitlines()}
    return tuple(name for name in names if name in known)


def _service(look: Look, unit: Unit) -> tuple[UnitConfig, dict[str, bytes]]:
    """Return a service with its drop-ins, and the text of its environment files."""
    texts = []
    for path in (unit.fragment, *unit.drop_ins):
        data = look.read(path) if path else None
        if data is not None and _parses(look, path, partial(parse_unit, [(path, data)])):
            texts.append((path, data))
    config = parse_unit(texts)
    env_files: dict[str, bytes] = {}
    for wanted in config.environment_files:
        for path in _matching(look, wanted.path):
            data = look.read(path)
            if data is None:
                if not wanted.optional:
                    look.unknown(path, f"{unit.name} needs this file, and it is not there")
            elif _parses(look, path, partial(parse_env_file, data, path)):
                env_files[path] = data
    return config, env_files


def origin_kind(unit: Unit | None, path: str) -> str:
    """Return the kind of source that a word's file is: `unit`, `unit-drop-in` or `env-file`."""
    if unit and path == unit.fragment:
        return "unit"
    return "unit-drop-in" if unit and path in unit.drop_ins else "env-file"


def flag_sources(words: Sequence[Word], flag: Flag, unit: Unit | None) -> tuple[Source, ...]:
    """Return every place that gives a flag a value, the one that counts last."""
    found = [
        Source(
            kind=origin_kind(unit, each.origin.path),
            value=each.value,
            path=each.origin.path,
            line=each.origin.line,
        )
        for each in flag_values(words, flag)
    ]
    return tuple(reversed(found) if flag.first_wins else found)


def flag_value(
    words: Sequence[Word], name: str, *, single_dash: bool = False, underscores: bool = False
) -> str | None:
    """Return the last value that these words give to a flag; see `Flag`."""
    found = flag_values(words, Flag(name, single_dash=single_dash, underscores=underscores))
    return found[-1].value if found else None


def flag_switch(words: Sequence[Word], name: str, *, underscores: bool = False) -> bool | None:
    """Return what these words make of a flag that needs no value (`--live-restore`, `--live-restore=false`)."""
    state = None
    flag = Flag(name, underscores=underscores)
    for word in words:
        given, equals, value = word.text.partition("=")
        if flag.is_spelled(given):
            state = value.lower() in ("1", "t", "true") if equals else True
    return state


def process_words(look: Look, pid: int) -> tuple[Word, ...]:
    """Return the argv of a running process; empty when it is gone."""
    path = f"/proc/{pid}/cmdline"
    text = look.reader.text(path) or ""
    return plain_words(text.removesuffix("\0").split("\0") if text else (), Origin(path, 0))


def program_name(words: Sequence[Word]) -> str:
    """Return the file name of the program that an argv starts; empty where there is none."""
    return words[0].text.rpartition("/")[2] if words else ""


def executable(pid: int) -> str:
    """Return the file that a process of this machine runs, also one that was replaced since; empty if unknown."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def find_process(look: Look, comm: str) -> int:
    """Return the id of a process of root's that calls itself `comm`, for one that no unit runs itself; else 0.

    Not one of a node inside a container, which has process ids of its own, and not one that just anybody started.
    """
    reader = look.reader
    ours = _pid_namespace("self")
    named = (pid for pid in reader.processes() if reader.text(f"/proc/{pid}/comm") == f"{comm}\n")
    roots = (pid for pid in named if "\nUid:\t0\t0\t" in (reader.text(f"/proc/{pid}/status") or ""))
    return min((pid for pid in roots if _pid_namespace(str(pid)) == ours), default=0)


def _pid_namespace(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def started_at(reader: Reader, pid: int) -> float | None:
    """Return when a process started, in seconds of the wall clock; None when that cannot be told."""
    stat = reader.text(f"/proc/{pid}/stat") or ""
    booted = re.search(r"^btime (\d+)$", reader.text("/proc/stat") or "", re.MULTILINE)
    # proc_pid_stat(5): starttime is field 22, in ticks; the 2nd field may hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    if not booted or len(fields) < 20 or not fields[19].isdigit():
        return None
    return int(booted[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _matching(look: Look, pattern: str) -> list[str]:
    if not any(character in pattern for character in "*?["):
        return [pattern]
    directory, _, name = pattern.rpartition("/")
    return [f"{directory}/{each}" for each in fnmatch.filter(look.reader.names(directory), name)]


def _parses(look: Look, path: str, parse: Callable[[], object]) -> bool:
    try:
        parse()
    except ConfigSyntaxError as error:
        look.unknown(path, error.message, error.line)
        return False
    return True

# SPDX-License-Identifier: Apache-2.0
"""The door to systemd: `Units` looks, `UnitControl` looks and changes."""

from __future__ import annotations

import shlex
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from migrator.bus import SYSTEM_BUS, Connection, LostBusError, RefusedError, object_path
from migrator.errors import HostError
from migrator.host import Host, Reader

UNIT = "org.freedesktop.systemd1.Unit"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_TRIES = 7  # of a look, with waits of 0.1 s to 3.2 s between them; opencontainers/cgroups has the same number for EAGAIN
_FIRST_WAIT = 0.05
_LOOK = 30.0  # seconds for one answer; D-Bus' own default is 25
_RELOAD = 90.0  # systemd reads every unit file of the node again
_SLICE = 1.0  # seconds between looks at a job whose signal does not come

_METHODS = {"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """A unit as systemd sees it now; `load_state` "not-found" is a state like any other."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    unit_file_state: str
    fragment_path: str
    drop_in_paths: tuple[str, ...]
    main_pid: int
    invocation_id: str
    """32 hex digits, new with every start; empty when it never ran."""
    control_group: str
    result: str
    n_restarts: int
    need_daemon_reload: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUnit:
    """A loaded unit as one line of `systemctl list-units --all` has it."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    job_type: str
    """`start`, `stop`, …, or empty: no job is queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What systemd and its bus carry: `names` of loaded units (aliases count), `connections` to the bus."""

    names: int
    connections: int


class Units:
    """Looks at systemd's units over one connection, made at the first look and again when the bus was restarted."""

    def __init__(self, reader: Reader, address: str = SYSTEM_BUS) -> None:
        self._reader = reader
        self._address = address
        self._connection: Connection | None = None
        self._met = False  # a bus that was there once is waited for when it is away

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the next look makes a new one."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def state(self, unit: str) -> UnitState:
        """Return what systemd knows of a unit, also of one that is not loaded or does not exist.

        Raises:
            HostError: no systemd or bus to ask, or `unit` is no unit name.
        """
        return self._look(f"look at {unit}", lambda bus: _state(bus, unit))

    def states(self, units: Iterable[str]) -> tuple[UnitState, ...]:
        """Return `state` of each unit, in the order given.

        Raises:
            HostError: as `state`.
        """
        return tuple(self.state(unit) for unit in units)

    def list(self, *patterns: str) -> tuple[ListedUnit, ...]:
        """Return the loaded units whose names match any of the shell `patterns` (all of them without any), by name.

        Raises:
            HostError: no systemd or bus to ask.
        """
        [rows] = self._look(
            "list units",
            lambda bus: bus.manager("ListUnitsByPatterns", "asas", [], [*patterns]),
        )
        found = (
            ListedUnit(name=row[0], load_state=row[2], active_state=row[3], sub_state=row[4], job_type=row[8])
            for row in rows
        )
        return tuple(sorted(found, key=lambda unit: unit.name))

    def load(self) -> Load:
        """Return how many units are loaded and how many connections the bus has.

        Raises:
            HostError: no systemd or bus to ask.
        """
        return self._look("ask for systemd's load", _load)

    def properties(self, unit: str, interface: str = "") -> dict[str, object]:
        """Return a unit's D-Bus properties as plain values: those of one `interface`, or of all that it has.

        Raises:
            HostError: no systemd or bus to ask, no such interface, or `unit` is no unit name.
        """
        return self._look(f"look at {unit}", lambda bus: _properties(bus, unit, interface))

    def show(self, units: Iterable[str], properties: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return what one `systemctl show` prints: unit id → property → text, for names and shell patterns alike.

        A unit known by an alias is found under its own id; a pattern without a match adds nothing; a property that a
        unit does not have is not in its answer.

        Raises:
            HostError: no `systemctl`, or it failed.
        """
        wanted = ("Id", *dict.fromkeys(name for name in properties if name != "Id"))
        asked = tuple(units)
        if not asked:
            return {}
        argv = ["systemctl", "show", "--no-pager", f"--property={','.join(wanted)}", "--", *asked]
        done = self._reader.run(argv, timeout=60)
        if done.code != 0:
            raise HostError(f"`systemctl show` failed ({done.code}): {done.stderr.strip()}")
        return parse_show(done.stdout)

    def _look(self, what: str, look: Callable[[Connection], Awaitable[T]], timeout: float = _LOOK) -> T:
        """Run `look`, again on a new connection when the bus went away meanwhile: looking twice changes nothing."""
        tries = 0
        while True:
            try:
                return self._connect().run(look, timeout)
            except LostBusError as lost:
                self.close()
                tries += 1
                if tries == _TRIES or not (self._met or lost.passing):
                    raise HostError(
                        f"cannot {what}: no systemd at {self._address}: {lost}",
                        hint="systemctl status dbus.service",
                    ) from lost
            except RefusedError as refused:
                raise HostError(f"cannot {what}: {refused}") from refused
            except TimeoutError:
                self.close()
                raise HostError(f"cannot {what}: systemd, or its bus, gave no answer in time") from None
            time.sleep(_FIRST_WAIT * 2**tries)

    def _connect(self) -> Connection:
        if not self._reader.live:
            raise HostError(f"systemd cannot be asked: {self._reader.root} is an image, not a running node")
        if self._connection is None:
            self._connection = Connection(self._address)
            self._met = True
        return self._connection


class UnitControl(Units):
    """Looks at systemd's units and changes them; a job's result, as `JobRemoved` tells it, is the truth."""

    def __init__(self, host: Host, address: str = SYSTEM_BUS) -> None:
        super().__init__(host, address)

    def start(self, unit: str, timeout: float = 90) -> UnitState:
        """Start a unit and return its state after the job.

        "done" is all that is promised: a `Type=simple` unit is done before its program has begun, and a unit whose
        condition fails is done and stays inactive.

        Raises:
            HostError: the job ended with another result than "done", or did not end within `timeout` seconds.
        """
        return self._change("start", unit, timeout)

    def stop(self, unit: str, timeout: float = 90) -> UnitState:
        """Stop a unit and return its state after the job; a unit that systemd does not know is stopped already.

        Raises:
            HostError: as `start`.
        """
        return self._change("stop", unit, timeout)

    def restart(self, unit: str, timeout: float = 90) -> UnitState:
        """Stop and start a unit (or start it, when it does not run) and return its state after the job.

        Raises:
            HostError: as `start`.
        """
        return self._change("restart", unit, timeout)

    def reload(self) -> None:
        """Make systemd read its unit files again (`systemctl daemon-reload`) and wait until it has.

        Raises:
            HostError: systemd refused or did not answer.
        """
        self._look("reload systemd", lambda bus: bus.manager("Reload"), _RELOAD)

    def reset_failed(self, unit: str) -> None:
        """Clear the failed state of a unit; a unit that systemd does not know has none.

        Raises:
            HostError: systemd refused or did not answer.
        """

        async def reset(bus: Connection) -> None:
            try:
                await bus.manager("ResetFailedUnit", "s", unit)
            except RefusedError as refused:
                if not refused.no_such_unit:
                    raise

        self._look(f"reset {unit}", reset)

    def _change(self, verb: str, unit: str, timeout: float) -> UnitState:
        deadline = time.monotonic() + timeout
        before = self.state(unit)
        job = ""
        gone = False
        while (left := deadline - time.monotonic()) > 0:
            try:
                bus = self._connect()
                job = job or bus.run(partial(_queue, verb=verb, unit=unit), left)
                result = bus.run(partial(Connection.job_result, job=job, patience=_SLICE), left)
            except LostBusError:
                self.close()
                result = ""
            except RefusedError as refused:
                if verb == "stop" and refused.no_such_unit:
                    return self.state(unit)
                raise _failure(verb, unit, str(refused)) from refused
            except TimeoutError:
                continue
            if result == "done":
                return self.state(unit)
            if result:
                raise _failure(verb, unit, f'the job ended with "{result}"')
            # No result: it is still to come, or was told while the bus was away. What is queued and how the unit is now
            # decide; only when the job was not there twice has its result been missed, and not merely not been read.
            now, queued = self._look(f"look at {unit}", lambda bus: _state_and_job(bus, unit))
            if queued:
                job, gone = queued, False
            elif _reached(verb, before, now):
                return now
            elif gone:
                raise _failure(
                    verb, unit, f"the job is gone, its result unheard, and the unit {now.active_state}"
                )
            else:
                gone = bool(job)
        going_on = "; its job goes on (`systemctl list-jobs`)" if job else ""
        raise _failure(verb, unit, f"no result within {timeout:g} s{going_on}")


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """Return what `systemctl show` printed, unit id → property → text; a property printed twice keeps both lines."""
    found: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        values: dict[str, str] = {}
        for line in block.split("\n"):
            name, equals, value = line.partition("=")
            if equals:
                values[name] = f"{values[name]}\n{value}" if name in values else value
        if values.get("Id"):
            found[values["Id"]] = values
    return found


def _failure(verb: str, unit: str, why: str) -> HostError:
    return HostError(f"cannot {verb} {unit}: {why}", hint=shlex.join(("journalctl", "-u", unit)))


def _reached(verb: str, before: UnitState, now: UnitState) -> bool:
    """Tell whether the unit is where the job was to bring it, for when nobody heard the job's result."""
    started_anew = now.invocation_id not in ("", before.invocation_id)
    match verb:
        case "stop":
            return now.active_state in ("inactive", "failed")
        case "restart":
            return started_anew and now.active_state == "active"
        case _:
            ran_through = started_anew and now.active_state == "inactive" and now.result == "success"
            return now.active_state == "active" or ran_through


async def _queue(bus: Connection, verb: str, unit: str) -> str:
    await bus.listen()
    [job] = await bus.manager(_METHODS[verb], "ss", unit, "replace")
    return str(job)


async def _properties(bus: Connection, unit: str, interface: str) -> dict[str, object]:
    [values] = await bus.call(object_path(unit), _PROPERTIES, "GetAll", "s", interface)
    return dict(values)


async def _load(bus: Connection) -> Load:
    [names] = await bus.manager_property("NNames")
    [connected] = await bus.bus("ListNames")
    # Each connection has one name of its own, which begins with a colon, besides those that it asked for.
    return Load(
        names=names if isinstance(names, int) else 0,
        connections=sum(str(each).startswith(":") for each in _items(connected)),
    )


async def _state(bus: Connection, unit: str) -> UnitState:
    return _unit_state(unit, await _properties(bus, unit, ""))


async def _state_and_job(bus: Connection, unit: str) -> tuple[UnitState, str]:
    values = await _properties(bus, unit, "")
    number, path = _items(values.get("Job")) or (0, "")
    return _unit_state(unit, values), str(path) if number else ""


def _unit_state(unit: str, values: Mapping[str, object]) -> UnitState:
    def text(name: str) -> str:
        value = values.get(name, "")
        return value.hex() if isinstance(value, bytes) else str(value)

    def count(name: str) -> int:
        value = values.get(name, 0)
        return value if isinstance(value, int) else 0

    return UnitState(
        name=text("Id") or unit,
        load_state=text("LoadState"),
        active_state=text("ActiveState"),
        sub_state=text("SubState"),
        unit_file_state=text("UnitFileState"),
        fragment_path=text("FragmentPath"),
        drop_in_paths=tuple(str(path) for path in _items(values.get("DropInPaths"))),
        main_pid=count("MainPID"),
        invocation_id=text("InvocationID"),
        control_group=text("ControlGroup"),
        result=text("Result"),
        n_restarts=count("NRestarts"),
        need_daemon_reload=values.get("NeedDaemonReload") is True,
    )


def _items(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()

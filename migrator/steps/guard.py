# SPDX-License-Identifier: Apache-2.0
"""The durable guard: keeps kubelet and runtime down after a reboot in the middle of a run.

Enabled units start at boot with whatever files are on the disk, which in the middle of a run may be one file of the old
driver and one of the new. So while a run is open each of the units has a drop-in with two *triggering* conditions, of
which one must hold: the run is over (`active` is gone), or this run has allowed the unit since this boot (a marker in
`/run`, which a reboot empties). See docs/decisions/0003-durable-guard.md.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import ClassVar

from migrator.errors import CgmigrateError, HostError
from migrator.facts.units import GUARD
from migrator.statedir import STATE
from migrator.steps import Hands, Params, Sight, Undo, Where
from migrator.steps.file import digest

ACTIVE = f"{STATE}/active"
ALLOW = "/run/cgmigrate/allow"
LIVE_STATES = ("active", "activating", "reloading")


def drop_in(unit: str) -> str:
    """Return the path of a unit's guard drop-in."""
    return f"/etc/systemd/system/{unit}.d/{GUARD}"


def text(unit: str) -> bytes:
    """Return the drop-in's content."""
    return (
        "# A run of cgmigrate is open on this node: `cgmigrate status`, then `cgmigrate resume` or `cgmigrate rollback`.\n"
        "# The run removes this file at its end. It keeps the unit down after a reboot in the middle.\n"
        "[Unit]\n"
        f"ConditionPathExists=|!{ACTIVE}\n"
        f"ConditionPathExists=|{ALLOW}/{unit}\n"
    ).encode()


def allow(hands: Hands, unit: str) -> None:
    """Let a guarded unit start, until the next boot, however often it failed to with other files (StartLimitBurst=)."""
    hands.host.write(f"{ALLOW}/{unit}", b"", mode=0o600)
    hands.control.reset_failed(unit)


def disallow(hands: Hands, unit: str) -> None:
    """Keep a guarded unit from being started by anybody else (a socket, a timer, a colleague)."""
    hands.host.remove(f"{ALLOW}/{unit}")


def install(hands: Hands, units: Sequence[str]) -> None:
    """Put the guard in force; a unit that runs now stays allowed.

    The marker tells which directories are ours, so that they go with the guard and others stay.
    """
    for unit in units:
        if hands.units.state(unit).active_state in LIVE_STATES:
            allow(hands, unit)
    directories = [drop_in(unit).rpartition("/")[0] for unit in units]
    made = set(_made(hands)) | {directory for directory in directories if not hands.host.exists(directory)}
    _put(hands, ACTIVE, json.dumps({"made": sorted(made)}).encode() + b"\n", mode=0o600)
    for unit in units:
        _put(hands, drop_in(unit), text(unit))
    hands.control.reload()


def _put(hands: Hands, path: str, data: bytes, mode: int = 0o644) -> None:
    """Write, but where it stands already only flush it: a full disk does not take away the guard that is there."""
    if hands.host.state(path).sha256 == digest(data):
        hands.host.flush(path)
    else:
        hands.host.write(path, data, mode=mode)


def release(hands: Hands, units: Sequence[str]) -> None:
    """Take the guard away, and the directories that were made for it."""
    for unit in units:
        hands.host.remove(drop_in(unit))
    for directory in _made(hands):
        hands.host.remove_directory(directory)
    hands.host.remove(ACTIVE)
    hands.control.reload()
    for unit in units:
        disallow(hands, unit)
    hands.host.remove_directory(ALLOW)
    hands.host.remove_directory(ALLOW.rpartition("/")[0])


def _made(hands: Hands) -> list[str]:
    """Return the directories that the marker names; only ever drop-in directories of units."""
    try:
        made = list(json.loads(hands.host.read(ACTIVE))["made"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [
        str(each)
        for each in made
        if str(each).startswith("/etc/systemd/system/") and str(each).endswith(".d")
    ]


def remains(look: Sight, units: Sequence[str]) -> bool:
    """Tell whether anything of the guard is there; `/run` is emptied last, after systemd has read its units again."""
    paths = (ACTIVE, ALLOW.rpartition("/")[0], *map(drop_in, units))
    return any(look.reader.exists(path) for path in paths)


class Guard:
    """Install the guard; revert removes it and starts what it alone kept down."""

    kind: ClassVar[str] = "guard"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.units: list[str] = list(params["units"])

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """BEFORE: it cannot be seen whether systemd has read the drop-ins, and installing twice does no harm."""
        return Where.BEFORE

    def capture(self, look: Sight) -> Undo:
        """Return which units run."""
        return {"active": [u for u in self.units if look.units.state(u).active_state in LIVE_STATES]}

    def apply(self, hands: Hands) -> None:
        """Install."""
        install(hands, self.units)

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Remove, then start what ran at the beginning and is down now (the guard kept it down at a boot)."""
        release(hands, self.units)
        for unit in reversed(self.units):
            if unit in undo["active"] and hands.units.state(unit).active_state not in LIVE_STATES:
                hands.control.start(unit)


class ReleaseGuard:
    """Remove the guard at the end of a run; revert puts it back, because a rollback needs it too."""

    kind: ClassVar[str] = "release-guard"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.units: list[str] = list(params["units"])

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """AFTER when nothing of the guard is left."""
        return Where.BEFORE if remains(look, self.units) else Where.AFTER

    def capture(self, look: Sight) -> Undo:  # noqa: ARG002
        """Nothing to keep: the guard step holds it."""
        return {}

    def apply(self, hands: Hands) -> None:
        """Remove, and start what a reboot just before left down."""
        release(hands, self.units)
        for unit in reversed(self.units):
            if unit.endswith(".service") and hands.units.state(unit).active_state not in LIVE_STATES:
                hands.control.start(unit)

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Install again before anything is taken back; half a guard would keep a healthy node down at its next boot."""
        before = any(hands.reader.exists(path) for path in (ACTIVE, *map(drop_in, self.units)))
        try:
            install(hands, self.units)
        except CgmigrateError:
            if not before:
                try:
                    release(hands, self.units)
                except CgmigrateError as error:
                    hands.say(
                        f"a part of the guard stays, and holds units down after a reboot: {error.message}"
                    )
            raise


def ensure_active(hands: Hands, units: Sequence[str]) -> None:
    """Start those of `units` that are down, in the order given.

    Raises:
        HostError: a job failed.
    """
    down = [unit for unit in units if hands.units.state(unit).active_state != "active"]
    for unit in down:  # before the first start: a service may pull in its socket
        allow(hands, unit)
    for unit in down:
        state = hands.control.start(unit)
        if state.active_state not in LIVE_STATES:
            raise HostError(f"{unit} does not start; see `journalctl -u {shlex.quote(unit)}`")

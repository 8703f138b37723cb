# SPDX-License-Identifier: Apache-2.0
"""Stop and start units, and reload systemd."""

from __future__ import annotations

import shlex
from typing import Any, ClassVar

from migrator.errors import HostError, StepError
from migrator.steps import Hands, Params, Sight, Undo, Where, on_the_way_back
from migrator.steps.guard import LIVE_STATES, allow, disallow, ensure_active


def _captured(look: Sight, units: list[str]) -> dict[str, Any]:
    found = look.units.states(units)
    return {
        "units": {
            unit: {"active": state.active_state in LIVE_STATES, "invocation": state.invocation_id}
            for unit, state in zip(units, found, strict=True)
        }
    }


class StopUnit:
    """Stop units in the order given; revert restarts those that ran, after the units they need."""

    kind: ClassVar[str] = "stop-unit"
    volatile: ClassVar[bool] = True
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.units: list[str] = list(params["units"])
        self.needs: list[str] = list(params.get("needs", ()))

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """AFTER when every unit is down."""
        down = all(state.active_state in ("inactive", "failed") for state in look.units.states(self.units))
        return Where.AFTER if down else Where.BEFORE

    def capture(self, look: Sight) -> Undo:
        """Return which of the units run, and as which invocation."""
        return _captured(look, self.units)

    def apply(self, hands: Hands) -> None:
        """Stop, and keep anybody else from starting them."""
        for unit in self.units:
            disallow(hands, unit)
        for unit in self.units:
            hands.say(f"stopping {unit}")
            hands.control.stop(unit)
        for state in hands.units.states(self.units):
            if state.active_state in LIVE_STATES:
                raise StepError(f"{state.name} is {state.active_state} again after it was stopped")

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Restart: a unit that still runs may run with the files that have just been taken back.

        A unit with the captured invocation was never stopped and is left alone; so is a socket that listens.
        """
        wanted = [unit for unit in self.units if undo["units"].get(unit, {}).get("active")]
        if not wanted:
            return
        if self.needs:
            ensure_active(hands, self.needs)
        for unit in wanted:
            allow(hands, unit)
            state = hands.units.state(unit)
            never_stopped = state.invocation_id == undo["units"][unit]["invocation"]
            if state.active_state == "active" and (never_stopped or unit.endswith(".socket")):
                continue
            hands.say(f"starting {unit}")
            hands.control.restart(unit)


class StartUnit:
    """Start units in the order given; started means a new invocation, never merely active."""

    kind: ClassVar[str] = "start-unit"
    volatile: ClassVar[bool] = True
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.units: list[str] = list(params["units"])

    def where(self, look: Sight, undo: Undo | None) -> Where:
        """AFTER when every unit is active, as an invocation that was not there at the capture."""
        if undo is None:
            return Where.BEFORE
        for state in look.units.states(self.units):
            before = undo["units"].get(state.name, {}).get("invocation", "")
            if state.active_state != "active" or (state.invocation_id and state.invocation_id == before):
                return Where.BEFORE
        return Where.AFTER

    def capture(self, look: Sight) -> Undo:
        """Return the invocations that are not ours."""
        return _captured(look, self.units)

    def apply(self, hands: Hands) -> None:
        """Start; a unit that somebody started with the old files is restarted."""
        for unit in self.units:
            allow(hands, unit)
            before = hands.units.state(unit)
            hands.say(f"starting {unit}")
            if before.active_state in LIVE_STATES and not unit.endswith(".socket"):
                state = hands.control.restart(unit)
            else:
                state = hands.control.start(unit)
            if state.active_state not in LIVE_STATES:
                raise StepError(
                    f"{unit} did not start: it is {state.active_state} ({state.result})",
                    hint=f"journalctl -u {shlex.quote(unit)} -n 50",
                )
            if state.invocation_id == before.invocation_id and not unit.endswith(".socket"):
                raise StepError(f"{unit} was not started anew: it still has the invocation of before")

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Stop: what ran before is brought back by the stop step, with its own files."""
        for unit in self.units:
            try:
                disallow(hands, unit)
            except HostError as error:  # that somebody could start it matters less than that it runs now
                hands.say(error.message)
        for unit in self.units:
            hands.say(f"stopping {unit}")
            hands.control.stop(unit)


class DaemonReload:
    """Make systemd read its unit files again; one in each half of the plan, where unit files change."""

    kind: ClassVar[str] = "daemon-reload"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.back = on_the_way_back(params)

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """BEFORE: reloading twice does no harm."""
        return Where.BEFORE

    def capture(self, look: Sight) -> Undo:  # noqa: ARG002
        """Nothing to keep."""
        return {}

    def apply(self, hands: Hands) -> None:
        """Reload on the way forward."""
        if not self.back:
            hands.control.reload()

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Reload on the way back, after the files are back."""
        if self.back:
            hands.control.reload()

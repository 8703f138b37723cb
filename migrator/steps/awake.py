# SPDX-License-Identifier: Apache-2.0
"""Have a node live again that a boot found under the guard before anything of it was stopped or changed."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.steps import Hands, Step
from migrator.steps.cluster import OnNode
from migrator.steps.guard import LIVE_STATES, ensure_active
from migrator.steps.health import WaitHealthy


def wake(hands: Hands, steps: Sequence[Step], units: Sequence[str]) -> None:
    """Start those of `units` (in the guard's order, the kubelet first) that are down, and wait for what they bring.

    A control-plane node carries the API server that the steps before the outage talk to.

    Raises:
        StepError: the kubelet is not healthy in time.
        HostError: a unit does not start.
    """
    down = [unit for unit in units if hands.units.state(unit).active_state not in LIVE_STATES]
    if not down:
        return
    hands.say(
        f"a boot found the guard in force and nothing changed yet: starting {', '.join(reversed(down))}"
    )
    ensure_active(hands, [*reversed(units)])
    for step in steps:
        if isinstance(step, WaitHealthy) and not step.back:
            step.wait(hands)
    talking = [step for step in steps if isinstance(step, OnNode)]
    if talking:
        talking[0].wait_for_api(hands)

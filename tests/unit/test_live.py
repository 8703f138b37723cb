# SPDX-License-Identifier: Apache-2.0
"""The live view's lines fit whatever terminal there is, and say what a run is at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.live import Scene, screen
from tests.hostile.base import EVIL, raw

STEPS = (
    *("guard", "cordon", "drain", "stop-unit:kubelet", "remove-sandboxes", "stop-unit:docker"),
    *("write-file:/var/lib/kubelet/config.yaml", "write-file:/etc/docker/daemon.json", "daemon-reload"),
    *("remove-cgroups", "start-unit:docker", "assert-driver", "start-unit:kubelet", "wait-healthy"),
    *("verify", "uncordon", "release-guard"),
)
DRAINING = Scene(
    name="run 20261122T163131Z-f7b5f178",
    steps=STEPS,
    seconds=75.9,
    states={"guard": "done", "cordon": "done", "drain": "now"},
    now="drain",
    why="drain: pods that can live elsewhere go there",
    evicted="2 of 5 pods",
    services="docker.service active, kubelet.service active",
    journal="applying drain",
)


def test_at_80x24_it_says_where_the_run_is() -> None:
    DRAINING.said.extend(["evicting 5 pods, at most 300 s", "[2/5 gone] evicting pod default/web-1"])

    assert [
        "run 20261122T163131Z-f7b5f178  1:15",
        "step 3 of 17: drain: pods that can live elsewhere go there",
        "",
        "  [x] guard",
        "  [x] cordon",
        "  [>] drain",
        *(f"  [ ] {step}" for step in STEPS[3:13]),
        "",
        "evicted  2 of 5 pods",
        "services docker.service active, kubelet.service active",
        "journal  applying drain",
        "evicting 5 pods, at most 300 s",
        "[2/5 gone] evicting pod default/web-1",
        "",
        "Ctrl-C stops at the next record; nothing is lost.",
    ] == screen(DRAINING, 80, 24)


@given(
    st.integers(1, 200),
    st.integers(1, 60),
    st.sampled_from(STEPS),
    st.lists(st.text(max_size=300), max_size=8),
    st.booleans(),
)
def test_it_fits_any_terminal_and_shows_the_current_step(
    width: int, height: int, now: str, said: list[str], back: bool
) -> None:
    scene = Scene(name="run", steps=STEPS, states={now: "now"}, now=now, services="kubelet active", back=back)
    scene.said.extend(said)
    lines = screen(scene, width, height)

    assert max(height, 6) >= len(lines)
    assert all(len(line) <= max(width, 20) for line in lines)
    assert [] == raw("\n".join(lines))
    assert lines[1].startswith(f"{'back: ' if back else ''}step {STEPS.index(now) + 1} of 17"[:19])
    assert len(lines) < 12 or any(line.startswith("  [>] ") for line in lines)


def test_what_a_node_says_is_only_text() -> None:
    scene = Scene(
        name="run", steps=(f"drain{EVIL}",), now=f"drain{EVIL}", why=EVIL, journal=EVIL, services=EVIL
    )
    scene.said.append(EVIL)

    assert [] == raw("\n".join(screen(scene, 300, 24)))

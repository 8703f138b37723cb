# SPDX-License-Identifier: Apache-2.0
"""What a unit's files tell beside its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.facts.look import Look
from migrator.facts.units import unit_on_disk
from tests.unit.nodes import lay

FRAGMENT = "/etc/systemd/system/kubelet.service"
SITE = f"{FRAGMENT}.d/20-site.conf"
GUARD = f"{FRAGMENT}.d/00-cgmigrate-guard.conf"
TRIGGERS = {
    "none": ({FRAGMENT: "[Unit]\nConditionPathExists=/usr/bin/kubelet\n"}, ()),
    "one of each": (
        {FRAGMENT: "[Unit]\nConditionPathExists=|!/a\n", SITE: "[Unit]\n\nConditionHost = | b\n"},
        (f"{FRAGMENT}:2: ConditionPathExists=|!/a", f"{SITE}:3: ConditionHost=| b"),
    ),
    "taken away": ({FRAGMENT: "[Unit]\nConditionPathExists=|/a\n", SITE: "[Unit]\nConditionHost=\n"}, ()),
    "of a run's guard": ({FRAGMENT: "[Unit]\n", GUARD: "[Unit]\nConditionPathExists=|!/var/x\n"}, ()),
    "in a comment": ({FRAGMENT: "[Unit]\n#ConditionPathExists=|/a\n; ConditionHost=|b\n"}, ()),
}


@pytest.mark.parametrize("what", TRIGGERS)
def test_triggering_conditions_are_told_with_their_place(tmp_path: Path, what: str) -> None:
    files, expected = TRIGGERS[what]

    assert expected == unit_on_disk(Look(lay(tmp_path, files)), "kubelet.service").triggers

# SPDX-License-Identifier: Apache-2.0
"""The terminal session in README is what a node says now."""

from __future__ import annotations

from tools.session import FLAVOUR, alike, record, recorded

from .conftest import MakeNode


def test_the_session_in_readme_can_be_recorded_again(make_node: MakeNode) -> None:
    assert alike(recorded()) == alike(record(make_node(FLAVOUR))), (
        "run `.venv/bin/python tools/session.py --write`"
    )

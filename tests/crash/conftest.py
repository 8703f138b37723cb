# SPDX-License-Identifier: Apache-2.0
"""Tell at the end of a run how many scenarios of the crash matrix were played."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    counts = [dict(each.user_properties) for each in reports if each.when == "call"]
    played = sum(int(each.get("scenarios", 0)) for each in counts)
    known = sum(int(each.get("scenarios in all", 0)) for each in counts)
    if played:
        terminalreporter.write_line(f"crash matrix: {played} scenarios played, of {known}")

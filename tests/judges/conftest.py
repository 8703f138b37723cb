# SPDX-License-Identifier: Apache-2.0
"""The judges, fetched once per machine; where they cannot be fetched, CI fails and a laptop skips."""

import os

import pytest

from tests.lab.cache import LabError, build

from .daemons import SUITES


@pytest.fixture(scope="session")
def judges() -> None:
    """Have the daemons of all suites."""
    missing = None
    try:
        build(SUITES.values(), lambda: None)
    except LabError as error:
        missing = f"the judges cannot be fetched: {error}"
    if os.geteuid() != 0:
        missing = "a daemon gets its own /etc by a mount namespace: run this as root"
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)

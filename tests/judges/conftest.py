# SPDX-License-Identifier: Apache-2.0
"""The judges, fetched once per machine; where they cannot be fetched, CI fails and a laptop skips."""

import os
from pathlib import Path

import pytest

from tests.lab.cache import LabError, build
from tests.lab.kubernetes import KUBELET
from tests.lab.packages import host_packages

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


@pytest.fixture(scope="session")
def kubelet() -> Path:
    """Have the lab's kubelet."""
    try:
        build([KUBELET], host_packages)
    except LabError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"there is no kubelet: {error}")
    return KUBELET.path / "usr/bin/kubelet"

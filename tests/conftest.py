# SPDX-License-Identifier: Apache-2.0
"""The slowest tests begin first, each on a worker of its own, so that the others fill the time beside them."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# How long an example takes on a busy machine says nothing; what takes too long is the benchmarks' and fuzzing's part.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


# nohup, or a shell that begins the tests in its background, has these ignored, and so would every command that they start.
# What is handled here is not ignored there.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test marked `slow` where xdist's `worksteal` cuts: at the start of a worker's share."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    if not workers or not slow:
        return
    share = -(-len(items) // workers)
    spread = [item for item in items if item not in slow]
    for number, item in enumerate(slow):
        spread.insert(number % workers * share, item)
    items[:] = spread

# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine: who they are, and those that are commands in a node."""

import contextlib
import os
import subprocess
import time
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def this_process() -> list[int | None]:
    """Return what tells this process from every other: its pid, and when it began."""
    return [os.getpid(), start_time(os.getpid())]


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class NodeProcess(subprocess.Popen[str]):
    """A command in a machine: signals reach the command itself, and `wait` tells how it ended."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command (nsenter only waits for it, and ends the way it ended)."""
        self.poll()
        if self.returncode is not None:
            return
        deadline = time.monotonic() + 1  # nsenter may not have forked yet
        while not (found := children(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in found or [self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)

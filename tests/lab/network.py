# SPDX-License-Identifier: Apache-2.0
"""A cluster's own network: a namespace with one bridge, so that two clusters may have the same addresses."""

import contextlib
import subprocess
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from .cache import LabError, locked

BRIDGE = "lab0"
GATEWAY = "10.99.0.1"  # the bridge itself: a client outside of every node
NAMESPACES = Path("/run/netns")
PREFIX = "cgmigrate-lab-"


def exists(name: str) -> bool:
    """Tell whether a cluster's network is there."""
    return (NAMESPACES / f"{PREFIX}{name}").exists()


def ensure(name: str, routes: Sequence[str]) -> None:
    """Make a cluster's network unless it is there.

    Args:
        name: the cluster's.
        routes: `SUBNET via ADDRESS`, for clients in the namespace.
    """
    with locked("network"):
        if exists(name):
            return
        namespace = f"{PREFIX}{name}"
        _ip("netns", "add", namespace)
        lines = [
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"addr add {GATEWAY}/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
            *(f"route add {route}" for route in routes),
        ]
        try:
            _ip("-n", namespace, "-batch", "-", stdin="\n".join(lines))
        except LabError:
            _ip("netns", "delete", namespace)
            raise


def inside(name: str, argv: Sequence[str | Path]) -> list[str | Path]:
    """Return the argv that runs ARGV in a cluster's network, and in nothing else of it.

    `ip netns exec` would also mount a new /sys, without the cgroups in it.
    """
    return ["nsenter", f"--net={NAMESPACES / (PREFIX + name)}", "--", *argv]


def remove_unused(used: Callable[[], Container[str]]) -> list[str]:
    """Remove the networks of clusters that USED does not name; return their names."""
    with locked("network"):
        kept = used()  # asked now: machines are on disk before their network is made
        unused = [
            name
            for path in NAMESPACES.glob(f"{PREFIX}*")
            if (name := path.name.removeprefix(PREFIX)) not in kept
        ]
        for name in unused:
            # A process somewhere may hold the namespace; the bridge goes in any case.
            with contextlib.suppress(LabError):
                _ip("-n", f"{PREFIX}{name}", "link", "delete", BRIDGE)
            _ip("netns", "delete", f"{PREFIX}{name}")
    return unused


def _ip(*arguments: str, stdin: str = "") -> None:
    done = subprocess.run(["ip", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"ip {' '.join(arguments)} exited with {done.returncode}:\n{stdin}\n{done.stderr}")

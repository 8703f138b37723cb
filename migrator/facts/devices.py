# SPDX-License-Identifier: Apache-2.0
"""Accelerators: containers that use one lose it at a daemon-reload where systemd does not know the device (F55)."""

from __future__ import annotations

import re

from migrator.errors import HostError
from migrator.facts.look import Look

_TOOLS = (
    "/usr/bin/nvidia-container-runtime",
    "/usr/local/nvidia/toolkit/nvidia-container-runtime",
    "/etc/nvidia-container-runtime/config.toml",
)
_NODE = re.compile(r"nvidia(?:\d+|ctl|-uvm|-modeset)")


def gather_gpus(look: Look) -> tuple[tuple[str, ...], bool | None]:
    """Return the paths that tell of NVIDIA's GPUs, and whether each device node has its link in /dev/char.

    The links are what systemd finds a device by when it writes the rules of a scope anew.
    """
    nodes = [f"/dev/{name}" for name in look.reader.names("/dev") if _NODE.fullmatch(name)]
    tools = [path for path in _TOOLS if look.reader.exists(path)]
    if not nodes:
        return tuple(tools), None
    linked = set()
    for name in look.reader.names("/dev/char"):
        try:
            linked.add(look.reader.resolve(f"/dev/char/{name}").name)
        except (OSError, HostError):
            continue
    return (*nodes, *tools), {each.rpartition("/")[2] for each in nodes} <= linked

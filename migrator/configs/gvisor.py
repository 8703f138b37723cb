# SPDX-License-Identifier: Apache-2.0
"""gVisor's `runsc.toml`: `[runsc_config]` holds flags of runsc, each as a string, and `systemd-cgroup` is the driver.

A handler of containerd names the file in the ConfigPath of its options; what stands in containerd's own file has no effect on
it. Rules from gVisor's sources (`pkg/shim/v1/runsc`, `runsc/cgroup`) and gvisor#10371; no runsc was at hand to ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from migrator.cgroups import Driver
from migrator.configs.text import ConfigSyntaxError, Edited, decode
from migrator.configs.tomledit import set_values
from migrator.configs.tomltext import dotted, parse

RUNTIME_TYPE = "io.containerd.runsc.v1"
FIRST_RELEASE = 20220510
"""The first release that is known to make scopes; older ones end with `systemd cgroups not supported` (gvisor#193, #7334)."""
FIRST_SYSTEMD = 244

_FLAG = ("runsc_config", "systemd-cgroup")
# What Go's flag package takes for a boolean.
_SPELLED = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), Driver.SYSTEMD),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), Driver.CGROUPFS),
}


@dataclass(frozen=True, slots=True)
class RunscConfig:
    """What a runsc.toml says; `driver` None where it says nothing, and runsc's default, cgroupfs, holds."""

    driver: Driver | None
    line: int
    binary_name: str = ""


def read(text: bytes | None) -> RunscConfig:
    """Return what a runsc.toml says.

    Raises:
        ConfigSyntaxError: not TOML, or a flag that is no string, on which gVisor's shim starts no pod.
    """
    document = parse(decode(text or b""))
    said, binary = document.value(_FLAG), document.value(("binary_name",))
    if said is not None and (not isinstance(said, str) or said not in _SPELLED):
        raise ConfigSyntaxError(
            f'{dotted(_FLAG)} must be "true" or "false", in quotes', line=document.line(_FLAG)
        )
    return RunscConfig(
        driver=_SPELLED[said] if isinstance(said, str) else None,
        line=document.line(_FLAG),
        binary_name=binary if isinstance(binary, str) else "",
    )


def set_driver(text: bytes | None, driver: Driver) -> Edited:
    """Set `systemd-cgroup`; nothing else changes, and nothing at all where the driver is that one already.

    Raises:
        ConfigSyntaxError: see `read`.
    """
    if (read(text).driver or Driver.CGROUPFS) is driver:
        return Edited(text or b"", ())
    value = "true" if driver is Driver.SYSTEMD else "false"
    return set_values(decode(text or b""), [(_FLAG, value)], indent="  ")


def release(version: str) -> int | None:
    """Return the day of `release-20240807.0` or `20240807.0`, as a number; None for anything else."""
    found = re.match(r"(?:release-)?(20\d{6})\b", version)
    return int(found[1]) if found else None


def unsettable(
    config_path: str, *, is_read: bool, version: str, cgroup_mode: str, systemd: int | None
) -> str | None:
    """Say why the systemd driver of a handler of gVisor cannot be had by an edit of its file; None when it can.

    Args:
        config_path: ConfigPath of its options; empty where there is none.
        is_read: whether that file is there, and says something that can be understood.
        version: of its runsc; empty where nobody knows.
        cgroup_mode: `legacy`, `hybrid`, `unified`, `unknown`.
        systemd: its major version; None where nobody knows.
    """
    known = release(version)
    if not config_path:
        return "its options have no ConfigPath, so no file gives runsc its flags"
    if not config_path.startswith("/"):
        return f"its ConfigPath {config_path} is no absolute path"
    if not is_read:
        return f"{config_path}, which its ConfigPath names, is not there or cannot be used: gVisor's shim starts no pod without it"
    if cgroup_mode in ("legacy", "hybrid"):
        return "gVisor knows the systemd driver on cgroup v2 alone"
    if known is not None and known < FIRST_RELEASE:
        return f"its runsc is of {known}, and the first that is known to have the systemd driver is of {FIRST_RELEASE}"
    if cgroup_mode != "unified":
        return "gVisor knows the systemd driver on cgroup v2 alone, and this node's cgroup mode is not known"
    if systemd is None:
        return f"gVisor's systemd driver wants systemd {FIRST_SYSTEMD}, and this node's version is not known"
    if systemd < FIRST_SYSTEMD:
        return f"gVisor's systemd driver wants systemd {FIRST_SYSTEMD}, this is {systemd}"
    return None

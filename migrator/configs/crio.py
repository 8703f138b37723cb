# SPDX-License-Identifier: Apache-2.0
"""CRI-O's `crio.conf` and its drop-ins: `cgroup_manager`, and where the container monitors go.

Order: `/etc/crio/crio.conf`, `/etc/crio/crio.conf.d/*` by name, then the flag `--cgroup-manager`; the last one wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.cgroups import Driver
from migrator.configs.text import ConfigSyntaxError, Edited, decode
from migrator.configs.tomledit import Value, set_values
from migrator.configs.tomltext import Document, Path, dotted, parse

RUNTIME: Path = ("crio", "runtime")
_MANAGER: Path = (*RUNTIME, "cgroup_manager")
_CONMON: Path = (*RUNTIME, "conmon_cgroup")


@dataclass(frozen=True, slots=True)
class CrioConfig:
    """What one file says; None where it says nothing."""

    cgroup_manager: str | None = None
    cgroup_manager_line: int | None = None
    conmon_cgroup: str | None = None
    monitor_cgroups: Mapping[str, str] = field(default_factory=dict)
    """`monitor_cgroup` by runtime handler."""
    default_runtime: str | None = None
    handlers: tuple[str, ...] = ()
    listen: str | None = None
    pause_image: str | None = None


def read(text: bytes | None) -> CrioConfig:
    """Return what a crio.conf or a drop-in says; a missing or empty file says nothing.

    Raises:
        ConfigSyntaxError: not TOML, or a value of a wrong type.
    """
    document = parse(decode(text or b""))
    handlers = _handlers(document)
    monitors = {name: _string(document, _monitor(name)) for name in handlers}
    manager = _string(document, _MANAGER)
    return CrioConfig(
        cgroup_manager=manager,
        cgroup_manager_line=document.line(_MANAGER) if manager is not None else None,
        conmon_cgroup=_string(document, _CONMON),
        monitor_cgroups={name: value for name, value in monitors.items() if value is not None},
        default_runtime=_string(document, (*RUNTIME, "default_runtime")),
        handlers=handlers,
        listen=_string(document, ("crio", "api", "listen")),
        pause_image=_string(document, ("crio", "image", "pause_image")),
    )


def is_valid_conmon_cgroup(value: str, driver: Driver) -> bool:
    """Does every CRI-O start with this monitor cgroup under this driver (F05)?

    `pod` is right under both. Some versions also accept an empty value, and `system.slice` under cgroupfs; others do
    not start.
    """
    match driver:
        case Driver.SYSTEMD:
            return value == "pod" or value.endswith(".slice")
        case Driver.CGROUPFS:
            return value == "pod"


def set_driver(text: bytes | None, driver: Driver) -> Edited:
    """Set `cgroup_manager`, and a monitor cgroup that the new driver would reject to `pod` (F05).

    Raises:
        ConfigSyntaxError: see `read`.
        UnsupportedShapeError: written in a way that cannot be changed safely.
    """
    config = read(text)
    wanted: list[tuple[Path, Value]] = [(_MANAGER, driver.value)]
    if config.conmon_cgroup is not None and not is_valid_conmon_cgroup(config.conmon_cgroup, driver):
        wanted.append((_CONMON, "pod"))
    wanted += [
        (_monitor(name), "pod")
        for name, value in config.monitor_cgroups.items()
        if not is_valid_conmon_cgroup(value, driver)
    ]
    return set_values(decode(text or b""), wanted)


def _monitor(handler: str) -> Path:
    return (*RUNTIME, "runtimes", handler, "monitor_cgroup")


def _handlers(document: Document) -> tuple[str, ...]:
    runtimes = document.value((*RUNTIME, "runtimes"))
    if runtimes is None:
        return ()
    if not isinstance(runtimes, dict):
        raise _wrong_type(document, (*RUNTIME, "runtimes"), "a table")
    return tuple(runtimes)


def _string(document: Document, path: Path) -> str | None:
    value = document.value(path)
    if value is None or isinstance(value, str):
        return value
    raise _wrong_type(document, path, "a string")


def _wrong_type(document: Document, path: Path, wanted: str) -> ConfigSyntaxError:
    return ConfigSyntaxError(f"{dotted(path)} must be {wanted}", line=document.line(path))

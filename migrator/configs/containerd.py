# SPDX-License-Identifier: Apache-2.0
"""containerd's `config.toml`, versions 1 to 4: the driver is `SystemdCgroup` of every runc-type runtime handler.

One file at a time: `imports` are listed, not followed; what a daemon makes of them all is in `containerd_merge`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from migrator.cgroups import Driver
from migrator.configs.text import ConfigSyntaxError, Edited, UnsupportedShapeError, decode
from migrator.configs.tomledit import Value, set_values
from migrator.configs.tomltext import Document, Path, dotted, parse

RUNC_TYPES = frozenset({"io.containerd.runc.v1", "io.containerd.runc.v2"})
LEGACY_TYPE = "io.containerd.runtime.v1.linux"
DEFAULT_HANDLER = "runc"
DEFAULT_TYPE = "io.containerd.runc.v2"
NEWEST_VERSION = 4

CRI_PLUGIN = {
    1: ("plugins", "cri"),
    2: ("plugins", "io.containerd.grpc.v1.cri"),
    3: ("plugins", "io.containerd.cri.v1.runtime"),
    4: ("plugins", "io.containerd.cri.v1.runtime"),
}
_SANDBOX_IMAGE = {
    1: ("plugins", "cri", "sandbox_image"),
    2: ("plugins", "io.containerd.grpc.v1.cri", "sandbox_image"),
    3: ("plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"),
    4: ("plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"),
}
# Tables of 1.x that become handlers of their own when they name a runtime type (containerd 1.x, CRI config validation).
_OLD_TABLES = {"default_runtime": "default", "untrusted_workload_runtime": "untrusted"}


@dataclass(frozen=True, slots=True)
class HandlerConfig:
    """One runtime handler; None where the file says nothing."""

    name: str
    path: Path
    """Its table in the file."""
    line: int
    """Where the driver is written, or else the handler."""
    runtime_type: str | None = None
    systemd_cgroup: bool | None = None
    binary_name: str | None = None
    config_path: str | None = None
    """File of its own that its options name, as gVisor has one."""
    has_options: bool = False
    misspelt: tuple[str, ...] = ()
    """Keys of `options` that look like SystemdCgroup and are not (F13)."""

    @property
    def driver(self) -> Driver | None:
        """The driver that the file gives this handler; containerd's own default is cgroupfs."""
        if self.systemd_cgroup is None:
            return None
        return Driver.SYSTEMD if self.systemd_cgroup else Driver.CGROUPFS


@dataclass(frozen=True, slots=True)
class ContainerdConfig:
    """What a config.toml says; None where it says nothing and containerd's default holds."""

    version: int = 1
    """1 when the file does not say, as for containerd."""
    has_version: bool = False
    handlers: Mapping[str, HandlerConfig] = field(default_factory=dict)
    default_runtime_name: str | None = None
    imports: tuple[str, ...] = ()
    disabled_plugins: tuple[str, ...] = ()
    legacy_systemd_cgroup: bool | None = None
    """`systemd_cgroup` of the CRI table: with a runc v2 handler the plugin does not load (F12)."""
    sandbox_image: str | None = None
    has_cri_section: bool = False
    has_runtimes: bool = False
    ignored_cri_tables: tuple[str, ...] = ()
    """CRI tables of another config version, which containerd ignores without a word (F13)."""
    root: str | None = None
    state: str | None = None
    grpc_address: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of `version`, `imports`, `disabled_plugins`, `default_runtime_name`, `systemd_cgroup`, where they stand."""


def read(text: bytes | None, tables: int | None = None, *, old_tables: bool = True) -> ContainerdConfig:
    """Return what a config.toml says; a missing or empty file says nothing.

    Args:
        text: the file.
        tables: the version whose CRI table counts, where the file's own `version` does not decide.
        old_tables: whether `default_runtime` and `untrusted_workload_runtime` make handlers: not from 2.0 on.

    Raises:
        ConfigSyntaxError: not TOML, a version that is not 1 to 4, or a value of a wrong type.
    """
    document = parse(decode(text or b""))
    version = _version(document)
    cri = CRI_PLUGIN[tables or version]
    containerd = (*cri, "containerd")
    default = _string(document, (*containerd, "default_runtime_name"))
    handlers = {
        handler.name: handler
        for handler in _handlers(document, containerd, _OLD_TABLES if old_tables else {})
    }
    if "default" in handlers and handlers["default"].path == (*containerd, "default_runtime"):
        default = "default"
    places = {
        "version": ("version",),
        "imports": ("imports",),
        "disabled_plugins": ("disabled_plugins",),
        "default_runtime_name": (*containerd, "default_runtime_name"),
        "systemd_cgroup": (*cri, "systemd_cgroup"),
    }
    return ContainerdConfig(
        version=version,
        has_version=document.value(("version",)) is not None,
        handlers=handlers,
        default_runtime_name=default,
        imports=_strings(document, ("imports",)),
        disabled_plugins=_strings(document, ("disabled_plugins",)),
        legacy_systemd_cgroup=_boolean(document, (*cri, "systemd_cgroup")),
        sandbox_image=_string(document, _SANDBOX_IMAGE[tables or version]),
        has_cri_section=document.value(cri) is not None,
        has_runtimes=document.value((*containerd, "runtimes")) is not None,
        ignored_cri_tables=tuple(
            dotted(path)
            for path in sorted(set(CRI_PLUGIN.values()) - {cri})
            if document.value(path) is not None
        ),
        root=_string(document, ("root",)),
        state=_string(document, ("state",)),
        grpc_address=_string(document, ("plugins", "io.containerd.server.v1.grpc", "address"))
        or _string(document, ("grpc", "address")),
        lines={
            name: document.line(path) for name, path in places.items() if document.value(path) is not None
        },
    )


class TypedHandler(Protocol):
    """A handler as a file has it, or as the facts do."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def runtime_type(self) -> str | None:
        """Its shim; empty or None where nothing states it."""

    @property
    def systemd_cgroup(self) -> bool | None:
        """Its SystemdCgroup; None where nothing states it."""


def is_runc(handler: TypedHandler) -> bool:
    """Tell whether a handler takes its driver from SystemdCgroup in its own options."""
    return unsettable(handler) is None


def unsettable(handler: TypedHandler) -> str | None:
    """Say why a handler's driver is not ours to set in this file; None when it is."""
    kind = handler.runtime_type
    if kind in RUNC_TYPES:
        return None
    if kind == LEGACY_TYPE:
        return (
            f"{LEGACY_TYPE} takes its driver from the plugin-wide systemd_cgroup, which breaks every runc v2 handler; "
            f"move the handler to {DEFAULT_TYPE} first"
        )
    if kind is None or not kind:
        if handler.name == DEFAULT_HANDLER or handler.systemd_cgroup is not None:
            return None
        return "it has no runtime_type"
    return f"{kind} is no runc; its driver is set in its own configuration"


def set_driver(
    text: bytes | None,
    driver: Driver,
    handlers: Collection[str],
    *,
    tables: int | None = None,
    new_version: int = 2,
) -> Edited:
    """Set `SystemdCgroup` of the handlers, making their tables as needed; nothing else changes.

    Args:
        text: the file; None or empty to make one.
        driver: what to set.
        handlers: names. A name without a table is made a runc v2 handler.
        tables: the version whose CRI table counts, where the file's own `version` does not decide.
        new_version: the config version of a file that is made.

    Raises:
        ConfigSyntaxError: see `read`.
        UnsupportedShapeError: a handler is of another kind (`unsettable`), or holds a look-alike key that Go's TOML
            decoder may take for SystemdCgroup.
    """
    decoded = decode(text or b"")
    document = parse(decoded)
    config = read(text, tables)
    wanted: list[tuple[Path, Value]] = []
    version = tables or config.version
    if not document.data:
        version = new_version
        wanted.append((("version",), new_version))
    table = (*CRI_PLUGIN[version], "containerd", "runtimes")
    for name in handlers:
        handler = config.handlers.get(name)
        if handler is None:
            wanted.append(((*table, name, "runtime_type"), DEFAULT_TYPE))
        else:
            _refuse_unsettable(handler)
        path = handler.path if handler else (*table, name)
        wanted.append(((*path, "options", "SystemdCgroup"), driver is Driver.SYSTEMD))
    return set_values(decoded, wanted, indent="  ")


def _refuse_unsettable(handler: HandlerConfig) -> None:
    reason = unsettable(handler)
    if reason:
        message = f"the driver of the handler {handler.name} cannot be set here: {reason}"
        raise UnsupportedShapeError(message, line=handler.line)
    look_alike = next((key for key in handler.misspelt if key.lower() == "systemdcgroup"), None)
    if look_alike:
        message = f"{look_alike} is not the key, and some versions take it for it; spell it SystemdCgroup"
        raise UnsupportedShapeError(message, line=handler.line)


def _version(document: Document) -> int:
    version = document.value(("version",))
    if version is None:
        return 1
    if isinstance(version, bool) or not isinstance(version, int) or version not in CRI_PLUGIN:
        message = f"version must be a number from 1 to {NEWEST_VERSION}, this is {version!r}"
        raise UnsupportedShapeError(message, line=document.line(("version",)))
    return version


def _handlers(document: Document, containerd: Path, old_tables: Mapping[str, str]) -> Iterator[HandlerConfig]:
    runtimes = document.value((*containerd, "runtimes"))
    if runtimes is not None and not isinstance(runtimes, dict):
        raise _wrong_type(document, (*containerd, "runtimes"), "a table")
    for name in runtimes or {}:
        yield _handler(document, name, (*containerd, "runtimes", name))
    for table, name in old_tables.items():
        if _string(document, (*containerd, table, "runtime_type")):
            yield _handler(document, name, (*containerd, table))


def _handler(document: Document, name: str, path: Path) -> HandlerConfig:
    for table in (path, (*path, "options")):
        if not isinstance(document.value(table), dict | None):
            raise _wrong_type(document, table, "a table")
    options = document.value((*path, "options"))
    names = options if isinstance(options, dict) else {}
    look_alikes = [
        key for key in names if key.lower().replace("_", "") == "systemdcgroup" and key != "SystemdCgroup"
    ]
    key = (
        *path,
        "options",
        (["SystemdCgroup", *look_alikes] if "SystemdCgroup" in names else look_alikes or [""])[0],
    )
    return HandlerConfig(
        name=name,
        path=path,
        line=document.line(key),
        runtime_type=_string(document, (*path, "runtime_type")),
        systemd_cgroup=_boolean(document, (*path, "options", "SystemdCgroup")),
        binary_name=_string(document, (*path, "options", "BinaryName")),
        config_path=_string(document, (*path, "options", "ConfigPath")),
        has_options=bool(names),
        misspelt=tuple(look_alikes),
    )


def _string(document: Document, path: Path) -> str | None:
    value = document.value(path)
    if value is None or isinstance(value, str):
        return value
    raise _wrong_type(document, path, "a string")


def _boolean(document: Document, path: Path) -> bool | None:
    value = document.value(path)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong_type(document, path, "true or false, without quotes")


def _strings(document: Document, path: Path) -> tuple[str, ...]:
    value = document.value(path)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise _wrong_type(document, path, "a list of strings")


def _wrong_type(document: Document, path: Path, wanted: str) -> ConfigSyntaxError:
    return ConfigSyntaxError(f"{dotted(path)} must be {wanted}", line=document.line(path))

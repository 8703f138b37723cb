# SPDX-License-Identifier: Apache-2.0
"""What a runtime's unit and files on disk say: the driver that it would use if it started now."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from migrator.cgroups import Driver as CgroupDriver
from migrator.configs import containerd, crio, docker, gvisor
from migrator.configs.containerd_merge import (
    ConfigFile,
    ConfigFileError,
    Daemon,
    Effective,
    daemon_version,
    effective,
    possible,
)
from migrator.configs.flags import CRIO_DRIVER, DOCKER_DRIVER, Word
from migrator.configs.text import ConfigSyntaxError
from migrator.facts.kubelet import decided
from migrator.facts.look import Look
from migrator.facts.model import Driver, Handler, Node, Runtime, Source, Unit
from migrator.facts.units import flag_sources, flag_switch, flag_value, read_command
from migrator.host import Reader

DAEMON_JSON = "/etc/docker/daemon.json"
CONTAINERD_TOML = "/etc/containerd/config.toml"
CRIO_CONF = "/etc/crio/crio.conf"
CRIO_CONF_DIRECTORY = "/etc/crio/crio.conf.d"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """One configuration file; `config` is None where it could not be parsed. An absent file says nothing."""

    kind: str
    path: str
    config: T | None
    line: int = 0


def docker_configured(look: Look, runtime: Runtime, service: Unit, node: Node) -> Runtime:
    """Return Docker with what daemon.json and dockerd's flags say; the first of several exec-opts counts."""
    words = read_command(look, service)
    path = flag_value(words, "--config-file") or DAEMON_JSON
    file = _parsed(look, "config-file", path, docker.read)
    config = file.config or docker.DaemonConfig()
    default = Source(kind="default", value=docker_default(node))
    said = Source(kind="config-file", value=config.driver, path=path, line=config.driver_line or file.line)
    flags = flag_sources(words, DOCKER_DRIVER, service)
    given = flag_switch(words, "--live-restore")
    driver = decided((*((default,) if file.config else ()), said, *flags))
    if driver.value is None and file.config:
        look.unknown(
            "runtime.driver", f"{path} names none, and Docker's default depends on the unknown cgroup mode"
        )
    return replace(
        runtime,
        config_file=path,
        driver=driver,
        live_restore=bool(config.live_restore if given is None else given),
        cgroup_parent=flag_value(words, "--cgroup-parent") or config.cgroup_parent or "",
    )


def docker_default(node: Node) -> str | None:
    """Return the driver of a Docker that is not told any: since 20.10 systemd on cgroup v2, where systemd runs."""
    match node.cgroup_mode:
        case "legacy" | "hybrid":
            return CgroupDriver.CGROUPFS.value
        case "unified":
            return (CgroupDriver.SYSTEMD if node.init_systemd else CgroupDriver.CGROUPFS).value
        case _:
            return None


def containerd_configured(look: Look, runtime: Runtime, service: Unit) -> Runtime:
    """Return containerd with what its file and all that it imports say; the driver is the one that it would tell.

    That is its default handler's; 2.x passes over a default handler that is no runc (`containerd_merge`, F09, F14).
    """
    words = read_command(look, service)
    path = _config_flag(words) or CONTAINERD_TOML
    daemon = daemon_version(runtime.version)
    layers, files = _imported(look, path, daemon)
    runtime = replace(runtime, config_file=path, imports=tuple(layer.path for layer in layers[1:]))
    configs = [layer.config for layer in layers if layer.config]
    runtime = replace(
        runtime,
        config_version=configs[0].version if layers[0].config and files[0].text is not None else 0,
        disabled_plugins=tuple(sorted({name for config in configs for name in config.disabled_plugins})),
    )
    if len(configs) < len(layers):
        return replace(runtime, driver=decided(_broken(layers)))
    try:
        merged = [effective(files, one) for one in ([daemon] if daemon else possible(files))]
    except ConfigFileError as error:
        look.unknown(error.path, error.error.message, error.error.line)
        return replace(runtime, driver=decided((Source(kind="config-file", value=None, path=error.path),)))
    first = merged[0]
    drivers = {_driver_of(one) for one in merged}
    if len(drivers) > 1:
        look.unknown(
            "runtime.driver",
            "containerd 1.x and 2.x read these files differently, and its version is not known",
        )
    elif drivers == {None}:
        look.unknown(
            "runtime.driver",
            "containerd has no handler of runc type, and no other takes its driver from here",
        )
    known = len(drivers) == 1 and None not in drivers
    return replace(
        runtime,
        config_version=first.version if files[0].text is not None else 0,
        driver=decided(_containerd_chain(layers, first)) if known else Driver(value=None),
        handlers=tuple(_with_own_file(look, each) for each in _handlers(first if daemon else merged[-1])),
        legacy_systemd_cgroup=first.legacy_systemd_cgroup,
        ignored_cri_tables=tuple(
            sorted({name for each in first.configs for name in each.ignored_cri_tables})
        ),
    )


def crio_configured(look: Look, runtime: Runtime, service: Unit) -> Runtime:
    """Return CRI-O with what its files and flags say; its own default is systemd since 1.18."""
    words = read_command(look, service)
    path = _config_flag(words) or CRIO_CONF
    directory = (
        flag_value(words, "--config-dir", single_dash=True) or flag_value(words, "-d") or CRIO_CONF_DIRECTORY
    )
    drop_ins = [f"{directory}/{name}" for name in look.reader.names(directory)]
    layers = [
        _parsed(look, "config-file", path, crio.read),
        *(_parsed(look, "config-drop-in", each, crio.read) for each in drop_ins),
    ]
    chain = [Source(kind="default", value=CgroupDriver.SYSTEMD.value)]
    for layer in layers:
        if layer.config is None:
            chain.clear()
        value = layer.config.cgroup_manager if layer.config else None
        line = layer.config.cgroup_manager_line if layer.config else layer.line
        chain.append(Source(kind=layer.kind, value=value, path=layer.path, line=line or 0))
    configs = [layer.config for layer in layers if layer.config]
    monitors = [config.conmon_cgroup for config in configs if config.conmon_cgroup is not None]
    default = next((config.default_runtime for config in reversed(configs) if config.default_runtime), "")
    names = sorted({name for config in configs for name in config.handlers})
    return replace(
        runtime,
        config_file=path,
        driver=decided((*chain, *flag_sources(words, CRIO_DRIVER, service))),
        handlers=tuple(Handler(name=name, runtime_type="", is_default=name == default) for name in names),
        conmon_cgroup=monitors[-1] if monitors else "",
    )


def _broken(layers: Iterable[Parsed[containerd.ContainerdConfig]]) -> Iterator[Source]:
    for layer in layers:
        if layer.config is None:
            yield Source(kind=layer.kind, value=None, path=layer.path, line=layer.line)


def _driver_of(merged: Effective) -> CgroupDriver | None:
    return (merged.deciding.driver or CgroupDriver.CGROUPFS) if merged.deciding else None


def _containerd_chain(
    layers: Iterable[Parsed[containerd.ContainerdConfig]], merged: Effective
) -> Iterator[Source]:
    yield Source(kind="default", value=CgroupDriver.CGROUPFS.value)
    for layer, config in zip(layers, merged.configs, strict=True):
        handler = config.handlers.get(merged.deciding.name) if merged.deciding else None
        driver = handler.driver if handler else None
        if driver is None and layer.kind == "config-drop-in" and config.has_cri_section and not merged.merges:
            driver = CgroupDriver.CGROUPFS
        line = handler.line if handler else 0
        yield Source(kind=layer.kind, value=driver.value if driver else None, path=layer.path, line=line)


def _handlers(merged: Effective) -> tuple[Handler, ...]:
    return tuple(
        Handler(
            name=owned.handler.name,
            runtime_type=owned.handler.runtime_type or "",
            systemd_cgroup=owned.handler.systemd_cgroup,
            binary_name=owned.handler.binary_name or "",
            is_default=owned.handler.name == merged.default,
            path=owned.file,
            line=owned.handler.line,
            misspelt=owned.handler.misspelt,
            config_path=owned.handler.config_path or "",
        )
        for owned in merged.handlers
    )


def _with_own_file(look: Look, handler: Handler) -> Handler:
    """Return a handler of gVisor with what its own file says; what containerd's says of its driver has no effect.

    A file that cannot be used is no more than one that is not there: pods of this handler alone fail by it.
    """
    if handler.runtime_type != gvisor.RUNTIME_TYPE:
        return handler
    handler = replace(handler, systemd_cgroup=None)
    path = handler.config_path
    if not path.startswith("/"):
        return handler
    own = Look(look.reader)
    config = _parsed(own, "config-file", path, gvisor.read).config
    look.files |= own.files
    for each in own.unknowns:
        place = f"{path}:{each.line}" if each.line else path
        look.unknown(f"runtime.handlers.{handler.name}.config_path", f"{place}: {each.reason}")
    file = own.files.get(path)
    if config is None or file is None or not file.present:
        return handler
    on = None if config.driver is None else config.driver is CgroupDriver.SYSTEMD
    return replace(handler, systemd_cgroup=on, binary_name=config.binary_name, path=path, line=config.line)


def _imported(
    look: Look, path: str, daemon: Daemon | None
) -> tuple[list[Parsed[containerd.ContainerdConfig]], list[ConfigFile]]:
    """Return the configuration file and all that it imports, in the order in which containerd loads them."""
    layers: list[Parsed[containerd.ContainerdConfig]] = []
    files: list[ConfigFile] = []
    pending = [path]
    while pending:
        current = pending.pop(0)
        if any(current == file.path for file in files):
            continue
        layer = _parsed(look, "config-drop-in" if layers else "config-file", current, containerd.read)
        layers.append(layer)
        text = look.read(current)
        if text is None and files and daemon and (1, 5) <= daemon < (2, 0):
            look.unknown(
                current, f"{path} imports it and it is not there: this containerd does not start again"
            )
        files.append(ConfigFile(current, text))
        for pattern in layer.config.imports if layer.config else ():
            pending += imported_files(look.reader, current, pattern, daemon)
    return layers, files


def imported_files(reader: Reader, importing: str, pattern: str, daemon: Daemon | None) -> list[str]:
    """Return the files that an import names: relative to the importing file, several by name.

    Up to 1.6 a relative pattern with `*` is relative to the daemon's working directory, which is / under systemd.
    """
    if "*" not in pattern:
        return [posixpath.normpath(posixpath.join(posixpath.dirname(importing), pattern))]
    start = "/" if daemon and daemon < (1, 7) else posixpath.dirname(importing)
    found = [""]
    for part in posixpath.normpath(posixpath.join(start, pattern)).strip("/").split("/"):
        if any(character in part for character in "*?["):
            found = [
                f"{above}/{name}"
                for above in found
                for name in fnmatch.filter(reader.names(above or "/"), part)
            ]
        else:
            found = [f"{above}/{part}" for above in found]
    return [each for each in found if reader.exists(each)]


def _parsed(look: Look, kind: str, path: str, read: Callable[[bytes | None], T]) -> Parsed[T]:
    data = look.read(path)
    if data is None and any(unknown.subject == path for unknown in look.unknowns):
        return Parsed(kind, path, None)
    try:
        return Parsed(kind, path, read(data))
    except ConfigSyntaxError as error:
        look.unknown(path, error.message, error.line)
        return Parsed(kind, path, None, error.line)


def _config_flag(words: Sequence[Word]) -> str:
    return flag_value(words, "--config", single_dash=True) or flag_value(words, "-c") or ""

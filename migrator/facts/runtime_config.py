# SPDX-License-Identifier: Apache-2.0
"""What a runtime's unit and files on disk say: the driver that it would use if it started now."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from migrator.cgroups import Driver as CgroupDriver
from migrator.configs import containerd, crio, docker
from migrator.configs.flags import CRIO_DRIVER, DOCKER_DRIVER, Word
from migrator.configs.text import ConfigSyntaxError
from migrator.facts.kubelet import decided
from migrator.facts.look import Look
from migrator.facts.model import Handler, Node, Runtime, Source, Unit
from migrator.facts.units import flag_sources, flag_switch, flag_value, read_command

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
    """Return containerd with what its file and that file's imports say; the driver is the default handler's.

    With containerd 1.x an import that has a CRI table replaces the main file's, all of it (F14).
    """
    words = read_command(look, service)
    path = _config_flag(words) or CONTAINERD_TOML
    main = _parsed(look, "config-file", path, containerd.read)
    imports = _imported(look, main)
    layers = [main, *(_parsed(look, "config-drop-in", each, containerd.read) for each in imports)]
    configs = [layer.config for layer in layers if layer.config]
    names = [config.default_runtime_name for config in configs if config.default_runtime_name]
    default = names[-1] if names else containerd.DEFAULT_HANDLER
    replaces = (runtime.version or "").startswith(("1.", "v1."))
    top = main.config or containerd.ContainerdConfig()
    return replace(
        runtime,
        config_file=path,
        config_version=top.version if look.files.get(path) and look.files[path].present else 0,
        driver=decided(_containerd_chain(layers, default, replaces=replaces)),
        handlers=_handlers(layers, default, replaces=replaces),
        imports=tuple(imports),
        disabled_plugins=tuple(sorted({name for config in configs for name in config.disabled_plugins})),
        legacy_systemd_cgroup=any(config.legacy_systemd_cgroup for config in configs),
        ignored_cri_tables=tuple(sorted({name for config in configs for name in config.ignored_cri_tables})),
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


def _containerd_chain(
    layers: Iterable[Parsed[containerd.ContainerdConfig]], default: str, *, replaces: bool
) -> list[Source]:
    chain = [Source(kind="default", value=CgroupDriver.CGROUPFS.value)]
    for layer in layers:
        if layer.config is None:
            chain.clear()
            chain.append(Source(kind=layer.kind, value=None, path=layer.path, line=layer.line))
            continue
        handler = layer.config.handlers.get(default)
        driver = handler.driver if handler else None
        wiped = replaces and layer.kind == "config-drop-in" and layer.config.has_cri_section
        if driver is None and wiped:
            driver = CgroupDriver.CGROUPFS
        chain.append(
            Source(
                kind=layer.kind,
                value=driver.value if driver else None,
                path=layer.path,
                line=handler.line if handler else 0,
            )
        )
    return chain


def _handlers(
    layers: Iterable[Parsed[containerd.ContainerdConfig]], default: str, *, replaces: bool
) -> tuple[Handler, ...]:
    """Return every handler, later files winning; `runc` is there even if no file names it."""
    found: dict[str, Handler] = {}
    layers = tuple(layers)
    for layer in layers:
        if layer.config is None:
            continue
        if replaces and layer.kind == "config-drop-in" and layer.config.has_cri_section:
            found.clear()
        for name, handler in layer.config.handlers.items():
            before = found.get(name, Handler(name=name, runtime_type=""))
            said = handler.systemd_cgroup is not None
            found[name] = replace(
                before,
                runtime_type=handler.runtime_type or before.runtime_type,
                systemd_cgroup=handler.systemd_cgroup if said else before.systemd_cgroup,
                binary_name=handler.binary_name or before.binary_name,
                path=layer.path if said or not before.path else before.path,
                line=handler.line if said or not before.path else before.line,
                misspelt=tuple(sorted({*before.misspelt, *handler.misspelt})),
            )
    if all(layer.config for layer in layers):
        implicit = Handler(name=containerd.DEFAULT_HANDLER, runtime_type=containerd.DEFAULT_TYPE)
        found.setdefault(containerd.DEFAULT_HANDLER, implicit)
    return tuple(replace(found[name], is_default=name == default) for name in sorted(found))


def _imported(look: Look, main: Parsed[containerd.ContainerdConfig]) -> list[str]:
    """Return the files that `imports` name and that exist: relative to the importing file, globs in order of name."""
    found: list[str] = []
    for pattern in main.config.imports if main.config else ():
        path = posixpath.normpath(posixpath.join(posixpath.dirname(main.path), pattern))
        directory, name = posixpath.split(path)
        if any(character in name for character in "*?["):
            matching = [f"{directory}/{each}" for each in fnmatch.filter(look.reader.names(directory), name)]
        else:
            matching = [path]
        found += (each for each in matching if each not in found)
    return found


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

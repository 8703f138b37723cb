# SPDX-License-Identifier: Apache-2.0
"""What a containerd makes of its configuration file and that file's imports together, and which of them to edit.

The rules are those of the daemons themselves, found by asking containerd 1.4, 1.6, 1.7 and 2.1 (`tests/judges`):

- The last file that states a `version` decides for all of them. Up to 1.6 a version above 2 is read as 2.
- 1.x: a file with a CRI table replaces the whole table of the files before it. 2.x: tables are merged (F14).
- 2.x gives a file that states no version, or 1, the version of the files before it, 3 for the first; its CRI table of
  version 1 becomes one of version 2, which has no effect unless a file states version 2. Where there is a table of
  version 3 too, only that counts.
- 1.5 to 1.7: a `runtimes` table replaces the implicit handler `runc`; before and after, it is there in any case.
- 2.x tells the kubelet the driver of the first handler of runc v2 type that has options: the default one, then by
  name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from migrator.cgroups import Driver
from migrator.configs.containerd import (
    CRI_PLUGIN,
    DEFAULT_HANDLER,
    DEFAULT_TYPE,
    ContainerdConfig,
    HandlerConfig,
    is_runc,
    read,
)
from migrator.configs.text import ConfigSyntaxError, UnsupportedShapeError

Daemon = tuple[int, int]
"""Major and minor version of a containerd."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file, in the order in which the daemon loads them: the main one, then what it imports."""

    path: str
    text: bytes | None


@dataclass(frozen=True, slots=True)
class Owned:
    """A handler of the effective configuration, and the file that decides its driver; empty where no file names it."""

    handler: HandlerConfig
    file: str


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds once all files are merged."""

    version: int
    """The version that decides which CRI table is read; 1 where no file states one."""
    tables: Mapping[str, int]
    """By file: the version whose CRI table is read in it, which is not always the one that it states."""
    default: str
    handlers: tuple[Owned, ...]
    """By name, with `runc` where the daemon has it though no file names it."""
    merges: bool
    """Whether files are merged (2.x), or a CRI table replaces the ones before it (1.x)."""
    owner: str
    """The file in which a handler that no file names has to be written."""
    legacy_systemd_cgroup: bool
    configs: tuple[ContainerdConfig, ...]
    """Each file, read with its `tables`."""

    @property
    def deciding(self) -> HandlerConfig | None:
        """Return the handler whose driver is the runtime's: the default one, or the first by name that is runc.

        2.x tells the kubelet that one's, and passes over handlers without options; 1.x tells nobody.
        """
        ordered = sorted(
            self.handlers, key=lambda each: (each.handler.name != self.default, each.handler.name)
        )
        return next(
            (each.handler for each in ordered if self._told(each.handler, named=bool(each.file))), None
        )

    def _told(self, handler: HandlerConfig, *, named: bool) -> bool:
        if self.merges:
            return handler.runtime_type == DEFAULT_TYPE and (handler.has_options or not named)
        return is_runc(handler)


class ConfigFileError(Exception):
    """One of several files is wrong; says which."""

    def __init__(self, path: str, error: ConfigSyntaxError) -> None:
        super().__init__(f"{path}:{error.line}: {error.message}")
        self.path = path
        self.error = error


def daemon_version(text: str | None) -> Daemon | None:
    """Return major and minor of `1.6.20~ds1` or `v2.1.4`; None when the version is not known."""
    found = re.match(r"v?(\d+)\.(\d+)", text or "")
    return (int(found[1]), int(found[2])) if found else None


def newest_version(daemon: Daemon) -> int:
    """Return the newest configuration version that a daemon starts on; up to 1.6 it takes any for 2."""
    if daemon < (1, 7) or daemon >= (2, 3):
        return 4
    return 2 if daemon < (2, 0) else 3


def effective(files: Sequence[ConfigFile], daemon: Daemon) -> Effective:
    """Return what a daemon makes of the files.

    Raises:
        ConfigFileError: a file is broken, or of a version that this daemon does not start on.
    """
    stated = [_read(file) for file in files]
    version = next((config.version for config in reversed(stated) if config.has_version), 1)
    for file, config in zip(files, stated, strict=True):
        if config.version > newest_version(daemon):
            message = (
                f"containerd {daemon[0]}.{daemon[1]} does not start on configuration version {config.version}"
            )
            raise ConfigFileError(
                file.path, UnsupportedShapeError(message, line=config.lines.get("version", 1))
            )
    merges = daemon >= (2, 0)
    tables = {file.path: min(version, 2) for file in files}
    if merges:
        tables = _tables(files, stated)
    configs = tuple(_read(file, tables[file.path], old_tables=not merges) for file in files)
    layers = [
        (file.path, config) for file, config in zip(files, configs, strict=True) if config.has_cri_section
    ]
    counting = layers if merges else layers[-1:]
    names = [config.default_runtime_name for _, config in counting if config.default_runtime_name]
    default = names[-1] if names else DEFAULT_HANDLER
    found: dict[str, Owned] = {}
    for path, config in counting:
        for name, handler in config.handlers.items():
            found[name] = _over(found.get(name), Owned(handler, path))
    implicit = not (1, 5) <= daemon < (2, 0) or not any(config.has_runtimes for _, config in counting)
    if implicit:
        table = (*CRI_PLUGIN[tables[files[0].path]], "containerd", "runtimes", DEFAULT_HANDLER)
        runc = HandlerConfig(DEFAULT_HANDLER, table, 0, runtime_type=DEFAULT_TYPE)
        named = found.get(DEFAULT_HANDLER)
        if named is None:
            found[DEFAULT_HANDLER] = Owned(runc, "")
        elif merges:
            kind = named.handler.runtime_type or DEFAULT_TYPE
            found[DEFAULT_HANDLER] = replace(
                named, handler=replace(named.handler, runtime_type=kind, has_options=True)
            )
    return Effective(
        version=version,
        tables=tables,
        default=default,
        handlers=tuple(found[name] for name in sorted(found)),
        merges=merges,
        owner=counting[-1][0] if counting and not merges else files[0].path,
        legacy_systemd_cgroup=not merges and any(config.legacy_systemd_cgroup for _, config in counting),
        configs=configs,
    )


def wanted_edits(
    files: Sequence[ConfigFile], daemon: Daemon | None, driver: Driver
) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """Return what sets every runc handler to a driver: file, version of its CRI table, handlers.

    A file that states another driver for a handler is named even if a later file decides. Where the daemon is not
    known, what both 1.x and 2.x need is named.

    Raises:
        ConfigFileError: see `effective`.
    """
    known = (daemon,) if daemon else possible(files)
    wanted: dict[tuple[str, int], dict[str, None]] = {}
    for one in known:
        for path, tables, name in _wanted(files, effective(files, one), driver):
            wanted.setdefault((path, tables), {})[name] = None
    order = {file.path: number for number, file in enumerate(files)}
    return tuple(
        (path, tables, tuple(names))
        for (path, tables), names in sorted(wanted.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    )


def _wanted(
    files: Sequence[ConfigFile], all_of_it: Effective, driver: Driver
) -> Iterator[tuple[str, int, str]]:
    for owned in all_of_it.handlers:
        if is_runc(owned.handler):
            path = owned.file or all_of_it.owner
            yield path, all_of_it.tables[path], owned.handler.name
    for file, config in zip(files, all_of_it.configs, strict=True):
        for handler in config.handlers.values():
            if handler.driver not in {None, driver} and is_runc(handler):
                yield file.path, all_of_it.tables[file.path], handler.name


def possible(files: Sequence[ConfigFile]) -> tuple[Daemon, ...]:
    """Return one daemon of each kind that can run on these files."""
    if any(_read(file).version > 2 for file in files):
        return ((2, 3),)
    return ((1, 7), (2, 3))


def _tables(files: Sequence[ConfigFile], stated: Sequence[ContainerdConfig]) -> dict[str, int]:
    """Return which CRI table 2.x reads in each file."""
    last = next((config.version for config in reversed(stated) if config.version > 1), 3)
    if last > 2 or any(_read(file, 3).has_cri_section for file in files):
        return {file.path: 3 for file in files}
    old = {
        file.path
        for file, config in zip(files, stated, strict=True)
        if config.version < 2 and _read(file, 1).has_cri_section
    }
    return {file.path: 1 if file.path in old else 2 for file in files}


def _over(below: Owned | None, above: Owned) -> Owned:
    """Return a handler with what a later file says laid over it."""
    if below is None:
        return above
    old, new = below.handler, above.handler
    said = new.systemd_cgroup is not None
    merged = replace(
        new if said else old,
        runtime_type=new.runtime_type or old.runtime_type,
        systemd_cgroup=new.systemd_cgroup if said else old.systemd_cgroup,
        binary_name=new.binary_name or old.binary_name,
        config_path=new.config_path or old.config_path,
        has_options=new.has_options or old.has_options,
        misspelt=tuple(sorted({*old.misspelt, *new.misspelt})),
    )
    return Owned(merged, above.file if said else below.file)


def _read(file: ConfigFile, tables: int | None = None, *, old_tables: bool = True) -> ContainerdConfig:
    try:
        return read(file.text, tables, old_tables=old_tables)
    except ConfigSyntaxError as error:
        raise ConfigFileError(file.path, error) from error

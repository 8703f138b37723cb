# SPDX-License-Identifier: Apache-2.0
"""Which files must change so that kubelet and runtime use systemd, and to what. Pure but for the texts, through `read`.

Every file that names another driver is edited, not only the one that decides today: a flag removed next year must not
bring the old driver back. Where nothing names a driver, the main configuration file of that side gets the setting.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from migrator import reserved
from migrator.cgroups import Driver
from migrator.configs import (
    Edit,
    Edited,
    containerd,
    containerd_merge,
    crio,
    docker,
    flags,
    gvisor,
    kubelet,
    unified_diff,
    units,
)
from migrator.configs.text import ConfigSyntaxError
from migrator.configs.words import Flag
from migrator.errors import BlockedError, ConflictError
from migrator.facts.model import Driver as EffectiveDriver
from migrator.facts.model import Facts, File, Handler, Runtime, Source

FILE_KINDS = ("config-file", "config-drop-in", "env-file", "unit", "unit-drop-in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One file's change; `before` is None where there is no file yet."""

    path: str
    before: bytes | None
    after: bytes
    edits: tuple[Edit, ...]
    why: str
    unit_file: bool = False
    """systemd must read it again."""
    file: File | None = None
    restart: tuple[str, ...] = ()
    """Units that read it when they start, and that no step restarts."""
    context: int = 3
    """Unchanged lines that the diff shows; none of a file whose secrets have names that nobody knows here."""

    def params(self) -> dict[str, Any]:
        """Return the parameters of its `write-file` step: digests, masked diff and edits, never the bytes."""
        real = self.file.real_path if self.file else self.path
        return {
            "path": self.path,
            **({"real_path": real} if real != self.path else {}),
            "before": {
                "present": self.before is not None,
                "sha256": digest(self.before),
                "mode": f"{self.file.mode:04o}" if self.file and self.before is not None else "",
                "uid": self.file.uid if self.file else 0,
                "gid": self.file.gid if self.file else 0,
            },
            "after": {"sha256": digest(self.after)},
            "diff": unified_diff(self.path, self.before, self.after, self.context),
            "edits": [dataclasses.asdict(edit) for edit in self.edits],
            **({"restart": list(self.restart)} if self.restart else {}),
        }


def digest(data: bytes | None) -> str:
    """Return the sha256 of a file's bytes; empty for an absent file."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def file_changes(facts: Facts, read: Callable[[str], bytes | None]) -> tuple[Change, ...]:
    """Return the changes, kubelet's first, each file once.

    Raises:
        BlockedError: a file has a shape that cannot be edited safely, or there is no file to edit.
        ConflictError: a file is no longer as the facts have it.
    """
    known = {file.path: file for file in facts.files}
    editors: dict[str, list[_Edit]] = {}
    for edit in (
        *_kubelet(facts),
        *reserved.edits(facts, read),
        *_runtime(facts, read),
    ):
        editors.setdefault(real_path(known, edit[0]), []).append(edit)
    changes = []
    for todo in editors.values():
        path, *others = dict.fromkeys(path for path, _, _, _ in todo)
        before = read(path)
        file = known.get(path)
        if file is not None and digest(before) != (file.sha256 if file.present else ""):
            raise ConflictError(
                f"{path} changed while the node was being looked at", hint="run the command again"
            )
        after = before
        edits: list[Edit] = []
        for _, editor, _, _ in todo:
            try:
                edited = editor(after)
            except ConfigSyntaxError as error:
                raise BlockedError(
                    f"{path}:{error.line}: {error.message}", hint=f"edit {path} by hand, then plan again"
                ) from error
            after = edited.text
            edits.extend(edited.edits)
        if edits and after is not None:
            changes.append(
                Change(
                    path=path,
                    before=before,
                    after=after,
                    edits=tuple(edits),
                    why=and_names(todo[0][2], others),
                    unit_file=any(unit for *_, unit in todo),
                    file=file,
                )
            )
    return tuple(changes)


def real_path(known: Mapping[str, File], path: str) -> str:
    """Return where the bytes of a file are: two names of one file are one change."""
    return known[path].real_path if path in known else path


def and_names(why: str, others: Sequence[str]) -> str:
    """Return the reason of a change with the other names that lead to its file."""
    return f"{why}; other names of this file: {', '.join(others)}" if others else why


Editor: TypeAlias = Callable[[bytes | None], Edited]
_Edit: TypeAlias = tuple[str, Editor, str, bool]
TO = Driver.SYSTEMD


def _named(chain: tuple[Source, ...]) -> list[Source]:
    """Return the files of a chain that name another driver than systemd."""
    return [
        source
        for source in chain
        if source.kind in FILE_KINDS and source.path and source.value not in (None, TO.value)
    ]


def _side(
    driver: EffectiveDriver, main: str, editor: Editor, flag: Flag, why: tuple[str, str]
) -> Iterator[_Edit]:
    """Yield the edits of one side: `editor` for its configuration files, `flag` elsewhere; `main` where nothing is said."""
    for source in _named(driver.chain):
        if source.kind in ("config-file", "config-drop-in"):
            yield source.path, editor, why[0], False
        elif source.kind == "env-file":
            yield source.path, lambda text: flags.set_driver(text or b"", TO, flag), why[1], False
        else:
            yield source.path, lambda text: units.set_driver(text or b"", TO, flag), why[1], True
    decided = driver.decided_by
    if decided is None or decided.kind == "default":
        yield main, editor, why[0], False


def _kubelet(facts: Facts) -> Iterator[_Edit]:
    decided = facts.kubelet.driver.decided_by
    if not facts.kubelet.config_file and (decided is None or decided.kind == "default"):
        raise BlockedError(
            "the kubelet has no configuration file and no --cgroup-driver flag: there is nothing to edit",
            hint="give it --config=/var/lib/kubelet/config.yaml or --cgroup-driver=cgroupfs, then plan again",
        )
    yield from _side(
        facts.kubelet.driver,
        facts.kubelet.config_file,
        lambda text: kubelet.set_driver(text or b"", TO),
        flags.KUBELET_DRIVER,
        ("cgroupDriver of the kubelet", "--cgroup-driver overrides the configuration file (F17)"),
    )


def _runtime(facts: Facts, read: Callable[[str], bytes | None]) -> Iterator[_Edit]:
    runtime = facts.runtime
    match runtime.kind:
        case "docker":
            yield from _side(
                runtime.driver,
                runtime.config_file or "/etc/docker/daemon.json",
                lambda text: docker.set_driver(text, TO),
                flags.DOCKER_DRIVER,
                ("native.cgroupdriver of dockerd", "--exec-opt of dockerd decides (F15)"),
            )
        case "containerd":
            for path, editor in containerd_editors(runtime, read):
                yield path, editor, "SystemdCgroup of every handler of runc type", False
            for each in gvisor_handlers(facts):
                if why_left(facts, each) is None:
                    yield (
                        each.config_path,
                        lambda text: gvisor.set_driver(text, TO),
                        "systemd-cgroup of gVisor",
                        False,
                    )
        case "crio":
            yield from _side(
                runtime.driver,
                runtime.config_file or "/etc/crio/crio.conf",
                lambda text: crio.set_driver(text, TO),
                flags.CRIO_DRIVER,
                ("cgroup_manager of CRI-O", "--cgroup-manager overrides the configuration file"),
            )
        case other:
            raise BlockedError(f"runtime {other}: not one of docker, containerd, crio")


def gvisor_handlers(facts: Facts) -> list[Handler]:
    """Return containerd's handlers of gVisor's type."""
    if facts.runtime.kind != "containerd":
        return []
    return [each for each in facts.runtime.handlers if each.runtime_type == gvisor.RUNTIME_TYPE]


def why_left(facts: Facts, handler: Handler) -> str | None:
    """Say why an edit of its file would not give a handler of gVisor the systemd driver; None when it would."""
    return gvisor.unsettable(
        handler.config_path,
        is_read=handler.path == handler.config_path,
        version=handler.version,
        cgroup_mode=facts.node.cgroup_mode,
        systemd=facts.node.systemd_version,
    )


def containerd_editors(
    runtime: Runtime, read: Callable[[str], bytes | None], driver: Driver = TO
) -> Iterator[tuple[str, Editor]]:
    """Yield the edit of each file that decides the driver of a handler, or names another one (F11, F14).

    Raises:
        BlockedError: a file is broken, or of a version that this containerd does not start on.
    """
    paths = (runtime.config_file or "/etc/containerd/config.toml", *runtime.imports)
    files = [containerd_merge.ConfigFile(path, read(path)) for path in paths]
    daemon = containerd_merge.daemon_version(runtime.version)
    try:
        wanted = containerd_merge.wanted_edits(files, daemon, driver)
    except containerd_merge.ConfigFileError as error:
        raise BlockedError(str(error), hint=f"edit {error.path} by hand, then plan again") from error
    for path, tables, names in wanted:
        yield path, _handlers_editor(tables, names, driver)


def _handlers_editor(tables: int, names: tuple[str, ...], driver: Driver) -> Editor:
    return lambda text: containerd.set_driver(text, driver, names, tables=tables)

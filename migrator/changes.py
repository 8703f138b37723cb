# SPDX-License-Identifier: Apache-2.0
"""Which files must change so that kubelet and runtime use systemd, and to what. Pure but for the texts, through `read`.

Every file that names another driver is edited, not only the one that decides today: a flag removed next year must not
bring the old driver back. Where nothing names a driver, the main configuration file of that side gets the setting.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from migrator.cgroups import Driver
from migrator.configs import Edit, Edited, unified_diff
from migrator.configs.text import ConfigSyntaxError
from migrator.errors import BlockedError, ConflictError
from migrator.facts.model import Facts, File, Source


UNIT_KINDS = ("unit", "unit-drop-in")
FILE_KINDS = ("config-file", "config-drop-in", "env-file", *UNIT_KINDS)


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

    def params(self) -> dict[str, Any]:
        """Return the parameters of its `write-file` step: digests, masked diff and edits, never the bytes."""
        return {
            "path": self.path,
            "before": {
                "present": self.before is not None,
                "sha256": digest(self.before),
                "mode": f"{self.file.mode:04o}" if self.file and self.before is not None else "",
                "uid": self.file.uid if self.file else 0,
                "gid": self.file.gid if self.file else 0,
            },
            "after": {"sha256": digest(self.after)},
            "diff": unified_diff(self.path, self.before, self.after),
            "edits": [dataclasses.asdict(edit) for edit in self.edits],
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
    editors: dict[str, list[tuple[Callable[[bytes | None], Edited], str, bool]]] = {}
    for path, editor, why, unit_file in (*_kubelet(facts), *_runtime(facts)):
        editors.setdefault(path, []).append((editor, why, unit_file))
    changes = []
    for path, todo in editors.items():
        before = read(path)
        file = known.get(path)
        if file is not None and digest(before) != (file.sha256 if file.present else ""):
            raise ConflictError(
                f"{path} changed while the node was being looked at", hint="run the command again"
            )
        after = before
        edits: list[Edit] = []
        for editor, _, _ in todo:
            try:
                edited = editor(after)
            except ConfigSyntaxError as error:
                raise BlockedError(
                    f"{path}:{error.line}: {error}", hint=f"edit {path} by hand, then plan again"
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
                    why=todo[0][1],
                    unit_file=any(unit for _, _, unit in todo),
                    file=file,
                )
            )
    return tuple(changes)


_Edit = tuple[str, Callable[[bytes | None], Edited], str, bool]


def _named(chain: tuple[Source, ...]) -> Iterator[Source]:
    """Yield the files of a chain that name another driver than systemd."""
    for source in chain:
        if source.kind in FILE_KINDS and source.path and source.value not in (None, Driver.SYSTEMD.value):
            yield source


def _kubelet(facts: Facts) -> Iterator[_Edit]:
    from migrator.configs import flags, kubelet, units  # noqa: PLC0415 - late: a YAML parser

    driver = Driver.SYSTEMD
    named = list(_named(facts.kubelet.driver.chain))
    for source in named:
        if source.kind in ("config-file", "config-drop-in"):
            yield (
                source.path,
                lambda text: kubelet.set_driver(text or b"", driver),
                "cgroupDriver of the kubelet",
                False,
            )
        elif source.kind == "env-file":
            yield (
                source.path,
                lambda text: flags.set_flag(text or b"", "--cgroup-driver", driver.value),
                "--cgroup-driver overrides the configuration file (F17)",
                False,
            )
        else:
            yield (
                source.path,
                lambda text: units.set_flag(text or b"", "--cgroup-driver", driver.value),
                "--cgroup-driver overrides the configuration file (F17)",
                True,
            )
    decided = facts.kubelet.driver.decided_by
    if decided is None or decided.kind == "default":
        if not facts.kubelet.config_file:
            raise BlockedError(
                "the kubelet has no configuration file and no --cgroup-driver flag: there is nothing to edit",
                hint="give it --config=/var/lib/kubelet/config.yaml or --cgroup-driver=cgroupfs, then plan again",
            )
        yield (
            facts.kubelet.config_file,
            lambda text: kubelet.set_driver(text or b"", driver),
            "cgroupDriver of the kubelet; its default is cgroupfs",
            False,
        )


def _runtime(facts: Facts) -> Iterator[_Edit]:
    match facts.runtime.kind:
        case "docker":
            yield from _docker(facts)
        case "containerd":
            yield from _containerd(facts)
        case "crio":
            yield from _crio(facts)
        case other:
            raise BlockedError(f"runtime {other}: not one of docker, containerd, crio")


def _docker(facts: Facts) -> Iterator[_Edit]:
    from migrator.configs import docker, flags, units  # noqa: PLC0415 - late

    driver = Driver.SYSTEMD
    why = "native.cgroupdriver of dockerd"
    named = list(_named(facts.runtime.driver.chain))
    for source in named:
        match source.kind:
            case "config-file":
                yield source.path, lambda text: docker.set_driver(text, driver), why, False
            case "env-file":
                yield source.path, lambda text: flags.set_exec_opt(text or b"", driver.value), why, False
            case _:
                yield source.path, lambda text: units.set_exec_opt(text or b"", driver.value), why, True
    decided = facts.runtime.driver.decided_by
    if decided is None or decided.kind == "default":
        path = facts.runtime.config_file or "/etc/docker/daemon.json"
        yield path, lambda text: docker.set_driver(text, driver), why, False


def _containerd(facts: Facts) -> Iterator[_Edit]:
    from migrator.configs import containerd  # noqa: PLC0415 - late: a TOML parser

    names = {handler.name for handler in facts.runtime.handlers if _is_runc(handler.runtime_type)}
    path = facts.runtime.config_file or "/etc/containerd/config.toml"
    yield (
        path,
        lambda text: containerd.set_driver(text, Driver.SYSTEMD, names or {"runc"}),
        "SystemdCgroup of every handler of runc type",
        False,
    )


def _is_runc(runtime_type: str) -> bool:
    return runtime_type in ("", "io.containerd.runc.v1", "io.containerd.runc.v2")


def _crio(facts: Facts) -> Iterator[_Edit]:
    from migrator.configs import crio  # noqa: PLC0415 - late

    path = facts.runtime.config_file or "/etc/crio/crio.conf"
    yield path, lambda text: crio.set_driver(text, Driver.SYSTEMD), "cgroup_manager of CRI-O", False

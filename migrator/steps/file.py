# SPDX-License-Identifier: Apache-2.0
"""Write one file; the way back knows three cases: it was there, it was absent, somebody edited it since."""

from __future__ import annotations

import hashlib
import shlex
from typing import Any, ClassVar

from migrator.errors import HostError, StepError
from migrator.host import FileState, Host, Reader
from migrator.steps import Hands, Params, Sight, Undo, Where

SAVED = ".cgmigrate-saved"


class WriteFile:
    """Replace a file by the bytes that the plan's digest names; the bytes are kept with the run before it starts."""

    kind: ClassVar[str] = "write-file"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = True

    def __init__(self, params: Params) -> None:
        self.path: str = params["path"]
        self.real: str = params.get("real_path", self.path)
        self.before: str = params["before"]["sha256"]
        self.after: str = params["after"]["sha256"]
        self.restart: list[str] = list(params.get("restart", ()))

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """Compare the digest on disk with the plan's two."""
        now = look.reader.state(self.path)
        if now.path != self.real:
            return Where.ELSEWHERE
        match now.sha256:
            case self.after:
                return Where.AFTER
            case self.before:
                return Where.BEFORE
            case _:
                return Where.ELSEWHERE

    def capture(self, look: Sight) -> Undo:
        """Return digest, owner, mode and xattrs, and which parent directories are missing."""
        state = look.reader.state(self.path)
        return {"state": _to_json(state), "directories": _missing(look.reader, state.path)}

    def apply(self, hands: Hands) -> None:
        """Write, with the owner, mode and label of the old file."""
        state = hands.host.state(self.path)
        if state.path != self.real:
            raise StepError(
                f"{self.path} leads to {state.path} now, and not to {self.real}",
                hint="somebody changed a symbolic link during the run; `cgmigrate rollback`",
            )
        if state.sha256 == self.after:
            hands.host.flush(self.path)
            return
        if state.sha256 != self.before:
            raise StepError(
                f"{self.path} was changed by somebody else during the run",
                hint="`cgmigrate rollback`; it keeps their version beside the file",
            )
        hands.say(f"writing {self.path}")
        hands.host.write(self.path, hands.blob(self.after), like=state)

    def revert(self, hands: Hands, undo: Undo) -> None:
        """Put back bytes, owner, mode and label; a version that is neither ours nor the original is kept beside."""
        old = _from_json(undo["state"])
        hands.host.tidy(old.path)
        now = hands.host.state(old.path)
        if (leads := _leads(hands.host, self.path)) != now.path:
            hands.left(
                f"ls -l {shlex.quote(self.path)}  # it leads to {leads} now; {now.path}, to which it led, is restored"
            )
        if now == old:
            hands.host.flush(old.path)
            _remove_made(hands.host, undo)
            return
        if now.kind == "file" and now.sha256 not in (self.after, old.sha256):
            saved = _free(hands.host, now.path + SAVED)
            hands.host.write(saved, hands.host.read(now.path), like=now)
            hands.say(f"{self.path} was edited since; that version is kept as {saved}")
        readers = (
            f"; restart {shlex.join(self.restart)} by hand, which may have read it" if self.restart else ""
        )
        hands.say(f"restoring {self.path}{readers}")
        if old.kind == "absent":
            hands.host.remove(old.path)
            _remove_made(hands.host, undo)
            return
        hands.host.write(old.path, hands.blob(old.sha256), like=old)


def _leads(reader: Reader, path: str) -> str:
    """Return where a path leads, or why nowhere."""
    try:
        return reader.node_path(reader.resolve(path))
    except HostError as error:
        return f"nowhere ({error.message})"


def _remove_made(host: Host, undo: Undo) -> None:
    """Remove the directories that the run made for a new file, where nobody has put anything in them."""
    for directory in undo["directories"]:
        host.remove_directory(directory)


def _free(reader: Reader, path: str) -> str:
    """Return `path`, or the first of `path.2`, `path.3`, … that nobody has taken."""
    number, free = 1, path
    while reader.exists(free):
        number += 1
        free = f"{path}.{number}"
    return free


def _missing(reader: Reader, path: str) -> list[str]:
    """Return the parents of `path` that do not exist, innermost first."""
    missing = []
    parent = path.rpartition("/")[0]
    while parent and not reader.exists(parent):
        missing.append(parent)
        parent = parent.rpartition("/")[0]
    return missing


def _to_json(state: FileState) -> dict[str, Any]:
    return {
        "kind": state.kind,
        "path": state.path,
        "sha256": state.sha256,
        "size": state.size,
        "mode": state.mode,
        "uid": state.uid,
        "gid": state.gid,
        "xattrs": [list(pair) for pair in state.xattrs],
    }


def _from_json(data: Params) -> FileState:
    return FileState(**{**data, "xattrs": tuple((key, value) for key, value in data["xattrs"])})


def digest(data: bytes) -> str:
    """Return the sha256 of bytes, as plans and blobs name them."""
    return hashlib.sha256(data).hexdigest()

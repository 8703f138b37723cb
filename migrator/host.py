# SPDX-License-Identifier: Apache-2.0
"""The door to the machine's files, processes and programs: `Reader` looks, `Host` looks and changes.

Every path is a path *of the node* ("/etc/docker/daemon.json"); with `--root DIR` the node is a directory, symbolic links
are followed inside it and never out of it, and nothing that needs a running node is available (`live` is False).
What audits, plans and verifies is given a `Reader`, so that it cannot write.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import shlex
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from migrator.errors import HostError

MAX_FILE = 8 * 1024 * 1024
"""Bytes: no configuration file of a node is larger; a larger one is refused, not read into memory."""

_ACL = "system.posix_acl_access"
_LINKS = 40  # the kernel's own limit, see path_resolution(7)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
"""All that a program of the node is given: nothing of who called the tool."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was found: `sha256` of its bytes, and all that must come back with them.

    `kind` is "file" or "absent". `path` is where the bytes are (after symbolic links). `xattrs` holds (name, base64).
    """

    kind: str
    path: str
    sha256: str = ""
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a program said: exit `code`, and both streams as text."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Reader:
    """Looks at a node and never changes it."""

    def __init__(self, root: str | Path = "/") -> None:
        self.root = Path(root).resolve()
        self.live = self.root == Path("/")

    def resolve(self, path: str) -> Path:
        """Return where a node path really is, following links inside `root` only.

        Raises:
            HostError: a loop of symbolic links, or a relative path.
        """
        if not path.startswith("/"):
            raise HostError(f"{path}: not an absolute path")
        if not _can_be_a_name(path):
            raise HostError(f"{path!r}: no file can have this name")
        return Path(os.path.realpath(path)) if self.root == Path("/") else self._follow(path)[0]

    def _follow(self, path: str) -> tuple[Path, list[Path]]:
        """Return where a node path really is, and every symbolic link on the way."""
        followed: list[Path] = []
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = self.root.joinpath(*done, part)
            if not here.is_symlink():
                done.append(part)
                continue
            followed.append(here)
            if len(followed) > _LINKS:
                raise HostError(f"{path}: too many levels of symbolic links")
            target = os.readlink(here)
            if target.startswith("/"):
                done = []
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return self.root.joinpath(*done), followed

    def node_path(self, real: Path) -> str:
        """Return the node's name of a path that `resolve` gave."""
        return "/" + str(real.relative_to(self.root)) if real != self.root else "/"

    def exists(self, path: str) -> bool:
        """Tell whether there is anything at `path`."""
        try:
            return self.resolve(path).exists()
        except (HostError, PermissionError):
            return False

    def read(self, path: str, limit: int = MAX_FILE) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: there is no such file.
            HostError: it cannot be read (permission, not a regular file, larger than `limit` bytes).
        """
        real = self.resolve(path)
        try:
            # O_NONBLOCK: a FIFO in the place of a file must not hang the tool.
            with os.fdopen(
                os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb"
            ) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise HostError(f"{path}: not a regular file")
                data = _read_pieces(stream, limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None
        except IsADirectoryError:
            raise HostError(f"{path}: not a regular file") from None
        except OSError as error:
            raise HostError(f"cannot read {path}: {error.strerror}") from error
        if len(data) > limit:
            raise HostError(f"{path}: larger than {limit} bytes")
        return data

    def text(self, path: str, limit: int = MAX_FILE) -> str | None:
        """Return a file's text (undecodable bytes escaped), or None when it is absent or unreadable."""
        try:
            return self.read(path, limit).decode("utf-8", "surrogateescape")
        except (FileNotFoundError, HostError):
            return None

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory; empty when it is absent or unreadable."""
        try:
            return sorted(os.listdir(self.resolve(path)))
        except (OSError, HostError):
            return []

    def state(self, path: str) -> FileState:
        """Return digest, owner, mode and extended attributes of the file at `path`, or that it is absent.

        Raises:
            HostError: it is there and cannot be read, or is no regular file.
        """
        real = self.resolve(path)
        name = self.node_path(real)
        try:
            data = self.read(name)
            found = real.stat()
        except FileNotFoundError:
            return FileState("absent", name)
        xattrs: list[tuple[str, str]] = []
        with contextlib.suppress(OSError):
            xattrs = [
                (key, base64.b64encode(os.getxattr(real, key)).decode()) for key in sorted(os.listxattr(real))
            ]
        return FileState(
            "file",
            name,
            hashlib.sha256(data).hexdigest(),
            len(data),
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            tuple(xattrs),
        )

    def run(self, argv: Sequence[str], timeout: float = 30, *, keep: Sequence[int] = ()) -> Output:
        """Run a program that only looks, in /, and return what it said, whatever its exit code.

        `keep` are file descriptors that it is given under the same numbers.

        Raises:
            HostError: no live node, no such program, one that cannot be run, or no answer within `timeout` seconds.
        """
        if not self.live:
            raise HostError(f"{argv[0]} cannot be asked: {self.root} is an image, not a running node")
        try:
            done = subprocess.run(
                list(argv),
                check=False,
                capture_output=True,
                timeout=timeout,
                env=ENVIRONMENT,
                cwd="/",
                pass_fds=keep,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C on the terminal is ours to handle, not the child's
            )
        except FileNotFoundError:
            raise HostError(f"{argv[0]}: no such program on this node") from None
        except (OSError, ValueError) as error:
            raise HostError(f"cannot run {argv[0]}: {getattr(error, 'strerror', None) or error}") from error
        except subprocess.TimeoutExpired:
            raise HostError(f"`{shlex.join(argv)}` gave no answer within {timeout:g} s") from None
        decode = "utf-8", "replace"
        return Output(tuple(argv), done.returncode, done.stdout.decode(*decode), done.stderr.decode(*decode))

    def processes(self) -> Iterator[int]:
        """Yield the ids of the node's processes."""
        for name in self.names("/proc"):
            if name.isdigit():
                yield int(name)


class Host(Reader):
    """Looks at a node and changes it; only a step's `apply` and `revert`, and the run's own journal, get one."""

    def write(self, path: str, data: bytes, *, like: FileState | None = None, mode: int = 0o644) -> None:
        """Replace or make a file atomically and durably: temporary file beside it, fsync, rename, fsync directory.

        `like` gives owner, mode and extended attributes (the SELinux label among them); without it the file is root's
        with `mode`. Symbolic links stay: the file they lead to is replaced.

        Raises:
            HostError: the machine refused; the old file is untouched.
        """
        real = self.resolve(path)
        for link in self._follow(path)[1]:
            _refuse_planted(link, path)
        temporary = _temporary(real)
        try:
            self._make_directory(real.parent)
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                if like and like.kind == "file":
                    os.fchown(stream.fileno(), like.uid, like.gid)
                    _remove_inherited(stream.fileno(), like)
                    for key, value in like.xattrs:
                        os.setxattr(stream.fileno(), key, base64.b64decode(value))
                os.fchmod(stream.fileno(), like.mode if like and like.kind == "file" else mode)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(real)
            sync_directory(real.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise HostError(f"cannot write {path}: {error.strerror}") from error

    def remove(self, path: str) -> None:
        """Remove a file durably, and what an interrupted write of it left; absent already is fine.

        Raises:
            HostError: the machine refused.
        """
        real = self.resolve(path)
        try:
            _temporary(real).unlink(missing_ok=True)
            real.unlink(missing_ok=True)
            if real.parent.is_dir():
                sync_directory(real.parent)
        except OSError as error:
            raise HostError(f"cannot remove {path}: {error.strerror}") from error

    def flush(self, path: str) -> None:
        """Make a file, its name, or its absence durable: whoever wrote it may have been killed before he did.

        Raises:
            HostError: the machine refused.
        """
        real = self.resolve(path)
        try:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            if real.parent.is_dir():
                sync_directory(real.parent)
        except OSError as error:
            raise HostError(f"cannot flush {path}: {error.strerror}") from error

    def tidy(self, path: str) -> None:
        """Remove what an interrupted write of a file left beside it.

        Raises:
            HostError: the machine refused.
        """
        try:
            _temporary(self.resolve(path)).unlink(missing_ok=True)
        except (NotADirectoryError, IsADirectoryError):  # no write of ours left that
            return
        except OSError as error:
            raise HostError(f"cannot remove the leftover of {path}: {error.strerror}") from error

    def remove_directory(self, path: str) -> bool:
        """Remove an empty directory durably; tell whether it is gone now. Never recursive.

        Raises:
            HostError: the machine refused.
        """
        gone = self.remove_cgroup(path)
        real = self.resolve(path)
        try:
            if gone and real.parent.is_dir():
                sync_directory(real.parent)
        except OSError as error:
            raise HostError(f"cannot remove {path}: {error.strerror}") from error
        return gone

    def remove_cgroup(self, path: str) -> bool:
        """Remove a directory without children or processes; tell whether it is gone now. No disk holds it.

        Raises:
            HostError: the machine refused.
        """
        try:
            self.resolve(path).rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise HostError(f"cannot remove {path}: {error.strerror}") from error
        return True

    def _make_directory(self, directory: Path) -> None:
        missing = [directory]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        if not directory.is_dir():
            for each in reversed(missing):
                each.mkdir(mode=0o755, exist_ok=True)
                each.chmod(0o755)  # whatever the umask
                sync_directory(each.parent)


def _can_be_a_name(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _temporary(real: Path) -> Path:
    """Return where a file is written before it gets its name: one place, so that a crash leaves nothing unknown."""
    return real.with_name(f".{real.name}.cgmigrate-new")


def _remove_inherited(descriptor: int, like: FileState) -> None:
    """Remove the access control list that a new file has of its directory's default, where the old one had none."""
    if _ACL in dict(like.xattrs):
        return
    try:
        os.removexattr(descriptor, _ACL)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def _refuse_planted(link: Path, path: str) -> None:
    """Refuse a symbolic link that somebody else has left in a directory for all, such as /tmp, for root to write through.

    The rule is the kernel's `fs.protected_symlinks`, which looks at an `open` of the link, and not at our own following.

    Raises:
        HostError: it is one.
    """
    try:
        owner, directory = link.lstat().st_uid, link.parent.stat()
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error
    for_all = directory.st_mode & stat.S_ISVTX and directory.st_mode & stat.S_IWOTH
    if for_all and owner not in (os.geteuid(), directory.st_uid):
        raise HostError(
            f"cannot write {path}: user {owner} has left the symbolic link {link} in a directory that everybody may write",
            hint="name another file, or remove the link",
        )


def _read_pieces(stream: BinaryIO, limit: int) -> bytes:
    """Read at most `limit` bytes, in pieces: the kernel's sysctl files answer ENOMEM to one request for more than 4 MiB."""
    pieces = []
    while limit > 0 and (piece := stream.read(min(limit, 65536))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable; POSIX promises nothing of a rename before this."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

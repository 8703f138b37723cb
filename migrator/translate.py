# SPDX-License-Identifier: Apache-2.0
r"""Find cgroup paths in text and write them in the other driver's spelling; every other byte stays as it is.

Only what is surely a path of the kubelet's tree is touched (`_is_certain`). So these stay: patterns (`/kubepods/.*`,
`pod*/`, `/kubepods/` alone, which may be a regular expression between its slashes), a bare unit name
(`kubepods-burstable.slice`), the word `kubepods`, percent-encoded URLs, pods whose uid is neither a UUID nor a static
pod's hash, directories of the tree that neither the kubelet nor a runtime names, and literal `…slice:cri-containerd:ID`
directories (F06), which tell where a process really was. Slashes written `\/` (JSON) stay written so.

There are two ways through a text, which agree: one by token, which is the rule, and one that leaves the search to
`re.split` and remembers what came out. It understands the common forms, knows when it meets another one, and is what
makes a million log lines cheaper than a Perl one-liner.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase, BufferedWriter, FileIO

from migrator.cgroups import (
    KUBEPODS,
    MOUNTS,
    SLICE,
    CgroupNameError,
    Driver,
    Kind,
    Place,
    Runtime,
    RuntimeUnknownError,
    from_cgroupfs,
    parse,
    translate_path,
)
from migrator.errors import UsageError

_CHUNK = (
    32 * 1024
)  # bytes; with more, malloc gives the memory back each time, which costs more than the calls
_REMEMBERED = 50_000  # spellings; a node has some thousand
_LONGEST = 4096  # bytes, PATH_MAX: what is further left of `kubepods` belongs to no path

# Bytes that belong to a path, or that next to one make it a pattern or another word.
_INSIDE = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_./-@%+~*?^$\\!#"
_CLASS = re.escape(_INSIDE) + rb"(\[{"
_TOKEN = re.compile(rb"kubepods(?:[" + _CLASS + rb"]++|\xe2\x80\xa6)*+")
_PLAIN = re.compile(rb"[\w./-]*")
_ESCAPED_SPACE = re.compile(rb"(\\[nrt])")
_BEFORE = re.compile(r"\^?(?:[^/]*[$%*][^/]*(?=/))?")
_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_ROOT_OF_KIND = ("kubelet",)  # kind and minikube start the kubelet with --cgroup-root=/kubelet

# What may stand left of `/kubepods` for the quick way: nothing of a path, or a mount point.
_ANY = rb"[" + _CLASS + rb"\x80-\xff]"
_CONTROLLERS = (
    b"",
    b"memory/",
    b"cpu,cpuacct/",
    b"cpu/",
    b"cpuset/",
    b"blkio/",
    b"pids/",
    b"systemd/",
    b"unified/",
)
_CONTROLLER_NAMES = (b"cpuacct/", b"cpu/", b"net_prio/", b"net_cls/")
_JOINED = re.compile(rb"/(?:cpu|cpuacct|net_cls|net_prio),\Z")
"""Controllers that are mounted together: their mount point has a comma in its name."""
_QUICK_LEFT = rb"(?:(?<=/kubepods)(?<!%s/kubepods)%s)" % (
    _ANY,
    b"".join(rb"|(?<=/sys/fs/cgroup/%skubepods)" % controller for controller in _CONTROLLERS),
)
# A dot costs nothing, a class costs a step a byte: what the dots stand for is judged once, by `_after_kubepods`.
_QUICK_RIGHT = rb"(?:(?:/burstable/pod|/besteffort/pod|/pod)HEX.{30}(?:END|/HEX.{62}END|.{4}END|.{4}/HEX.{62}END)|[\w./-]*+END)"
_QUICK_RIGHT = _QUICK_RIGHT.replace(b"HEX", rb"[0-9a-f][0-9a-f]").replace(b"END", rb"(?!%s)" % _ANY)
# The pattern starts with its literal, which `re` finds fast. The group is what follows it; None is another form.
_QUICK = re.compile(rb"kubepods(?:(%s%s|-)|)" % (_QUICK_LEFT, _QUICK_RIGHT), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Translated:
    """A translated text, and how many paths in it are spelled anew."""

    text: bytes
    replaced: int


class _AnotherFormError(Exception):
    """The quick way met what it does not understand."""


class _Memo(dict[bytes | None, bytes]):
    """What a function gave for a text, made when first asked for, of bounded size."""

    def __init__(self, make: Callable[[bytes | None], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: bytes | None) -> bytes:
        value = self._make(key)
        if key is not None and len(key) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[key] = value
        return value


class Translator:
    """Translates text towards one driver; remembers what it has seen, so one object should do a whole job.

    `runtime` names the scopes of containers, and is needed towards systemd when one is met. `cgroup_root` as for
    `cgroups.parse`. Raises CgroupNameError for a root that cannot be one.
    """

    def __init__(self, to: Driver, runtime: Runtime | None = None, cgroup_root: str | None = None) -> None:
        if cgroup_root is not None:
            from_cgroupfs(cgroup_root)
        self._to = to
        self._runtime = runtime
        self._root = cgroup_root
        self._tokens = _Memo(self._token)
        self._quick = _Memo(self._after_kubepods)

    def translate_bytes(self, data: bytes) -> Translated:
        """Translate a text that is whole, or ends between lines. Any bytes are text.

        Raises RuntimeUnknownError, with its `line`.
        """
        pieces: list[bytes] = []
        replaced = done = 0
        for start, token in self.tokens(data):
            try:
                new = self.translate_token(token)
            except RuntimeUnknownError as error:
                error.line = data.count(b"\n", 0, start) + 1
                raise
            replaced += new != token
            pieces += (data[done:start], new)
            done = start + len(token)
        pieces.append(data[done:])
        return Translated(b"".join(pieces), replaced)

    @staticmethod
    def tokens(data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield where each text between two boundaries begins that holds `kubepods`, and the text."""
        done = 0
        for found in _TOKEN.finditer(data):
            left = data[max(done, found.start() - _LONGEST) : found.start()]
            bare = left.rstrip(_INSIDE)
            if _JOINED.search(bare) and left[len(bare) :].startswith(_CONTROLLER_NAMES):
                bare = bare[:-1].rstrip(_INSIDE)  # the comma of `/sys/fs/cgroup/cpu,cpuacct/` is no boundary
            start = found.start() - len(left) + len(bare)
            done = found.end()
            yield start, data[start:done]

    def translate_token(self, token: bytes) -> bytes:
        """Translate what `tokens` gave; unchanged unless it surely is a path in the other driver's spelling.

        Raises RuntimeUnknownError.
        """
        return self._tokens[token]

    def translate_stream(self, source: BufferedIOBase, target: BufferedIOBase) -> None:
        """Copy a text and translate it on the way, each line as soon as it is complete.

        A line is held in memory whole. Raises RuntimeUnknownError; what stands before that block of lines is written.
        """
        kept: list[bytes] = []
        while data := source.read1(_CHUNK):
            kept.append(data)
            if b"\n" in data:
                data = b"".join(kept)
                end = data.rfind(b"\n") + 1
                kept = [data[end:]]
                target.write(self._translate_lines(memoryview(data)[:end]))
                target.flush()
        target.write(self._translate_lines(b"".join(kept)))
        target.flush()

    def _translate_lines(self, data: bytes | memoryview) -> bytes:
        pieces = _QUICK.split(data)
        try:
            pieces[1::2] = map(self._quick.__getitem__, pieces[1::2])
        except _AnotherFormError:
            return self.translate_bytes(bytes(data)).text
        return b"".join(pieces)

    def _after_kubepods(self, rest: bytes | None) -> bytes:
        if rest is None or not _PLAIN.fullmatch(rest):
            raise _AnotherFormError
        path, mount = b"/kubepods" + rest, b"/sys/fs/cgroup"
        new = self._token(path)
        if b"pod" not in rest and self._token(mount + path) != mount + new:
            raise _AnotherFormError  # `/kubepods/` alone is a path only below a mount point
        return new[1:]

    def _token(self, token: bytes | None) -> bytes:
        """Translate what stands between two boundaries, if it is a path."""
        token = token or b""
        if b"\\" in token:
            pieces = _ESCAPED_SPACE.split(token)
            if len(pieces) > 1:
                pieces[::2] = map(self._token, pieces[::2])
                return b"".join(pieces)
            head, mount, below = token.partition(b"/sys/fs/cgroup/")
            if head and mount and b"\\/" not in below:  # what is escaped ends where the path surely begins
                return head + self._token(mount + below)
            plain = token.replace(b"\\/", b"/")
            if plain != token:
                all_escaped = plain.count(b"/") == token.count(b"\\/")
                return self._token(plain).replace(b"/", b"\\/") if all_escaped else token
        text = token.decode("utf-8", "surrogateescape")
        before = found[0] if (found := _BEFORE.match(text)) else ""
        path = text.removeprefix(before).removesuffix("$").removesuffix("\\").removesuffix(".")
        after = text[len(before) + len(path) :]
        place = parse(path, self._root)
        if place is None or place.driver is self._to or not self._is_certain(place, path, before):
            return token
        try:
            new = place.spelled(self._to, self._runtime)
        except RuntimeUnknownError:
            raise
        except CgroupNameError:
            return token
        return f"{before}{new}{after}".encode("utf-8", "surrogateescape")

    def _is_certain(self, place: Place, path: str, before: str) -> bool:
        """Tell whether text that reads like a place surely is a cgroup, and not a file, a pattern or a word.

        Below /sys/fs/cgroup, it is. Else a pod or QoS class must follow `kubepods`, unless that is all
        there is of an absolute path. The kubelet's root must be named by `cgroup_root` or the slices, or be a single
        component of an absolute path with a pod. `before` is a shell variable, a format or a wildcard, if anything.
        """
        if place.kind is Kind.LITERAL or (place.kind is Kind.CHILD and place.container_id is None):
            return False
        if place.pod_uid and not _UID.fullmatch(place.pod_uid):
            return False
        if "/sys/fs/cgroup/" in f"/{place.prefix}/":
            return True
        below = place.kind is not Kind.KUBEPODS
        if path.startswith("//"):  # the rest of a URL; cAdvisor has the cgroup's path in it
            return below and place.prefix.endswith("containers")
        alone = not place.prefix and not place.relative and before in {"", "^"} and place.tail != "/"
        if self._root is not None:
            return place.pod_uid is not None or (not place.prefix and (below or alone))
        if not place.root or place.driver is Driver.SYSTEMD:
            return below or alone
        if place.relative or before not in {"", "^"}:
            return False
        return place.root == _ROOT_OF_KIND or (place.pod_uid is not None and len(place.root) == 1)


def run(
    paths: Sequence[str],
    *,
    to: Driver,
    runtime: Runtime | None = None,
    cgroup_root: str | None = None,
    in_place: bool = False,
) -> None:
    """Do the command `translate`: write each path anew to stdout; `-` filters stdin; `in_place` rewrites files.

    Of several files none is written unless all can be. Raises UsageError, and HostError for a file.
    """
    if "" in paths:
        raise UsageError("cannot translate an empty path", hint="is a shell variable empty?")
    try:
        translator = Translator(to, runtime, cgroup_root)
    except CgroupNameError as error:
        raise UsageError(f"--cgroup-root {cgroup_root}: {error}") from error
    if in_place:
        _rewrite(translator, paths)
        return
    target = _buffered(sys.stdout.buffer)
    try:
        for path in paths:
            if path == "-":
                _filter(translator, target)
            else:
                target.write(os.fsencode(_path(path, to, runtime, cgroup_root)) + b"\n")
        target.flush()
    except BrokenPipeError:
        # The reader has what it wanted. Python flushes once more at its end, and must find something there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_plain(arguments: Sequence[str]) -> bool:
    """Do the filter if these are its options, spelled plainly; else do nothing and return False.

    It is what the command does, without the start-up of its command-line library. Raises as `run` does.
    """
    options: dict[str, str] = {}
    paths: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in {"--to", "--runtime", "--cgroup-root"}:
            options[name] = value if equals else next(words, "")
        else:
            paths.append(word)
    try:
        to = Driver(options.get("--to", Driver.SYSTEMD))
        runtime = Runtime(options["--runtime"]) if "--runtime" in options else None
    except ValueError:
        return False
    if paths != ["-"]:
        return False
    run(paths, to=to, runtime=runtime, cgroup_root=options.get("--cgroup-root"))
    return True


def _path(path: str, to: Driver, runtime: Runtime | None, cgroup_root: str | None) -> str:
    import shlex  # noqa: PLC0415 - late: the filter starts faster without
    from pathlib import Path  # noqa: PLC0415

    known = parse(path, cgroup_root) is not None
    if not known and MOUNTS.isdisjoint(path.split("/")) and Path(path).is_file():
        raise UsageError(
            f"{path} is a file, not a cgroup",
            hint=f"--in-place {shlex.quote(path)}, or `translate - < {shlex.quote(path)}`",
        )
    # A slice is named by its bare word, by systemd and in the kubelet's configuration.
    if not known and "/" not in path and KUBEPODS not in path and not path.endswith(SLICE):
        raise UsageError(
            f"{path} is no cgroup path", hint=f"a reserved cgroup is written with a leading slash: /{path}"
        )
    try:
        return translate_path(path, to, runtime, cgroup_root)
    except RuntimeUnknownError as error:
        raise _runtime_wanted(path, error) from error
    except CgroupNameError as error:
        raise UsageError(str(error)) from error


def _filter(translator: Translator, target: BufferedIOBase) -> None:
    with contextlib.suppress(OSError):
        os.set_blocking(sys.stdin.fileno(), True)  # else a pause of the writer would read as the end
    try:
        translator.translate_stream(_buffered(sys.stdin.buffer), target)
    except RuntimeUnknownError as error:
        raise _runtime_wanted("standard input", error) from error


def _buffered(stream: object) -> BufferedIOBase:
    if isinstance(stream, BufferedIOBase):
        return stream
    if isinstance(stream, FileIO):  # PYTHONUNBUFFERED; its write may take only a part
        return BufferedWriter(FileIO(stream.fileno(), "w", closefd=False))
    raise UsageError("`translate` needs a standard input and output that hold bytes")


def _rewrite(translator: Translator, paths: Sequence[str]) -> None:
    from pathlib import Path  # noqa: PLC0415 - late, as above

    from migrator.host import Host  # noqa: PLC0415 - late, as above
    from migrator.terminal import note  # noqa: PLC0415 - late, as above

    host = Host()
    changes = []
    for path in paths:
        if path == "-":
            raise UsageError("--in-place wants files, and `-` is standard input")
        name = str(Path(path).absolute())
        try:
            changes.append((path, name, translator.translate_bytes(host.read(name))))
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file") from None
        except RuntimeUnknownError as error:
            raise _runtime_wanted(f"{path}:{error.line}", error) from error
    for path, name, translated in changes:
        if translated.replaced:
            host.write(name, translated.text, like=host.state(name))
        noun = "path" if translated.replaced == 1 else "paths"
        note(f"{path}: {translated.replaced} {noun} rewritten")


def _runtime_wanted(where: str, error: RuntimeUnknownError) -> UsageError:
    return UsageError(f"cannot translate {where}: {error}", hint="--runtime docker, containerd or crio")

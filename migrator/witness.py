# SPDX-License-Identifier: Apache-2.0
"""What the two witnesses say of a node now: the kernel's cgroup files, and systemd's units. They only look.

Neither is asked through the other, so that what both say the same is known twice; `verify.py` compares and judges.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from migrator.cgroups import CgroupName, CgroupNameError, Driver, from_cgroupfs
from migrator.errors import CgmigrateError, HostError
from migrator.facts.cgroup import walk
from migrator.facts.model import Hierarchy
from migrator.host import Reader
from migrator.limits import parse_count, parse_cpu_max, parse_memory
from migrator.systemd import Units

_LONGEST_ANSWER = 65536
"""Bytes of a health endpoint's answer that are read."""
SCOPES = ("docker-*.scope", "cri-containerd-*.scope", "crio-*.scope")
"""Patterns of the scopes that runtimes make, `crio-conmon-*.scope` among them."""

PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "ControlGroup"),
    *("MemoryLimit", "MemoryMax", "CPUShares", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax"),
)

LIMIT_FILES = {
    "memory.limit_in_bytes": "memory",
    "memory.max": "memory",
    "cpu.shares": "shares",
    "cpu.weight": "weight",
    "cpu.cfs_quota_us": "quota",
    "cpu.cfs_period_us": "period",
    "cpu.max": "quota",
    "pids.max": "tasks",
}
_FILES_OF = {
    "memory": ("memory.limit_in_bytes",),
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "pids": ("pids.max",),
}
_FILES_V2 = ("memory.max", "cpu.weight", "cpu.max", "pids.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """One cgroup as the kernel shows it in all hierarchies; `path` is below their mounts."""

    path: str
    mounts: tuple[str, ...] = ()
    """Hierarchies in which the directory exists."""
    pids: frozenset[int] = frozenset()
    """Processes in it or below it, in any hierarchy."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """`memory` bytes, `quota` and `period` microseconds, `shares` (v1) or `weight` (v2), `tasks`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdSays:
    """What systemd answered, asked in two ways."""

    shown: Mapping[str, Mapping[str, str]]
    """`systemctl show`: properties by unit, `[not set]` and all as it prints them."""
    listed: Mapping[str, str]
    """D-Bus: active state by unit."""
    silent: tuple[tuple[str, str], ...] = ()
    """(who gave no answer, why)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A static pod as its file asks for it."""

    path: str
    name: str
    namespace: str = "default"
    containers: tuple[str, ...] = ()
    """Names of the containers that must keep running; empty where `restartPolicy` lets them end."""


def tree_root(driver: Driver, cgroup_root: str = "/") -> str:
    """Return the path of the kubepods tree in one spelling below each mount, e.g. `/kubepods.slice`.

    Raises:
        CgroupNameError: the node's cgroup root has no such spelling.
    """
    name = CgroupName((*from_cgroupfs(cgroup_root or "/").components, "kubepods"))
    return name.to_systemd() if driver is Driver.SYSTEMD else name.to_cgroupfs()


def unit_patterns(cgroup_root: str = "/") -> tuple[str, ...]:
    """Return the patterns of every unit that can be Kubernetes': its slices, and all containers' scopes.

    No plain name is among them: systemd would load that unit to tell about it, and then there is one.
    """
    try:
        stem = tree_root(Driver.SYSTEMD, cgroup_root).rpartition("/")[2].removesuffix(".slice")
    except CgroupNameError:
        stem = "kubepods"
    return (f"{stem}*.slice", *SCOPES)


def look_at_tree(
    reader: Reader, hierarchies: Sequence[Hierarchy], root: str, page_size: int = 4096
) -> dict[str, Cgroup]:
    """Read every cgroup from `root` down in every hierarchy: where it exists, who lives there, what limits it.

    What vanishes while it is looked at is left out; the node goes on living.
    """
    mounts: dict[str, list[str]] = {}
    pids: dict[str, set[int]] = {}
    limits: dict[str, dict[str, int]] = {}
    for hierarchy in hierarchies:
        top = reader.resolve(hierarchy.mount)
        files = _limit_files(hierarchy)
        for below, populated in walk(f"{top}{root}"):
            path = root + below
            mounts.setdefault(path, []).append(hierarchy.mount)
            inside = _pids(f"{top}{path}/cgroup.procs") if populated else set()
            for above in _with_parents(path, root) if inside else ():
                pids.setdefault(above, set()).update(inside)
            for name in files:
                text = _text(f"{top}{path}/{name}")
                if text is not None:
                    limits.setdefault(path, {}).update(_limit(name, text, page_size))
    return {
        path: Cgroup(
            path=path,
            mounts=tuple(found),
            pids=frozenset(pids.get(path, ())),
            limits=limits.get(path, {}),
        )
        for path, found in sorted(mounts.items())
    }


def look_at_processes(reader: Reader, pids: Iterable[int]) -> dict[int, dict[str, str]]:
    """Read `/proc/PID/cgroup`: for each process its path by hierarchy (`memory`, `name=systemd`, empty for cgroup2).

    A process that has ended, a zombie too, is left out: the kernel shows it in the root of every v1 hierarchy.
    """
    found: dict[int, dict[str, str]] = {}
    for pid in pids:
        proc = reader.root / "proc" / str(pid)
        lines = [line.split(":", 2) for line in (_text(f"{proc}/cgroup") or "").split("\n") if line]
        status = (_text(f"{proc}/stat") or "").rpartition(")")[2].split()
        if lines and (not status or status[0] not in "ZXx"):
            found[pid] = {line[1]: line[2].removesuffix(" (deleted)") for line in lines if len(line) == 3}
    return found


def look_at_systemd(reader: Reader, cgroup_root: str = "/") -> SystemdSays:
    """Ask systemd for all units of Kubernetes in both ways at once: one `systemctl show`, and D-Bus.

    Both take systemd the same short time, so that what is seen is of one moment. Silence is part of the answer.
    """
    patterns = unit_patterns(cgroup_root)
    silent: list[tuple[str, str]] = []
    shown: dict[str, dict[str, str]] = {}
    listed: dict[str, str] = {}
    with Units(reader) as units, ThreadPoolExecutor(1) as beside:
        showing = beside.submit(
            units.show, patterns, PROPERTIES
        )  # waits for a program, and uses no connection
        try:
            listed = {unit.name: unit.active_state for unit in units.list(*patterns)}
        except CgmigrateError as error:
            silent.append(("systemd on D-Bus", error.message))
        try:
            shown = showing.result()
        except CgmigrateError as error:
            silent.append(("systemctl", error.message))
    return SystemdSays(shown=shown, listed=listed, silent=tuple(silent))


def process_start(reader: Reader, pid: int) -> float | None:
    """Return when a process started, in seconds of the wall clock; None when there is no such process."""
    fields = (_text(f"{reader.root}/proc/{pid}/stat") or "").rpartition(")")[2].split()
    uptime = (_text(f"{reader.root}/proc/uptime") or "").split()
    if len(fields) < 20 or not uptime:
        return None
    # proc(5): field 22 is the start in clock ticks since boot; state, field 3, is the first one here.
    return time.time() - float(uptime[0]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def changed(reader: Reader, path: str) -> float | None:
    """Return when a file was last written (seconds of the wall clock), or None when it is absent."""
    try:
        return reader.resolve(path).stat().st_mtime
    except (OSError, HostError):
        return None


def read_manifests(reader: Reader, path: str) -> tuple[tuple[Manifest, ...], tuple[tuple[str, str], ...]]:
    """Read the kubelet's static pod files (`staticPodPath`: a directory, or one file) as YAML or JSON.

    Returns the pods, and (file, why) of what could not be read. The kubelet leaves out names that begin with a dot.
    """
    names = [f"{path}/{name}" for name in reader.names(path) if not name.startswith(".")] or [path]
    found: list[Manifest] = []
    unread: list[tuple[str, str]] = []
    for name in names if path else ():
        try:
            if reader.resolve(name).is_file():
                found += _manifest(name, reader.read(name))
        except (HostError, OSError, ValueError) as error:
            unread.append((name, str(error)))
    return tuple(found), tuple(unread)


def _manifest(path: str, data: bytes) -> Iterator[Manifest]:
    from migrator.configs import text, yamltext  # noqa: PLC0415 late: only where there are static pods

    try:
        document = yamltext.plain_document(text.decode(data))
    except text.ConfigSyntaxError as error:
        raise ValueError(str(error)) from error
    if not isinstance(document, dict) or document.get("kind") != "Pod":
        return
    metadata, spec = (document.get(key) for key in ("metadata", "spec"))
    if not isinstance(metadata, dict) or not isinstance(spec, dict) or "name" not in metadata:
        raise ValueError("a Pod without metadata.name or spec")
    stays = spec.get("restartPolicy", "Always") == "Always"
    containers = spec.get("containers") or []
    if not isinstance(containers, list) or not all(isinstance(each, dict) for each in containers):
        raise ValueError("a Pod whose spec.containers is no list of mappings")
    yield Manifest(
        path=path,
        name=_word(metadata["name"]),
        namespace=_word(metadata.get("namespace") or "default"),
        containers=tuple(_word(each["name"]) for each in containers if stays and "name" in each),
    )


def _word(name: object) -> str:
    if isinstance(name, dict | list):
        raise ValueError("a Pod with a name that is no word")  # noqa: TRY004 it is the file's error
    return str(name)


def ask_health(url: str, timeout: float = 2.0) -> str:
    """Ask a `healthz` endpoint; return an empty string for "ok", else what it said or why it said nothing.

    Whatever listens there has `timeout` seconds in all, is not followed elsewhere, and may say anything.
    """
    try:
        said = _http_get(url, timeout)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    status = re.match(rb"HTTP/1\.[01] (\d{3})[ \r\n]", said)
    _, whole, body = said.partition(b"\r\n\r\n")
    if status is None or not whole:
        return (
            f"not an answer in HTTP: {said[:80]!r}" if said else "it closed the connection without an answer"
        )
    return "" if status[1] == b"200" else f"{int(status[1])} {body[:1000].decode('utf-8', 'replace').strip()}"


def _http_get(url: str, timeout: float) -> bytes:
    """Return what a server sends before it closes, at most 64 KiB and as far as the time allows.

    HTTP/1.0, so that it closes; http.client's timeouts are for each piece, and hold nobody who sends one a second.

    Raises:
        OSError: no connection, or not a byte in time.
        ValueError: the URL names no address.
    """
    where = urlsplit(url)
    address = where.hostname or "127.0.0.1", where.port or 80
    deadline = time.monotonic() + timeout
    said = b""
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(f"GET {where.path or '/'} HTTP/1.0\r\nHost: {where.netloc}\r\n\r\n".encode())
        while len(said) < _LONGEST_ANSWER and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                piece = connection.recv(_LONGEST_ANSWER - len(said))
            except TimeoutError:
                break
            if not piece:
                return said
            said += piece
    if not said:
        raise TimeoutError(f"no answer within {timeout:g} s")
    return said


def _limit_files(hierarchy: Hierarchy) -> tuple[str, ...]:
    if hierarchy.version == 2:
        return _FILES_V2
    return tuple(name for controller in hierarchy.controllers for name in _FILES_OF.get(controller, ()))


def _limit(name: str, text: str, page_size: int) -> dict[str, int]:
    if name == "cpu.max":
        pair = parse_cpu_max(text)
        return {"quota": pair[0], "period": pair[1]} if pair else {}
    value = parse_memory(text, page_size) if name.startswith("memory.") else parse_count(text)
    return {} if value is None else {LIMIT_FILES[name]: value}


def _with_parents(path: str, root: str) -> Iterator[str]:
    while len(path) >= len(root):
        yield path
        path = path.rpartition("/")[0]


def _pids(path: str) -> set[int]:
    return {int(word) for word in (_text(path) or "").split() if word.isdigit()}


def _text(path: str) -> str | None:
    """Return a kernel file's text; None when it is gone or will not be read (a threaded cgroup has no processes)."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 (ten thousand files: plain open is what is fast)
            return stream.read().decode("utf-8", "surrogateescape")
    except OSError:
        return None

# SPDX-License-Identifier: Apache-2.0
"""The cgroup tree: both spellings of kubepods in every hierarchy, what lives there, and what should not be there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from migrator import cgroups
from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Cgroups, Hierarchy, Tree, Unit
from migrator.facts.node import UNIT_DIRECTORIES
from migrator.host import Reader

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_UID = "0" * 32
TRANSIENT = "/run/systemd/transient"
_SLICE_FILE = re.compile(r"(?:.+-)?kubepods(?:-.*)?\.slice")
INSISTED = frozenset(("cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "name=systemd"))
"""v1 hierarchies in which the kubelet looks for a cgroup before it believes that it exists (kops#3223)."""
INSISTED_V2 = frozenset(("cpu", "cpuset", "memory", "pids", "hugetlb"))
"""Their like on v2, where the top has them."""
_MKDIR = re.compile(r"(?:/usr)?/bin/mkdir -p (.+)")
_SLICE_DROP_INS = re.compile(r"(?:(?:.+-)?kubepods(?:-.*)?\.)?slice\.d")


@dataclass(frozen=True, slots=True)
class PodDirectories:
    """Where a pod's own cgroup stands: its QoS class by place, and the spellings it exists in."""

    qos: str
    drivers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Survey:
    """All that one walk over the hierarchies tells: the fact itself, and the pods' cgroups by uid."""

    cgroups: Cgroups
    pods: dict[str, PodDirectories] = field(default_factory=dict)


@dataclass(slots=True)
class _Count:
    """One kubepods tree while it is counted."""

    driver: cgroups.Driver
    path: str
    below: str
    pods: tuple[tuple[str, str, str], ...]
    """QoS class, and what stands before and after the uid in the path of its pods."""
    directories: int = 0
    populated: int = 0


def walk(top: str) -> Iterator[tuple[str, bool]]:
    """Yield every directory from `top` down as (path below `top`, populated); `top` itself is the empty path.

    Populated means that `cgroup.procs` holds at least one process: its size is always 0, so a byte is read. The walk
    goes on when a cgroup vanishes under it. A cgroup's link count is 2 plus its children, so a leaf needs no listing;
    a file system that does not count this way is noticed at `top`, and then every directory is listed.
    """
    try:
        counted = _counts_links(top)
        yield "", _populated(f"{top}/cgroup.procs")
    except OSError:
        return
    todo = [""]
    while todo:
        path = todo.pop()
        try:
            directory = os.open(top + path, _DIRECTORY)
        except OSError:
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    below = f"{path}/{entry.name}"
                    try:
                        leaf = counted and entry.stat(follow_symlinks=False).st_nlink == 2
                    except OSError:
                        continue
                    if not leaf:
                        todo.append(below)
                    yield below, _populated(f"{entry.name}/cgroup.procs", directory)
        except OSError:
            continue
        finally:
            os.close(directory)


def scan(reader: Reader, hierarchies: Iterable[Hierarchy], cgroup_root: str = "") -> Cgroups:
    """Return the kubepods trees of both spellings and stray directories; units are not asked for here."""
    return survey(Look(reader), hierarchies, cgroup_root).cgroups


def survey(look: Look, hierarchies: Iterable[Hierarchy], cgroup_root: str = "") -> Survey:
    """Walk every hierarchy once; the kubelet's tree is looked for at `cgroup_root` and at the top."""
    hierarchies = tuple(hierarchies)
    trees: list[Tree] = []
    literal: list[str] = []
    drivers: dict[str, set[str]] = {}
    classes: dict[str, str] = {}
    for hierarchy in hierarchies:
        counts = _roots(look, cgroup_root)
        for path, populated in walk(_real(look, hierarchy.mount)):
            if ".slice:" in path and ".slice:" in path.rpartition("/")[2]:
                literal.append(hierarchy.mount + path)
            for count in counts:
                if path.startswith(count.below) or path == count.path:
                    break
            else:
                continue
            count.directories += 1
            count.populated += populated
            # Most cgroups are containers, and their names hold no "pod".
            if path.rfind("pod") > path.rfind("/") and (pod := _pod(path, count.pods)):
                uid, qos = pod
                classes[uid] = qos
                drivers.setdefault(uid, set()).add(count.driver.value)
        trees += (
            Tree(
                driver=each.driver.value,
                mount=hierarchy.mount,
                path=each.path,
                directories=each.directories,
                populated=each.populated,
            )
            for each in counts
            if each.directories
        )
    descendants, dying = _counters(look.reader, hierarchies)
    found = Cgroups(
        trees=tuple(sorted(trees, key=lambda tree: (tree.mount, tree.path))),
        literal=tuple(sorted(literal)),
        slice_drop_ins=slice_drop_ins(look.reader),
        descendants=descendants,
        dying=dying,
    )
    return Survey(
        found, {uid: PodDirectories(classes[uid], frozenset(drivers[uid])) for uid in sorted(drivers)}
    )


def slice_drop_ins(reader: Reader) -> tuple[str, ...]:
    """Return the drop-ins for slices that the kubelet makes, those for all slices included (systemd.unit(5), F46)."""
    found = [
        f"{directory}/{name}/{file}"
        for directory in UNIT_DIRECTORIES
        for name in reader.names(directory)
        if _SLICE_DROP_INS.fullmatch(name)
        for file in reader.names(f"{directory}/{name}")
        if file.endswith(".conf")
    ]
    # /lib is /usr/lib on most systems: a file counts once, under the first of its names.
    places: dict[Path, str] = {}
    for path in found:
        with contextlib.suppress(HostError):
            places.setdefault(reader.resolve(path), path)
    return tuple(places.values())


def slice_files(reader: Reader, loaded: Iterable[str]) -> tuple[str, ...]:
    """Return unit files of the kubelet's slices; a transient one belongs to a unit that is `loaded`, or is left (F23)."""
    units = set(loaded)
    found: dict[str, str] = {}
    for directory in (*UNIT_DIRECTORIES, TRANSIENT):
        for name in reader.names(directory):
            if _SLICE_FILE.fullmatch(name) and not (directory == TRANSIENT and name in units):
                found.setdefault(name, f"{directory}/{name}")
    return tuple(found[name] for name in sorted(found))


def enabled_controllers(reader: Reader, hierarchies: Iterable[Hierarchy]) -> tuple[str, ...] | None:
    """Return the controllers that the top of cgroup v2 gives to its children; None in the other modes (F53)."""
    hierarchies = tuple(hierarchies)
    if [each.version for each in hierarchies] != [2]:
        return None
    text = reader.text(f"{hierarchies[0].mount}/cgroup.subtree_control")
    return None if text is None else tuple(sorted(text.split()))


def absent(
    look: Look, hierarchies: Iterable[Hierarchy], paths: Iterable[str], unit: Unit | None = None
) -> tuple[str, ...]:
    """Return those of some cgroups that the kubelet will not find, as mount + path.

    On v1 each controller's hierarchy counts (F41); on v2 each controller of the top that the kubelet uses must be in the
    cgroup (k8s `getSupportedUnifiedControllers`). What the kubelet's own `unit` makes before each start is there.
    """
    hierarchies = tuple(hierarchies)
    v1 = [each for each in hierarchies if each.version == 1 and INSISTED.intersection(each.controllers)]
    made = _made_by_unit(look, unit)
    found = []
    for path in dict.fromkeys(paths):
        for each in v1 or hierarchies:
            place = each.mount + path
            is_made = place in made or (
                "name=systemd" in each.controllers and path.rpartition("/")[2] in made
            )
            if look.reader.exists(each.mount) and not is_made and not _is_found(look, each, place):
                found.append(place)
    return tuple(found)


def _is_found(look: Look, hierarchy: Hierarchy, place: str) -> bool:
    if not look.reader.exists(place):
        return False
    if hierarchy.version == 1:
        return True
    top, here = (
        (look.reader.text(f"{path}/cgroup.controllers") or "").split() for path in (hierarchy.mount, place)
    )
    return INSISTED.intersection(top or INSISTED_V2) <= set(here)


def _made_by_unit(look: Look, unit: Unit | None) -> set[str]:
    """Return the directories that a unit makes by `ExecStartPre=mkdir -p`, and the units that it wants."""
    made: set[str] = set()
    for path in (unit.fragment, *unit.drop_ins) if unit else ():
        for line in (look.reader.text(path) or "").split("\n") if path else ():
            key, _, value = line.strip().partition("=")
            if key in ("Wants", "Requires"):
                made.update(value.split())
            elif key == "ExecStartPre" and (directories := _MKDIR.fullmatch(value)):
                made.update(directories[1].split())
    return made


def _roots(look: Look, cgroup_root: str) -> list[_Count]:
    """Return the places of the kubelet's tree: at its configured root, and at the top, in both spellings."""
    found: dict[str, _Count] = {}
    for root in dict.fromkeys((cgroup_root or "/", "/")):
        for driver in cgroups.Driver:
            try:
                path = _kubepods(root, driver)
                pods = tuple(_pod_pattern(qos, driver, root) for qos in cgroups.QoS)
            except cgroups.CgroupNameError as error:
                look.unknown("kubelet.cgroup_root", error)
            else:
                found.setdefault(path, _Count(driver, path, f"{path}/", pods))
    return list(found.values())


def _kubepods(root: str, driver: cgroups.Driver) -> str:
    name = cgroups.from_cgroupfs(f"{root}/{cgroups.KUBEPODS}")
    return name.to_systemd() if driver is cgroups.Driver.SYSTEMD else name.to_cgroupfs()


def _pod_pattern(qos: cgroups.QoS, driver: cgroups.Driver, root: str) -> tuple[str, str, str]:
    """Return the class, and the text around a pod's uid in its path: a walk meets thousands, too many to parse each."""
    before, _, after = cgroups.pod_slice(_UID, qos, driver, cgroup_root=root).rpartition(_UID)
    return qos.value, before, after


def _pod(path: str, patterns: Iterable[tuple[str, str, str]]) -> tuple[str, str] | None:
    """Return uid and class of the pod whose own cgroup this is."""
    for qos, before, after in patterns:
        if path.startswith(before) and path.endswith(after):
            uid = path[len(before) : len(path) - len(after)]
            return (uid.replace("_", "-"), qos) if uid and "/" not in uid else None
    return None


def _real(look: Look, mount: str) -> str:
    try:
        return str(look.reader.resolve(mount))
    except HostError as error:
        look.unknown(mount, error)
        return ""


def _counts_links(top: str) -> bool:
    with os.scandir(top) as entries:
        children = sum(entry.is_dir(follow_symlinks=False) for entry in entries)
    return Path(top).stat().st_nlink == 2 + children


def _populated(path: str, directory: int | None = None) -> bool:
    try:
        descriptor = os.open(path, _FILE, dir_fd=directory)
    except OSError:
        return False
    try:
        return bool(os.read(descriptor, 1))
    except OSError as error:
        # cgroups(7): the processes of a threaded cgroup2 are listed by its domain only; it exists to hold threads.
        return error.errno == errno.EOPNOTSUPP
    finally:
        os.close(descriptor)


def _counters(reader: Reader, hierarchies: Iterable[Hierarchy]) -> tuple[int, int]:
    """Return how many cgroups there are, and how many removed ones the kernel still holds (F28)."""
    for each in hierarchies:
        if each.version == 2:
            text = reader.text(f"{each.mount}/cgroup.stat") or ""
            values = dict(re.findall(r"^(nr_\w+) (\d+)$", text, re.MULTILINE))
            return int(values.get("nr_descendants", 0)), int(values.get("nr_dying_descendants", 0))
    counts = re.findall(r"^[^#\s]\S*\s+\d+\s+(\d+)\s+\d+$", reader.text("/proc/cgroups") or "", re.MULTILINE)
    return max(map(int, counts), default=0), 0

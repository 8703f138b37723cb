# SPDX-License-Identifier: Apache-2.0
"""The cgroups beside its pods that a kubelet insists on: its root, and what it reserves (F38-F44). Pure but for the texts.

The kubelet makes none of them and exits where one is missing. `kubeReservedCgroup` and `systemReservedCgroup` are spelled
by the driver: the last component of `/kube-reserved` alone would count under systemd, and its dash nest, so the setting is
rewritten to the full path of the slice. `cgroupRoot` keeps its value and gets the suffix from the kubelet. `kubeletCgroups`
and `runtimeCgroups` are taken literally under either driver, so they change only where they lie in a reserved cgroup
that does (k8s pkg/kubelet/cm, `CgroupName`, `ParseCgroupfsToCgroupName`, `createManager`).

On cgroup v1 the kubelet looks for the directory in each controller's hierarchy, and systemd makes a slice in those alone
that it has a use for: never in cpuset and hugetlb. So a slice is a unit file, and a drop-in of the kubelet's unit starts it
and makes the other directories before each start of the kubelet (F41).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from migrator.cgroups import KUBEPODS, CgroupNameError, Driver
from migrator.configs import Edit, Edited, flags, kubelet, units
from migrator.configs.quantity import limits
from migrator.configs.text import ConfigSyntaxError
from migrator.configs.words import Flag
from migrator.errors import BlockedError
from migrator.facts.cgroup import INSISTED
from migrator.facts.kubelet_state import (
    ENFORCED_BY,
    enforced,
    place_of_reserved,
    place_of_root,
)
from migrator.facts.model import Facts
from migrator.facts.node import UNIT_DIRECTORIES

ROOT = "cgroupRoot"
DROP_IN = "20-cgmigrate-slices.conf"
OLDEST = (1, 16)
"""Kubelets before take only the last component of a name, and that under either driver (k/k#78793)."""

Read = Callable[[str], bytes | None]
FileEdit = tuple[str, Callable[[bytes | None], Edited], str, bool]
"""Path, editor, why, and whether systemd must read the file again."""

_FOLLOW = ("kubeletCgroups", "runtimeCgroups")
_FLAGS = {
    "kubeReservedCgroup": Flag("--kube-reserved-cgroup", underscores=True),
    "systemReservedCgroup": Flag("--system-reserved-cgroup", underscores=True),
    "kubeletCgroups": Flag("--kubelet-cgroups", underscores=True),
    "runtimeCgroups": Flag("--runtime-cgroups", underscores=True),
}
_QUANTITIES = {
    "kubeReservedCgroup": ("kubeReserved", Flag("--kube-reserved", underscores=True)),
    "systemReservedCgroup": ("systemReserved", Flag("--system-reserved", underscores=True)),
}
_SYSTEMDS_OWN = ("/system.slice", "/user.slice", "/machine.slice")
_PLAIN = re.compile(r"[A-Za-z0-9:_./-]+")
_WHY = "the kubelet insists on this cgroup and does not make it (F38, F41, F43)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One cgroup that the kubelet insists on; `place` is its path under systemd, empty where it has none."""

    setting: str
    value: str
    place: str = ""
    reference: str = ""
    obstacle: str = ""
    """Why the plan can neither name nor prepare it; empty: it can."""

    @property
    def is_renamed(self) -> bool:
        """The setting itself must change."""
        return self.setting != ROOT and self.place != f"/{self.value.strip('/')}"


def wanted(facts: Facts) -> tuple[Wanted, ...]:
    """Return the root and the enforced cgroups that are other ones under systemd; a kubelet that has it reads its names so already."""
    root = facts.kubelet.cgroup_root
    named = ((ROOT, root),) if root.strip("/") else ()
    renamed = () if facts.kubelet.driver.value == Driver.SYSTEMD else enforced(facts.kubelet)
    every = [_wanted(facts, setting, value) for setting, value in (*named, *renamed)]
    found = [each for each in every if each.obstacle or each.setting == ROOT or each.is_renamed]
    return tuple(
        replace(each, obstacle=f"{others[0]} names the same one, and a slice has the limits of one of them")
        if not each.obstacle
        and (others := [other.setting for other in every if other is not each and other.place == each.place])
        else each
        for each in found
    )


def _wanted(facts: Facts, setting: str, value: str) -> Wanted:
    def refused(reference: str, obstacle: str, place: str = "") -> Wanted:
        return Wanted(setting=setting, value=value, place=place, reference=reference, obstacle=obstacle)

    named = "F43" if setting == ROOT else "F40" if "-" in value else "F38"
    if setting == ROOT and not facts.kubelet.cgroups_per_qos:
        return refused(
            "F43", "with cgroupsPerQOS: false containers stand in the root itself, which was not tried"
        )
    if setting == ROOT and value.rstrip("/").endswith(".slice"):
        return refused("F43", "the kubelet adds .slice itself, so it would look for a second one")
    if setting == ROOT and value.strip("/").split("/")[0] == KUBEPODS:
        return refused("F43", "its tree could not be told from a stale one at the top, which has that name")
    if value.rstrip("/").endswith((".service", ".scope")):
        return refused("F39", "the kubelet makes a slice of it, and a service has none")
    try:
        place = (
            place_of_root(value) if setting == ROOT else place_of_reserved(value, facts.kubelet.driver.value)
        )
    except CgroupNameError as error:
        return refused(named, f"it has no name there: {error}")
    found = Wanted(setting=setting, value=value, place=place, reference=named)
    if setting != ROOT and not found.is_renamed:
        return refused("F38", "the top of the tree is no slice") if place == "/" else found
    return refused(named, obstacle, place) if (obstacle := _obstacle(facts, found)) else found


def _obstacle(facts: Facts, found: Wanted) -> str:
    release = re.match(r"(\d+)\.(\d+)", facts.kubelet.version or "")
    if found.place in _SYSTEMDS_OWN:
        return f"its name there is {found.place}, which is systemd's own and holds other processes"
    if not _PLAIN.fullmatch(found.place):
        return f"its name there would be {found.place}, which no unit can have"
    if found.is_renamed and (release is None or (int(release[1]), int(release[2])) < OLDEST):
        return f"how kubelet {facts.kubelet.version or 'of an unknown version'} reads the name was not tried (1.16 and later were)"
    if not facts.node.hierarchies:
        return (
            f"its name there is {found.place}, and in which cgroup hierarchies it must be made is not known"
        )
    if absent(facts, found.place) and not _mounts(facts):
        return (
            f"its name there is {found.place}, which is not there or lacks a controller, and on cgroup v2 systemd gives a slice "
            "no hugetlb and not always cpuset, which the kubelet asks for where the top has them: preparing it was not tried"
        )
    return ""


def absent(facts: Facts, place: str) -> tuple[str, ...]:
    """Return the directories of a cgroup that are missing now, as mount + path."""
    mounts = [each.mount for each in facts.node.hierarchies]
    missing = set(facts.cgroups.reserved_absent)
    return tuple(mount + place for mount in mounts if mount + place in missing)


def renames(facts: Facts) -> dict[str, str]:
    """Return setting → new value for every setting of the kubelet that the plan rewrites."""
    moved = [each for each in wanted(facts) if each.is_renamed and not each.obstacle]
    names = {each.setting: each.place for each in moved}
    for setting, value in facts.kubelet.reserved_cgroups:
        for each in moved:
            path, above = f"/{value.strip('/')}/", f"/{each.value.strip('/')}/"
            if setting in _FOLLOW and path.startswith(above):
                names[setting] = f"{each.place}/{path.removeprefix(above)}".rstrip("/")
    return names


def edits(facts: Facts, read: Read) -> Iterator[FileEdit]:
    """Yield the edits of the kubelet's settings, then the files that prepare its slices.

    Raises:
        BlockedError: no file of the kubelet gives the setting, or one of them is broken.
    """
    if not wanted(facts):
        return
    files = _Files.of(facts, read)
    for setting, value in renames(facts).items():
        now = dict(facts.kubelet.reserved_cgroups)[setting]
        if not _PLAIN.fullmatch(value):
            raise BlockedError(
                f"{setting} = {now} lies in a cgroup that gets another name, and has a character that is in no plain name",
                hint=f"give {setting} another value, or none, then plan again",
            )
        found = tuple(files.giving(setting, now, value))
        if not found:
            raise BlockedError(
                f"{setting} must become {value}, and no file of the kubelet gives it",
                hint=f"put {setting} into the kubelet's configuration file, then plan again",
            )
        yield from found
    made = [each for each in wanted(facts) if not each.obstacle and _is_prepared(facts, each, read)]
    for each in made:
        path = f"{UNIT_DIRECTORIES[0]}/{_unit(each.place)}"
        if not _has_unit(each.place, read):
            yield path, _written(_slice(facts, each, files)), _WHY, True
    if made:
        service = facts.kubelet.unit.name if facts.kubelet.unit else "kubelet.service"
        path = f"{UNIT_DIRECTORIES[0]}/{service}.d/{DROP_IN}"
        why = "start the slices, and make the directories that systemd leaves out, before each start of the kubelet (F41)"
        yield path, _written(_drop_in(facts, made, _kept(path, read(path)))), why, True


def made_by(facts: Facts, paths: Iterable[str]) -> list[str]:
    """Return the cgroups that exist only because of these new files: the way back removes them."""
    written = set(paths)
    mounts = len(_mounts(facts)) + len(_mounts(facts, named=True))
    return [
        each.place
        for each in wanted(facts)
        if f"{UNIT_DIRECTORIES[0]}/{_unit(each.place)}" in written
        and len(absent(facts, each.place)) == mounts
    ]


def _unit(place: str) -> str:
    return place.rpartition("/")[2]


def _has_unit(place: str, read: Read) -> bool:
    return any(read(f"{directory}/{_unit(place)}") is not None for directory in UNIT_DIRECTORIES)


def _is_prepared(facts: Facts, each: Wanted, read: Read) -> bool:
    """Tell whether the plan prepares it: on cgroup v1, where somebody's unit and every directory are not there already."""
    return bool(_mounts(facts)) and (bool(absent(facts, each.place)) or not _has_unit(each.place, read))


def _mounts(facts: Facts, *, named: bool = False) -> list[str]:
    """Return where the kubelet looks on cgroup v1: the controllers' hierarchies, or the named one, which is systemd's."""
    return [
        each.mount
        for each in facts.node.hierarchies
        if each.version == 1
        and INSISTED.intersection(each.controllers)
        and ("name=systemd" in each.controllers) == named
    ]


def _slice(facts: Facts, each: Wanted, files: _Files) -> str:
    values = files.limits(each.setting) if each.setting != ROOT else {}
    words = facts.kubelet.enforce_node_allocatable
    if ENFORCED_BY.get(each.setting, "") not in words:  # `-compressible`: the CPU alone
        values = {key: value for key, value in values.items() if key == "CPUShares"}
    lines = [
        f"# {each.setting}: {_WHY}. Made by cgmigrate.",
        "[Unit]",
        f"Description={each.setting} of the kubelet",
        "",
        "[Slice]",
        "CPUAccounting=yes",
        "MemoryAccounting=yes",
        "TasksAccounting=yes",
    ]
    if values:
        lines.append(
            "# What the kubelet writes: without them a daemon-reload would take its limits back (F42)."
        )
    return "\n".join([*lines, *(f"{key}={value}" for key, value in values.items())]) + "\n"


def _kept(path: str, before: bytes | None) -> tuple[list[str], list[str]]:
    """Return the slices and the commands of an earlier drop-in of ours.

    Raises:
        BlockedError: somebody has written other lines into it, which would be lost.
    """
    names: list[str] = []
    commands: list[str] = []
    for number, line in enumerate((before or b"").decode(errors="replace").split("\n"), 1):
        key, _, value = line.partition("=")
        if key == "Wants":
            names += value.split()
        elif line.startswith("ExecStartPre=/bin/mkdir -p "):
            commands.append(line)
        elif line not in ("", "[Unit]", "[Service]") and not line.startswith("#") and key != "After":
            raise BlockedError(
                f"{path}:{number}: this drop-in is cgmigrate's own, and `{key}` is none of its settings",
                hint="move that line to a drop-in of another name, then plan again",
            )
    return names, commands


def _drop_in(facts: Facts, made: Iterable[Wanted], kept: tuple[list[str], list[str]]) -> str:
    places = list(dict.fromkeys(each.place for each in made))
    names = " ".join(dict.fromkeys((*kept[0], *map(_unit, places))))
    lines = [
        f"# {_WHY[0].upper()}{_WHY[1:]}. Made by cgmigrate.",
        "[Unit]",
        f"Wants={names}",
        f"After={names}",
        "",
        "[Service]",
    ]
    commands = [
        f"ExecStartPre=/bin/mkdir -p {' '.join(f'{mount}{place}' for mount in _mounts(facts))}"
        for place in places
    ]
    return "\n".join([*lines, *dict.fromkeys((*kept[1], *commands))]) + "\n"


def _written(text: str) -> Callable[[bytes | None], Edited]:
    """Return the editor that makes a file of ours as a whole."""
    data = text.encode()
    lines = [line.partition("=") for line in text.split("\n")]
    settings = tuple(
        Edit(key, None, value, number)
        for number, (key, equals, value) in enumerate(lines, 1)
        if equals and not key.startswith("#")
    )
    return lambda before: Edited(data, () if before == data else settings)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that give a kubelet its settings: configuration, unit with drop-ins, environment."""

    configs: tuple[str, ...]
    units: tuple[str, ...]
    environment: tuple[str, ...]
    read: Read

    @classmethod
    def of(cls, facts: Facts, read: Read) -> _Files:
        unit = facts.kubelet.unit
        unit_files = [path for path in ((unit.fragment, *unit.drop_ins) if unit else ()) if path]
        layers = [each.path for each in facts.kubelet.driver.chain if each.kind == "config-drop-in"]
        texts = [(path, read(path) or b"") for path in unit_files]
        try:
            environment = [each.path for each in units.parse_unit(texts).environment_files]
        except ConfigSyntaxError:  # a finding of its own
            environment = []
        return cls(
            tuple(path for path in (facts.kubelet.config_file, *layers) if path),
            tuple(unit_files),
            tuple(dict.fromkeys(environment)),
            read,
        )

    def giving(self, setting: str, now: str, value: str) -> Iterator[FileEdit]:
        """Yield the edit of every file that gives a setting the value it has now; another one is overridden, and stays."""
        flag, why = _FLAGS[setting], f"{setting} under its name of systemd (F38)"
        for path, text in self._texts(self.configs):
            if _is_same(self._config(path, text, setting), now):
                yield path, lambda text: kubelet.set_text(text or b"", setting, value), why, False
        for path in self._with(flag, now, self.units, units.flags_in_unit):
            yield path, lambda text: units.set_flag(text or b"", flag, value), why, True
        for path in self._with(flag, now, self.environment, flags.flags_in_env_file):
            yield path, lambda text: flags.set_flag(text or b"", flag, value), why, False

    def limits(self, setting: str) -> dict[str, int]:
        """Return what the kubelet will write for a reserved cgroup, as settings of a slice."""
        key, flag = _QUANTITIES[setting]
        given: dict[str, str] = {}
        for _, text in self._texts(self.configs):
            given |= kubelet.quantities(text, key)
        said = [
            (resource.strip(), quantity.strip())
            for paths, find in (
                (self.units, units.flags_in_unit),
                (self.environment, flags.flags_in_env_file),
            )
            for _, text in self._texts(paths)
            for value in find(text, flag)
            for resource, _, quantity in (pair.partition("=") for pair in value.value.split(","))
        ]
        if (
            said
        ):  # the flag adds up; which of two values of a resource is last only the whole command line tells
            given = dict(said)
            if len(given) != len(set(said)):
                raise BlockedError(
                    f"{flag.name} gives one resource two values, and the limits of the slice must be one of them",
                    hint=f"give {flag.name} once, then plan again",
                )
        return limits(given)

    def _texts(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            text = self.read(path)
            if text is not None:
                yield path, text

    def _with(
        self,
        flag: Flag,
        now: str,
        paths: Iterable[str],
        find: Callable[[bytes, Flag], tuple[flags.FlagValue, ...]],
    ) -> Iterator[str]:
        for path, text in self._texts(paths):
            try:
                found = find(text, flag)
            except ConfigSyntaxError as error:
                raise _broken(path, error) from error
            if any(_is_same(each.value, now) or "$" in each.value for each in found):
                yield path

    @staticmethod
    def _config(path: str, text: bytes, setting: str) -> str | None:
        try:
            return kubelet.text_of(text, setting)
        except ConfigSyntaxError as error:
            raise _broken(path, error) from error


def _is_same(said: str | None, now: str) -> bool:
    return said is not None and said.strip("/") == now.strip("/")


def _broken(path: str, error: ConfigSyntaxError) -> BlockedError:
    return BlockedError(f"{path}:{error.line}: {error}", hint=f"edit {path} by hand, then plan again")

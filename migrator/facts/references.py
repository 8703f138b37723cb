# SPDX-License-Identifier: Apache-2.0
"""Files of the host that name the tree of the cgroupfs driver: cron jobs, units, agents' configuration, scripts (F65).

The search is bounded: small text files in the places where such things are kept, a number of them, to a depth. A symbolic
link is not followed, but for a place itself: what it leads to is either looked at where it is, or not the host's own.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Kubelet, ReferringFile, Runtime
from migrator.facts.node import UNIT_DIRECTORIES
from migrator.references import KUBEPODS, references, translator_of

MAX_SIZE = 1024 * 1024
"""Bytes of a file that is looked into."""
MAX_FILES = 5000
MAX_TOTAL = 64 * 1024 * 1024
"""Bytes of all that are looked into."""
MAX_DEPTH = 5
"""Directories below a place."""

MAX_REFERENCES = 1000
"""Times that one file names kubepods; one with more is no configuration."""

_MONITORING = (
    "alloy",
    "amazon-cloudwatch-agent",
    "cadvisor",
    "check_mk",
    "collectd",
    "collectd.d",
    "datadog-agent",
    "falco",
    "filebeat",
    "fluent-bit",
    "fluentd",
    "grafana-agent",
    "icinga2",
    "metricbeat",
    "monit",
    "munin",
    "nagios",
    "netdata",
    "newrelic-infra",
    "node-exporter",
    "node_exporter",
    "otelcol*",
    "prometheus",
    "scaphandre",
    "sensu",
    "snmp",
    "td-agent*",
    "telegraf",
    "vector",
    "zabbix",
)
PLACES: tuple[tuple[str, str], ...] = (
    ("cron", "/etc/crontab"),
    ("cron", "/etc/anacrontab"),
    ("cron", "/etc/cron.*"),
    ("cron", "/var/spool/cron"),
    ("unit", UNIT_DIRECTORIES[0]),
    ("environment", "/etc/default"),
    ("environment", "/etc/sysconfig"),
    ("kubernetes", "/etc/kubernetes"),
    *(
        ("agent", f"/etc/{name}{suffix}")
        for name in _MONITORING
        for suffix in ("", ".conf", ".toml", ".y*ml")
    ),
    ("system", "/etc/cgconfig*"),
    ("system", "/etc/cgrules*"),
    ("system", "/etc/tmpfiles.d"),
    ("script", "/usr/local/bin"),
    ("script", "/usr/local/sbin"),
)
"""Where such references are kept, and of what kind a file there is; the last component may be a glob."""

_SERVICES = {
    "falco": ("falco", "falco-modern-bpf", "falco-bpf", "falco-kmod"),
    "node-exporter": ("node-exporter", "prometheus-node-exporter"),
    "node_exporter": ("node_exporter", "prometheus-node-exporter"),
    "zabbix": ("zabbix-agent", "zabbix-agent2", "zabbix-server"),
    "prometheus": ("prometheus", "prometheus-node-exporter"),
    "snmp": ("snmpd",),
}


_ASIDE = ("~", ".bak", ".cgmigrate-saved", ".old", ".orig", ".save", ".swp", ".tmp")
_ASIDE_OF_PACKAGES = re.compile(r"\.(?:dpkg|rpm|ucf|pac)-?(?:bak|dist|new|old|orig|save|tmp)$")
"""Copies that an editor or a package manager keeps beside a file: nothing reads them."""

_UNIT_TYPES = (".service", ".socket", ".timer", ".path", ".mount", ".automount", ".slice", ".target", ".swap")


@dataclass(slots=True)
class _Search:
    """One search while it goes on: what it has read, and the unit files that tell who reads a file."""

    look: Look
    scratch: Look
    files: int = 0
    size: int = 0
    seen: set[str] = field(default_factory=set)
    units: dict[str, bytes] = field(default_factory=dict)
    full: bool = False

    def unknown(self, path: str, reason: object) -> None:
        """Note what could not be looked at; not by its bare path, for it decides nothing of kubelet or runtime."""
        self.look.unknown(f"references:{path}", reason)

    def under(self, path: str, kind: str, depth: int = 0) -> Iterator[str]:
        """Yield every file that names kubepods, at `path` or below."""
        if self.full:
            return
        try:
            real = self.look.reader.resolve(path)
            if not real.is_dir():
                if self._names_it(path, kind):
                    yield path
                return
            if str(real) in self.seen:
                return
            self.seen.add(str(real))
            with os.scandir(real) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, HostError) as error:
            self.unknown(path, error.strerror or error if isinstance(error, OSError) else error)
            return
        for entry in entries:
            if entry.is_symlink() or is_aside(entry.name):
                continue
            below = f"{path}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    yield from self.under(below, kind, depth + 1)
                else:
                    self.unknown(below, f"more than {MAX_DEPTH} directories deep, not looked at")
            elif entry.is_file(follow_symlinks=False) and self._names_it(below, kind):
                yield below

    def _names_it(self, path: str, kind: str) -> bool:
        """Tell whether a file is a text that names kubepods."""
        if self.full:
            return False
        if not (path.isprintable() and path.isascii()):
            self.unknown(ascii(path), "a file of such a name is not looked at")
            return False
        if self.files >= MAX_FILES or self.size >= MAX_TOTAL:
            self.full = True
            self.unknown(path, f"the search ended here, after {self.files} files and {self.size} bytes")
            return False
        try:
            found = self.look.reader.resolve(path).stat()
            if found.st_size > MAX_SIZE:
                if kind != "script":  # programs, which are no scripts
                    self.unknown(path, f"larger than {MAX_SIZE} bytes, not looked at")
                return False
            data = self.look.reader.read(path, MAX_SIZE)
        except FileNotFoundError:
            return False
        except (OSError, HostError) as error:
            self.unknown(path, error)
            return False
        self.files += 1
        if b"\0" in data:  # a program; those of /usr/local/bin would use up what texts may take
            return False
        self.size += len(data)
        if kind == "unit":
            self.units[path] = data
        return KUBEPODS in data and (kind != "script" or data.startswith(b"#!"))


def is_aside(name: str) -> bool:
    """Tell whether a file is a copy kept beside another one, which nothing reads."""
    return name.endswith(_ASIDE) or _ASIDE_OF_PACKAGES.search(name) is not None


def gather_references(look: Look, kubelet: Kubelet, runtime: Runtime) -> tuple[ReferringFile, ...]:
    """Return the files that name the tree of the cgroupfs driver, by path, each with its lines."""
    translator = translator_of(runtime.kind, kubelet.cgroup_root)
    if translator is None:
        look.unknown("references", f"cgroup root {kubelet.cgroup_root!r} is no name of a cgroup")
        return ()
    search = _Search(look, Look(look.reader))
    hits = {path: kind for kind, place in _places(look) for path in search.under(place, kind)}
    own = {unit.name for unit in (kubelet.unit, *runtime.units) if unit}
    found = []
    for path in sorted(hits):
        data = search.scratch.read(path)
        if data is None or len(data) > MAX_SIZE:
            continue
        if data.count(KUBEPODS) > MAX_REFERENCES:
            search.unknown(path, f"names kubepods more than {MAX_REFERENCES} times, not judged")
        elif listed := tuple(references(data, translator, hits[path])):
            readers = _readers(look, path, hits[path], search.units) - own
            found.append(
                ReferringFile(
                    file=search.scratch.files[path],
                    kind=hits[path],
                    references=listed,
                    readers=tuple(sorted(readers)),
                )
            )
    for each in search.scratch.unknowns:
        search.unknown(each.subject, each.reason)
    return tuple(found)


def _places(look: Look) -> Iterator[tuple[str, str]]:
    """Yield the places that there are, globs resolved; a file or directory for one kind only, the first."""
    names: dict[str, list[str]] = {}
    done: set[str] = set()
    for kind, place in PLACES:
        directory, _, pattern = place.rpartition("/")
        if directory not in names:
            names[directory] = look.reader.names(directory)
        for name in fnmatch.filter(names[directory], pattern):
            path = f"{directory}/{name}"
            if path not in done:
                done.add(path)
                yield kind, path


def _readers(look: Look, path: str, kind: str, units: dict[str, bytes]) -> set[str]:
    """Return the units that read a file when they start: its own, one of its name, and those whose files name it."""
    if kind == "unit":
        return _unit_of(path)
    readers = {name for unit, text in units.items() if path.encode() in text for name in _unit_of(unit)}
    if kind in {"cron", "kubernetes", "script"}:
        return readers
    parts = path.split("/")
    name = parts[3] if kind == "environment" else parts[2].partition(".")[0]
    candidates = _SERVICES.get(name, (name,))
    return readers | {f"{each}.service" for each in candidates if _is_unit(look, f"{each}.service")}


def _unit_of(path: str) -> set[str]:
    """Return the unit that a file or a drop-in is of, of a template all its instances; none for a README."""
    *_, directory, name = path.split("/")
    is_drop_in = directory.endswith(".d") and name.endswith(".conf")
    unit = directory.removesuffix(".d") if is_drop_in else name
    stem, dot, kind = unit.rpartition(".")
    # `watch@.service` is a file and no unit; a drop-in of `watch-.service` is one of every watch-….service.
    if stem.endswith("@") or (is_drop_in and stem.endswith("-") and stem != "-"):
        unit = f"{stem}*.{kind}"
    return {unit} if dot and unit.endswith(_UNIT_TYPES) else set()


def _is_unit(look: Look, name: str) -> bool:
    return any(look.reader.exists(f"{directory}/{name}") for directory in UNIT_DIRECTORIES)

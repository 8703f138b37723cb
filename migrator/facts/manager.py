# SPDX-License-Identifier: Apache-2.0
"""How much systemd and its bus carry: with the systemd driver every container's start and end goes through both."""

from __future__ import annotations

import os
import re

from migrator.errors import CgmigrateError
from migrator.facts.look import Look
from migrator.facts.model import Manager
from migrator.systemd import Units

BUS_LIMIT = 256
"""Connections that dbus-daemon grants to one user of the system bus unless it is told otherwise: dbus-daemon(1)."""

_BUS_FILES = ("/usr/share/dbus-1/system.conf", "/etc/dbus-1/system.conf")
_BUS_FOLDERS = ("/usr/share/dbus-1/system.d", "/etc/dbus-1/system.d")
_BUS_LAST = "/etc/dbus-1/system-local.conf"
_LIMIT = re.compile(r"<limit\s+name=[\"']max_connections_per_user[\"']\s*>\s*(\d{1,9})\s*</limit>")


def gather_manager(look: Look, units: Units | None) -> Manager:
    """Return how busy systemd is, and how full its bus; of an image only what its files tell."""
    text = look.reader.text("/proc/self/mountinfo")
    mounts = None if text is None else text.count("\n")
    if units is None:
        return Manager(bus_limit=bus_limit(look), mounts=mounts)
    try:
        load = units.load()
        broker = any(each.active_state == "active" for each in units.list("dbus-broker.service"))
        scopes = len(units.list("run-*.scope"))
    except CgmigrateError as error:
        look.unknown("manager", error)
        return Manager(bus_limit=bus_limit(look), mounts=mounts, cpu_percent=_cpu_percent(look))
    return Manager(
        bus_connections=load.connections,
        bus_limit=None if broker else bus_limit(look),
        units=load.names,
        mounts=mounts,
        run_scopes=scopes,
        cpu_percent=_cpu_percent(look),
    )


def bus_limit(look: Look) -> int:
    """Return how many connections the bus grants to one user; of several files the last one counts."""
    reader = look.reader
    folders = [
        f"{each}/{name}" for each in _BUS_FOLDERS for name in reader.names(each) if name.endswith(".conf")
    ]
    limit = BUS_LIMIT
    for path in (*_BUS_FILES, *folders, _BUS_LAST):
        text = re.sub(r"<!--.*?-->", "", reader.text(path, 1 << 20) or "", flags=re.DOTALL)
        for value in _LIMIT.findall(text):
            limit = int(value)
    return limit


def _cpu_percent(look: Look) -> int | None:
    """Return the share of one CPU that process 1 has used since the boot: proc_pid_stat(5), utime and stime."""
    stat, uptime = look.reader.text("/proc/1/stat"), look.reader.text("/proc/uptime")
    fields = (stat or "").rpartition(")")[2].split()
    seconds = re.match(r"\d+", uptime or "")
    if len(fields) < 13 or not seconds or not int(seconds[0]):
        return None
    ticks = int(fields[11]) + int(fields[12])
    return round(100 * ticks / os.sysconf("SC_CLK_TCK") / int(seconds[0]))

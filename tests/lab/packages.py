# SPDX-License-Identifier: Apache-2.0
"""Debian packages: what this machine needs, and its own apt sources as the lab's builds use them."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from .cache import LabError, command, progress, remove_tree, tool

SUITE = "bookworm"
HOST_TOOLS = {  # command: Debian package
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "/usr/lib/go-1.19/bin/go": "golang-1.19-go",
    "dpkg-source": "dpkg-dev",
    "gcc": "gcc libc6-dev",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "xz": "xz-utils",
}


def host_packages() -> None:
    """Install what this machine lacks to build and boot nodes."""
    missing = [
        package for name, packages in HOST_TOOLS.items() if not tool(name) for package in packages.split()
    ]
    if missing:
        progress(f"installing {' '.join(missing)} on this machine")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            command(["apt-get", "update"], env=environment)
        except LabError as error:  # a source that has nothing to do with us may be out of order
            progress(str(error))
        command(["apt-get", "install", "-y", "--no-install-recommends", *missing], env=environment)


def apt_entries(text: str, style: str, types: str, suite: str) -> str:
    """Return the entries of one apt sources file that serve SUITE, with their types changed.

    Args:
        text: content of the file.
        style: `sources` (stanzas) or `list` (one line per entry).
        types: what the entries shall offer, `deb` or `deb-src`.
        suite: code name; its -updates and -security count too.
    """
    ours = {suite, f"{suite}-updates", f"{suite}-security"}
    kept: dict[str, None] = {}
    if style == "list":
        for line in text.splitlines():
            match = re.match(r"\s*deb(?:-src)?\s+((?:\[[^]]*\]\s+)?\S+\s+(\S+)\s+\S.*)", line)
            if match and match[2] in ours:
                kept[f"{types} {match[1]}"] = None
        return "".join(f"{line}\n" for line in kept)
    for stanza in re.split(r"\n\s*\n", text):
        suites = re.search(r"(?im)^Suites:(.*)$", stanza)
        if suites and set(suites[1].split()) & ours and not re.search(r"(?im)^Enabled:\s*no", stanza):
            kept[re.sub(r"(?im)^Types:.*$", f"Types: {types}", stanza).strip()] = None
    return "\n\n".join(kept) + "\n" if kept else ""


def in_suite(entries: str, style: str, suite: str) -> str:
    """Return apt entries with another suite of the same archive for the lab's, and without its updates."""
    kept = []
    if style == "list":
        for line in entries.splitlines():
            words = line.split()
            if SUITE in words:
                kept.append(" ".join(suite if word == SUITE else word for word in words))
        return "".join(f"{line}\n" for line in kept)
    for stanza in entries.strip().split("\n\n"):
        suites = re.search(r"(?im)^Suites:(.*)$", stanza)
        if suites and SUITE in suites[1].split():
            kept.append(stanza[: suites.start()] + f"Suites: {suite}" + stanza[suites.end() :])
    return "\n\n".join(kept) + "\n" if kept else ""


def apt_sources(folder: Path, types: str, suite: str = SUITE) -> list[Path]:
    """Write to FOLDER the machine's own apt sources, reduced to the lab's suite and changed to TYPES and SUITE."""
    folder.mkdir(parents=True)
    written = []
    parts = Path("/etc/apt/sources.list.d")
    for path in (
        Path("/etc/apt/sources.list"),
        *sorted(parts.glob("*.list")),
        *sorted(parts.glob("*.sources")),
    ):
        style = path.suffix.removeprefix(".")
        entries = apt_entries(path.read_text(), style, types, SUITE) if path.exists() else ""
        if suite != SUITE:
            entries = in_suite(entries, style, suite)
        if entries:
            target = folder / path.name
            target.write_text(entries)
            written.append(target)
    if not written:
        raise LabError(f"the apt sources of this machine offer nothing of {SUITE}; add an entry for it")
    return written


def apt_download(
    folder: Path, *, binary: Sequence[str] = (), source: Sequence[str] = (), suite: str = SUITE
) -> None:
    """Download packages of the suite into FOLDER; the lists and caches of this machine stay as they are.

    Args:
        folder: is made; holds the .deb files of BINARY, and .dsc and archives of SOURCE.
        binary: names of binary packages.
        source: names of source packages.
        suite: another suite of the same archive.
    """
    apt = folder.with_name(f"{folder.name}.apt")
    for part in ("lists/partial", "cache/archives/partial", "parts"):
        (apt / part).mkdir(parents=True)
    for types in ("deb-src", "deb"):
        for path in apt_sources(apt / types, types, suite):
            shutil.copy(path, apt / "parts" / f"{types}-{path.name}")
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": apt / "parts",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command(["apt-get", *flags, "update"])
    folder.mkdir()
    if source:
        command(["apt-get", *flags, "--download-only", "source", *source], cwd=folder)
    if binary:
        command(["apt-get", *flags, "download", *binary], cwd=folder)
    remove_tree(apt)

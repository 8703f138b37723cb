# SPDX-License-Identifier: Apache-2.0
"""A command that is suggested does what it says when it is pasted into a shell, whatever the names of the node hold."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path

import migrator
from migrator.checks import run_checks
from migrator.facts.model import File
from migrator.facts.store import from_json, to_json
from tools.samples import facts, names

EVIL = ";touch PWNED $(id)`id`'\"\\;"
"""Closes a quote, ends a command, begins others."""

DAEMON = "/etc/docker/daemon.json"
PRODUCT = Path(migrator.__file__).parent
_NAMES = {"name", "namespace", "hostname", "id", "uid", "decided_by"}


def hostile(value: object, key: str = "") -> object:
    """Return facts in which every path and name, of whatever there is, holds `EVIL`; what they begin and end with stays."""
    match value:
        case dict():
            return {each: hostile(inner, each) for each, inner in value.items()}
        case list():
            return [hostile(inner, key) for inner in value]
        case str() if value.startswith("/") and len(value) > 1:
            head, _, tail = value.rpartition("/")
            return f"{head}/{tail[:1]}{EVIL}{tail[1:]}"
        case str() if key in _NAMES and re.fullmatch(r"[\w.@:-]+", value):
            stem, dot, suffix = value.rpartition(".")
            return f"{stem}{EVIL}{dot}{suffix}" if dot else f"{value}{EVIL}"
        case _:
            return value


def spilt(remediation: str) -> list[str]:
    """Return the words of a shell that hold a piece of a name, and not the whole of it."""
    return [word for word in shlex.split(remediation) if "PWNED" in word and EVIL not in word]


def test_no_finding_of_a_hostile_node_suggests_what_a_name_says() -> None:
    found = [each for name in names() for each in run_checks(from_json(hostile(to_json(facts(name)))))]
    named = {(each.id, each.remediation) for each in found if "PWNED" in each.remediation}

    assert [] == [(finding, remedy) for finding, remedy in named if spilt(remedy)]
    assert {"api-node-not-drained", "drivers-differ", "kubelet-down", "old-tree-left"} <= {
        each for each, _ in named
    }


def test_a_command_for_an_image_names_no_file_of_the_machine_that_looks_at_it() -> None:
    exposed = File(path=DAEMON, real_path=DAEMON, present=True, exposed_by="/etc/docker", links=2)
    named = set()
    for name in names():
        node = facts(name)
        image = replace(node, node=replace(node.node, live=False), files=(*node.files, exposed))
        named |= {(each.id, each.remediation) for each in run_checks(image)}

    here = re.compile(r"(?:^|; )(?:find|chmod o-w|systemd-cgls) (?:[\w/-]+ )*?'?/")
    assert [] == [each for each in named if here.search(each[1])]
    assert {"file-writable-by-all", "file-hard-linked", "old-tree-left"} <= {
        finding for finding, words in named if "DIR/" in words
    }


PROGRAMS = r"cat|cgmigrate|chmod|chown|cp|crictl|docker rm|find|journalctl|kubectl|ls|ps|rm|rmdir|systemctl|translate -"
COMMAND = re.compile(rf"(?:^|[`;] ?|&& |: |\b(?:then|or) )(?:{PROGRAMS}) [^`;#\n]*$|^--in-place ")
QUOTED = re.compile(r"(?:shlex\.(?:quote|join)|command|quoted)\(")
SAFE = re.compile(
    r"[A-Z_]+|__version__|(?:found\.)?run(?:\.name)?|found\.newer|newer\[-1\]|Path\(name\)\.parent\.name|image|ids|state"
    r"|numbers|' '\.join\(map\(str, pids\)\)|plan\['from'\]"
)
"""Constants, numbers, names of runs (another directory is not taken for one), and what was quoted a line above."""


def test_what_the_source_puts_into_a_command_is_quoted() -> None:
    loose = []
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                before = ""
                for part in node.values:
                    if isinstance(part, ast.Constant):
                        before += str(part.value)
                    elif isinstance(part, ast.FormattedValue):
                        what = ast.unparse(part.value)
                        if COMMAND.search(before) and not QUOTED.match(what) and not SAFE.fullmatch(what):
                            loose.append((path.name, part.lineno, before[-40:], what))
                        before += "…"
    assert [] == loose

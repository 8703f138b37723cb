# SPDX-License-Identifier: Apache-2.0
"""Record README's terminal session on a throwaway node of the lab: session.py [--write]; as root.

Nothing is edited: where less is shown than is said, the command that leaves it out is shown too.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.lab.node import Node  # noqa: E402 - the checkout's own

COMMANDS = (
    "cgmigrate audit | grep -v kernel | head -6",
    "cgmigrate plan -o plan.json | grep '^[-+]'",
    "cgmigrate apply plan.json --yes 2>&1 | grep -v '^      '",
    "find /sys/fs/cgroup/memory -maxdepth 1 -name 'kubepods*'",
    "cgmigrate verify",
    "cgmigrate rollback --yes 2>&1 | tail -1",
    "cgmigrate verify --expect cgroupfs",
)
FLAVOUR = "docker"
NAME = "worker-1"
BLOCK = re.compile(
    r"(?<=<!-- Recorded by tools/session.py. -->\n\n```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL
)

OTHER_EACH_TIME = (
    (r"\d{8}T\d{6}Z-[0-9a-f]{8}", "RUN"),
    (r"^ +\d+\.\d+s", "TIME"),
    (r"(\d+) of \1 comparisons", "ALL comparisons"),
)
"""What differs between two recordings, the last one between two machines, and what stands in its place where they are compared."""


def record(node: Node) -> str:
    """Return commands and output, as a terminal of this node shows them, under the name that README gives the node."""
    said = []
    for command in COMMANDS:
        done = node.run(f"cd /root; {{ {command}; }} 2>&1", timeout=400)
        said += [f"# {command}", done.stdout.rstrip("\n")]
    return "\n".join(said).replace(node.hostname, NAME) + "\n"


def recorded() -> str:
    """Return the session that is in README."""
    found = BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    return found[0] if found else ""


def alike(session: str) -> str:
    """Return a session without what is another each time: two of the same commands are equal then."""
    for pattern, word in OTHER_EACH_TIME:
        session = re.sub(pattern, word, session, flags=re.MULTILINE)
    return session


def main() -> None:
    """Boot a node, record, and print or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into README.md")
    write = parser.parse_args().write
    with Node.create(FLAVOUR) as node:
        node.boot()
        node.wait_pods()
        session = record(node)
    if not write:
        print(session, end="")
        return
    readme = ROOT / "README.md"
    text = BLOCK.sub(lambda _: session, readme.read_text(encoding="utf-8"), count=1)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

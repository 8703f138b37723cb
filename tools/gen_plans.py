# SPDX-License-Identifier: Apache-2.0
"""Make `plans/NAME.json` of every sample node in `tests/nodes`; `--check` only says whether they are current."""

from __future__ import annotations

import sys
from pathlib import Path

from migrator.audit import audit
from migrator.facts.store import load
from migrator.host import Reader
from migrator.plan import Plan, render
from migrator.session import plan_node

HERE = Path(__file__).resolve().parent.parent
NODES = HERE / "tests/nodes"
PLANS = HERE / "plans"


def names() -> list[str]:
    """Return the sample nodes."""
    return sorted(path.parent.name for path in NODES.glob("*/facts.json"))


def golden(name: str) -> Plan:
    """Plan a sample node from its facts, with the texts of its files."""
    folder = NODES / name
    return plan_node(Reader(folder / "root"), audit(load((folder / "facts.json").read_bytes())))


def main(check: bool) -> int:
    """Write or compare all plans."""
    stale = []
    for name in names():
        target = PLANS / f"{name}.json"
        data = render(golden(name).document)
        if not target.exists() or target.read_bytes() != data:
            stale.append(target.name)
            if not check:
                target.write_bytes(data)
    for each in stale:
        print(f"{'stale' if check else 'written'}: plans/{each}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

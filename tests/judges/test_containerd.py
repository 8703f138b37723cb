# SPDX-License-Identifier: Apache-2.0
"""containerd 1.4, 1.6, 1.7 and 2.x on the files that cgmigrate writes: the intended keys differ, and nothing else."""

import copy
import functools
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from migrator.cgroups import Driver
from migrator.changes import containerd_editors
from migrator.configs.containerd import RUNC_TYPES
from migrator.configs.text import ConfigSyntaxError
from migrator.errors import BlockedError, CgmigrateError
from migrator.facts.look import Look
from migrator.facts.model import Runtime
from migrator.facts.runtime import ask_driver
from migrator.facts.runtime_config import containerd_configured
from migrator.facts.units import unit_on_disk
from migrator.host import Reader
from tests.unit.nodes import lay

from .daemons import CONTAINERD, SUITES, Containerd
from .layouts import MAIN, layout

UNIT = {"/usr/lib/systemd/system/containerd.service": "[Service]\nExecStart=/usr/bin/containerd\n"}
CRI_TABLES = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
LAYOUTS = int(os.environ.get("CGMIGRATE_JUDGED", "100"))
STARTED = 16

Files = Mapping[str, bytes]


def judge(version: str) -> Containerd:
    return Containerd(SUITES[CONTAINERD[version]].path)


def facts(root: Path, version: str | None) -> tuple[Runtime, Look]:
    """Return what the audit finds in ROOT."""
    look = Look(lay(root, UNIT))
    asked = Runtime(kind="containerd", version=version)
    return containerd_configured(look, asked, unit_on_disk(look, "containerd.service")), look


def edited(root: Path, version: str | None, driver: Driver) -> Files:
    """Return the files that the plan would write, changed."""
    return planned(*facts(root, version), driver)


def planned(runtime: Runtime, look: Look, driver: Driver) -> Files:
    """Return the files of a node that a plan would change, changed."""
    changed: dict[str, bytes] = {}
    for path, editor in containerd_editors(runtime, look.read, driver):
        before = changed.get(path, look.read(path))
        after = editor(before).text
        if after != before:
            changed[path] = after
    return changed


def plain(dump: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a dump without what is only another way to say the same: options that are defaults."""
    dump = copy.deepcopy(dump)
    # Of a Go map, in any order, the main file among them.
    dump["imports"] = sorted(set(dump.get("imports", [])) - {MAIN, "/dev/null"})
    for handler in handlers(dump).values():
        options = handler.get("options") or {}
        # Of 1.4's options a dump shows nothing.
        shown = {} if version == "1.4" else options
        handler["options"] = {key: value for key, value in shown.items() if value not in ("", 0, False)}
        if handler.get("sandbox_mode") == "podsandbox":  # what an empty one means
            handler["sandbox_mode"] = ""
    return dump


def handlers(dump: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tables of the effective handlers, the old ones among them."""
    plugins = dump["plugins"]
    tables = [plugins[name]["containerd"] for name in CRI_TABLES if "containerd" in plugins.get(name, {})]
    if not tables:  # the CRI is disabled
        return {}
    table = tables[-1]
    old = {name: table[name] for name in ("default_runtime", "untrusted_workload_runtime") if name in table}
    return {**old, **table.get("runtimes", {})}


def with_driver(dump: dict[str, Any], driver: Driver) -> dict[str, Any]:
    """Return a dump with that driver for every handler of runc type."""
    dump = copy.deepcopy(dump)
    for name, handler in handlers(dump).items():
        if handler["runtime_type"] in RUNC_TYPES or (name == "runc" and not handler["runtime_type"]):
            handler["options"] = {**(handler.get("options") or {}), "SystemdCgroup": driver is Driver.SYSTEMD}
    return dump


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Return the dotted places where two dumps differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(left.keys() | right.keys())
        return [
            place for key in keys for place in differences(left.get(key), right.get(key), f"{path}.{key}")
        ]
    return [] if left == right else [f"{path}: {left!r} -> {right!r}"]


def there_and_back(
    version: str, root: Path, edit: Callable[[Driver], Files], config: str = MAIN
) -> list[str]:
    """Have a daemon judge the files in ROOT, as they are, on systemd, and back on cgroupfs.

    Returns one word for each judgement, or for all of them where there is none; what is wrong begins with `WRONG`.
    """
    containerd = judge(version)
    # Without a file a `config dump` fails, and the daemon starts with the defaults.
    before = containerd.dump(root, config if (root / config.removeprefix("/")).exists() else "/dev/null")
    words: list[str] = []
    for driver in (Driver.SYSTEMD, Driver.CGROUPFS):
        try:
            changed = edit(driver)
        except (BlockedError, ConfigSyntaxError) as error:
            return ["refused by both"] if isinstance(before, str) else [f"WRONG {driver}: {error}"]
        lay(root, changed)
        after = containerd.dump(root, config)
        if isinstance(before, str):
            # Without a change, or in spite of one.
            return [
                "refused before and after" if isinstance(after, str) else "WRONG: accepted after the edit"
            ]
        if isinstance(after, str):
            return [f"WRONG {driver}: not accepted: {after}"]
        wanted = plain(with_driver(before, driver), version)
        words += [f"WRONG {driver}: {place}" for place in differences(wanted, plain(after, version))]
        if edit(driver):
            words.append(f"WRONG {driver}: not idempotent")
        words.append("judged")
    return words


@pytest.mark.parametrize("version", CONTAINERD)
@pytest.mark.usefixtures("judges")
def test_the_effective_dump_changes_in_the_intended_keys_only_there_and_back(
    version: str, tmp_path: Path
) -> None:
    said = judge(version).version()
    words: list[str] = []
    for seed in range(LAYOUTS):
        root = tmp_path / str(seed)
        lay(root, layout(seed))
        found = there_and_back(version, root, functools.partial(edited, root, said))
        words += [f"{seed} {word}" if word.startswith("WRONG") else word for word in found]
    seen = Counter(words)
    assert not [word for word in seen if "WRONG" in word], seen
    print(version, said, dict(seen))
    assert seen["judged"] > LAYOUTS


@pytest.mark.parametrize("version", CONTAINERD)
@pytest.mark.usefixtures("judges")
def test_a_started_containerd_says_the_driver_that_the_audit_predicted(version: str, tmp_path: Path) -> None:
    containerd = judge(version)
    said = containerd.version()
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    for seed in range(STARTED):
        root = tmp_path / str(seed)
        lay(root, layout(seed))
        for driver in (None, Driver.SYSTEMD):
            if driver:
                lay(root, edited(root, said, driver))
            predicted = facts(root, said)[0].driver.value
            try:
                with containerd.running(root):
                    socket = root / "run/containerd/containerd.sock"
                    answer = ask_driver(Reader(), "containerd", str(socket))
            except (CgmigrateError, ChildProcessError):
                seen["no CRI on this configuration"] += 1
                break
            seen[f"{answer}"] += 1
            if version == "1.4" and answer is None:
                continue
            if answer != predicted or (driver and answer not in (driver, None)):  # None: no handler is runc
                wrong.append(f"{seed} wanted {driver}, predicted {predicted}, told {answer}")
    assert not wrong, "\n".join(wrong)
    print(version, said, dict(seen))
    assert seen.total() - seen["no CRI on this configuration"] > STARTED

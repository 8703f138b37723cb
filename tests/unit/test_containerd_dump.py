# SPDX-License-Identifier: Apache-2.0
"""Which program is asked what it makes of a plan's edit, and what is said where it gives no answer; the rest is for the judges.

The program is a stand-in whose effective configuration is the one file that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.changes import digest
from migrator.containerd_dump import judge_plan
from migrator.facts.model import Facts, Runtime, Unit
from migrator.findings import Finding, Severity
from migrator.host import Reader
from migrator.plan import Plan
from migrator.plan_steps import PlannedStep
from tests.unit.facts_base import QUIET, config

CGROUPFS = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
SYSTEMD = CGROUPFS.replace("false", "true")
SHOWS_THE_FILE = 'cat "$2"'


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def node(
    root: Path, script: str = SHOWS_THE_FILE, program: str = "containerd", text: str = CGROUPFS
) -> Facts:
    """Return the facts of a running node whose containerd is a script."""
    main = write(root / "config.toml", text)
    binary = write(root / "bin" / program, f"#!/bin/sh\n{script}\n")
    Path(binary).chmod(0o755)
    fragment = write(root / "containerd.service", f"[Service]\nExecStart=-{binary} --config {main}\n")
    unit = Unit(name="containerd.service", load_state="loaded", fragment=fragment)
    return replace(
        QUIET, runtime=Runtime(kind="containerd", version="1.6.20", config_file=main, units=(unit,))
    )


def plan(contents: Mapping[str, str]) -> Plan:
    """Return a plan that writes files."""
    steps = (
        PlannedStep(
            id=f"write-file:{path}",
            kind="write-file",
            why="",
            params={"path": path, "after": {"sha256": digest(text.encode())}},
        )
        for path, text in contents.items()
    )
    return Plan(document={}, steps=tuple(steps), contents=tuple(text.encode() for text in contents.values()))


def judged(facts: Facts, text: str = SYSTEMD) -> tuple[Finding, ...]:
    return judge_plan(Reader(), facts, plan({facts.runtime.config_file: text}))


def test_an_edit_of_the_driver_alone_is_accepted(tmp_path: Path) -> None:
    assert judged(node(tmp_path)) == ()


def test_a_key_that_nobody_meant_is_a_blocker_with_its_old_and_new_value(tmp_path: Path) -> None:
    (found,) = judged(node(tmp_path), f"oom_score = -999\n{SYSTEMD}")

    assert (found.id, found.severity) == ("containerd-dump-differs", Severity.BLOCKER)
    assert found.subject == f"{tmp_path}/config.toml"
    assert found.summary.endswith("meant: oom_score: nothing → -999")


def test_an_edit_of_the_file_that_a_configured_name_leads_to_is_judged(tmp_path: Path) -> None:
    facts = node(tmp_path)
    real = f"{tmp_path}/real.toml"
    main = replace(config(facts.runtime.config_file), real_path=real)

    (found,) = judge_plan(Reader(), replace(facts, files=(main,)), plan({real: CGROUPFS}))

    assert "runtimes.runc.options.SystemdCgroup would not be true" in found.summary


@pytest.mark.parametrize("text", [CGROUPFS, CGROUPFS.replace("SystemdCgroup = false", "")])
def test_an_edit_without_effect_is_a_blocker(tmp_path: Path, text: str) -> None:
    (found,) = judged(node(tmp_path), text)

    assert found.id == "containerd-dump-differs"
    assert "runtimes.runc.options.SystemdCgroup would not be true" in found.summary


def test_many_keys_are_counted_and_values_of_tables_come_before_defaults(tmp_path: Path) -> None:
    keys = "".join(f"{key} = {value}\n" for key, value in zip("abcde", ("''", 0, "'x'", 1, 2), strict=True))

    (found,) = judged(node(tmp_path), keys + SYSTEMD)

    assert 'c: nothing → "x"; d: nothing → 1; e: nothing → 2, and 2 more' in found.summary


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo this one has no dump >&2; exit 2", "this one has no dump"),
        ("exit 2", "exit code 2"),
        ("echo :", "its dump cannot be read: line 1, column 1: not TOML"),
        (":", "shows no handler of runc type"),
        (r"printf '\377'", "its dump cannot be read"),
        ("echo token=c2VjcmV0 https://ci:hunter2@registry.example >&2; exit 1", "https://…masked…@registry"),
    ],
)
def test_a_containerd_without_an_answer_is_a_warning_with_its_reason(
    script: str, reason: str, tmp_path: Path
) -> None:
    (found,) = judged(node(tmp_path, script))

    assert (found.id, found.severity) == ("containerd-dump-unknown", Severity.WARNING)
    assert reason in found.summary
    assert "hunter2" not in str(found)


def test_a_containerd_that_refuses_these_files_and_no_others_is_a_blocker(tmp_path: Path) -> None:
    (found,) = judged(node(tmp_path, 'test -s "$2" || exit 0; echo a broken line >&2; exit 1'))

    assert (found.id, found.severity) == ("containerd-files-refused", Severity.BLOCKER)
    assert found.summary.endswith("would not start again: a broken line")


def test_only_a_program_that_is_called_containerd_is_asked(tmp_path: Path) -> None:
    facts = node(tmp_path, f"touch {tmp_path}/started", program="start-containerd")

    assert [each.id for each in judged(facts)] == ["containerd-dump-unknown"]
    assert [each.id for each in judged(replace(facts, runtime=replace(facts.runtime, units=())))] == [
        "containerd-dump-unknown"
    ]
    assert not (tmp_path / "started").exists()


def test_a_program_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    facts = node(tmp_path)
    (tmp_path / "bin/containerd").unlink()

    (found,) = judged(facts)

    assert f"{tmp_path}/bin/containerd: no such program on this node" in found.summary


def test_nobody_is_asked_where_the_plan_leaves_containerds_files_or_the_node_does_not_run(
    tmp_path: Path,
) -> None:
    facts = node(tmp_path, f"touch {tmp_path}/started")
    docker = replace(facts, runtime=replace(facts.runtime, kind="docker"))
    kubelet = plan({"/var/lib/kubelet/config.yaml": "cgroupDriver: systemd\n"})

    assert judge_plan(Reader(tmp_path), facts, plan({facts.runtime.config_file: SYSTEMD})) == ()
    assert judged(docker) == ()
    assert judge_plan(Reader(), facts, kubelet) == ()
    assert not (tmp_path / "started").exists()

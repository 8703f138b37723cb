# SPDX-License-Identifier: Apache-2.0
"""crio.conf: the cgroup manager, and a monitor cgroup that fits it (F05)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit
from migrator.configs.crio import is_valid_conmon_cgroup, read, set_driver

FIELD = """\
# The CRI-O configuration.
[crio]
[crio.api]
listen = "/var/run/crio/crio.sock"
[crio.runtime]
# Cgroup setting for conmon
conmon_cgroup = "CONMON"
cgroup_manager = "cgroupfs" # until moved
default_runtime = "crun"
[crio.runtime.runtimes.runc]
runtime_path = ""
monitor_cgroup = "system.slice"
[crio.runtime.runtimes.crun]
[crio.image]
pause_image = "registry.k8s.io/pause:3.6"
"""

# name, before, after
EDITS: list[tuple[str, str | None, str]] = [
    ("no file", None, '[crio.runtime]\ncgroup_manager = "systemd"\n'),
    ("an empty file", "", '[crio.runtime]\ncgroup_manager = "systemd"\n'),
    (
        "pod is right on both sides",
        FIELD.replace("CONMON", "pod"),
        FIELD.replace("CONMON", "pod").replace("cgroupfs", "systemd"),
    ),
    (
        "a slice is right under systemd",
        FIELD.replace("CONMON", "machine.slice"),
        FIELD.replace("CONMON", "machine.slice").replace("cgroupfs", "systemd"),
    ),
    (
        "an empty one is not, in older versions",
        FIELD.replace("CONMON", ""),
        FIELD.replace("CONMON", "pod").replace("cgroupfs", "systemd"),
    ),
    (
        "a path is not",
        FIELD.replace("CONMON", "/machine"),
        FIELD.replace("CONMON", "pod").replace("cgroupfs", "systemd"),
    ),
    (
        "another quote",
        "[crio.runtime]\ncgroup_manager='cgroupfs'\n",
        "[crio.runtime]\ncgroup_manager='systemd'\n",
    ),
    (
        "a drop-in without the table",
        '[crio.image]\npause_image = "p"\n',
        '[crio.image]\npause_image = "p"\n\n[crio.runtime]\ncgroup_manager = "systemd"\n',
    ),
    (
        "a commented default",
        '[crio.runtime]\n# cgroup_manager = "cgroupfs"\n',
        '[crio.runtime]\ncgroup_manager = "systemd"\n# cgroup_manager = "cgroupfs"\n',
    ),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_the_manager_is_set_and_nothing_else_changes(before: str | None, after: str) -> None:
    edited = set_driver(before.encode() if before is not None else None, Driver.SYSTEMD)
    assert edited.text.decode() == after
    assert read(edited.text).cgroup_manager == "systemd"
    assert set_driver(edited.text, Driver.SYSTEMD).edits == ()


def test_the_way_back_needs_pod() -> None:
    text = FIELD.replace("CONMON", "system.slice").replace("cgroupfs", "systemd").encode()
    edited = set_driver(text, Driver.CGROUPFS)
    assert edited.text == FIELD.replace("CONMON", "pod").replace('"system.slice"', '"pod"').encode()
    assert edited.edits == (
        Edit("crio.runtime.conmon_cgroup", "system.slice", "pod", 7),
        Edit("crio.runtime.cgroup_manager", "systemd", "cgroupfs", 8),
        Edit("crio.runtime.runtimes.runc.monitor_cgroup", "system.slice", "pod", 12),
    )


def test_what_the_file_says_is_read() -> None:
    config = read(FIELD.encode())
    assert (config.cgroup_manager, config.cgroup_manager_line) == ("cgroupfs", 8)
    assert config.conmon_cgroup == "CONMON"
    assert config.monitor_cgroups == {"runc": "system.slice"}
    assert config.handlers == ("runc", "crun")
    assert config.default_runtime == "crun"
    assert config.listen == "/var/run/crio/crio.sock"
    assert config.pause_image == "registry.k8s.io/pause:3.6"
    assert read(None) == read(b"")


@pytest.mark.parametrize(
    ("value", "under_systemd", "under_cgroupfs"),
    [("pod", True, True), ("system.slice", True, False), ("", False, False), ("/x", False, False)],
)
def test_a_monitor_cgroup_that_some_version_rejects_is_not_valid(
    value: str,
    under_systemd: bool,
    under_cgroupfs: bool,
) -> None:
    assert is_valid_conmon_cgroup(value, Driver.SYSTEMD) == under_systemd
    assert is_valid_conmon_cgroup(value, Driver.CGROUPFS) == under_cgroupfs


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[crio\n", 1),
        (b"[crio.runtime]\ncgroup_manager = 1\n", 2),
        (b"[crio.runtime]\nruntimes = 1\n", 2),
        (b"# x\ncrio = 1\n", 2),
    ],
)
def test_a_file_that_crio_would_not_take_is_refused_with_its_line(text: bytes, line: int) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        set_driver(text, Driver.SYSTEMD)
    assert caught.value.line == line


@given(st.binary(max_size=40) | st.text(alphabet="[]{}=.'\"# \ncriountme", max_size=40).map(str.encode))
@settings(deadline=None)
def test_junk_is_a_syntax_error_and_nothing_worse(junk: bytes) -> None:
    try:
        assert read(set_driver(junk, Driver.SYSTEMD).text).cgroup_manager == "systemd"
    except ConfigSyntaxError as error:
        lines = range(1, junk.count(b"\n") + 1 + 1)
        if error.line not in lines:
            raise

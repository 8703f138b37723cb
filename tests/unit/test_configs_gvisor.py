# SPDX-License-Identifier: Apache-2.0
"""runsc.toml: one flag of runsc, as a string, in files as people write them; and when it cannot be had."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit
from migrator.configs.gvisor import read, release, set_driver, unsettable

FLAG = "runsc_config.systemd-cgroup"

EDITS = [
    ("no file", None, '[runsc_config]\n  systemd-cgroup = "true"\n'),
    ("an empty one", "", '[runsc_config]\n  systemd-cgroup = "true"\n'),
    (
        "flags of runsc",
        '[runsc_config]\n\tplatform = "systrap" # fast\n\n# end\n',
        '[runsc_config]\n\tplatform = "systrap" # fast\n\tsystemd-cgroup = "true"\n\n# end\n',
    ),
    (
        "options of the shim alone",
        'binary_name = "/opt/runsc"\nlog_level = "info"',
        'binary_name = "/opt/runsc"\nlog_level = "info"\n\n[runsc_config]\n  systemd-cgroup = "true"',
    ),
    (
        "told off, in apostrophes, with CRLF",
        "[runsc_config]\r\nsystemd-cgroup = 'false' # cgroupfs\r\n",
        "[runsc_config]\r\nsystemd-cgroup = 'true' # cgroupfs\r\n",
    ),
    ("a dotted key", 'runsc_config.systemd-cgroup="0"\n', 'runsc_config.systemd-cgroup="true"\n'),
    (
        "an inline table",
        "runsc_config = { platform = 'kvm' }\n",
        "runsc_config = { platform = 'kvm', systemd-cgroup = \"true\" }\n",
    ),
    (
        "on already, spelled as Go takes it",
        '[runsc_config]\nsystemd-cgroup = "T"\n',
        '[runsc_config]\nsystemd-cgroup = "T"\n',
    ),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_the_flag_is_set_and_nothing_else_changes(before: str | None, after: str) -> None:
    edited = set_driver(before.encode() if before is not None else None, Driver.SYSTEMD)

    assert (edited.text.decode(), read(edited.text).driver) == (after, Driver.SYSTEMD)
    assert (edited.text, ()) == (
        set_driver(edited.text, Driver.SYSTEMD).text,
        set_driver(edited.text, Driver.SYSTEMD).edits,
    )


def test_an_edit_names_key_values_and_line() -> None:
    text = b'binary_name = "/opt/runsc"\n[runsc_config]\nsystemd-cgroup = "false"\n'

    assert (Edit(FLAG, "false", "true", 3),) == set_driver(text, Driver.SYSTEMD).edits
    assert (Driver.CGROUPFS, 3, "/opt/runsc") == (read(text).driver, read(text).line, read(text).binary_name)


@pytest.mark.parametrize("text", [None, b"", b"[runsc_config]\n"])
def test_a_file_that_says_nothing_is_cgroupfs_and_stays_for_cgroupfs(text: bytes | None) -> None:
    assert (read(text).driver, set_driver(text, Driver.CGROUPFS).edits) == (None, ())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[runsc_config]\nsystemd-cgroup = true\n", 2),
        (b'[runsc_config]\nplatform = "kvm"\nsystemd-cgroup = "yes"\n', 3),
        (b"[runsc_config\n", 1),
        (b"runsc_config = 1\nruncs_config = 2\nrunsc_config = 3\n", 3),
    ],
)
def test_a_file_on_which_no_pod_starts_is_refused_with_its_line(text: bytes, line: int) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        set_driver(text, Driver.SYSTEMD)
    assert line == caught.value.line


KEYS = st.sampled_from(
    ['platform = "kvm"', "debug = 'false' # x", '"odd.key" = "[x]"', '# systemd-cgroup = "true"', ""]
)


@st.composite
def runsc_files(draw: st.DrawFn) -> bytes:
    said = draw(
        st.sampled_from(['systemd-cgroup = "false"', "\tsystemd-cgroup='f'", 'systemd-cgroup = "true"', ""])
    )
    top = draw(st.lists(st.sampled_from(['binary_name = "/r"', "# a", "io_uid = 0x7"]), unique=True))
    shape = draw(st.sampled_from(["table", "dotted", "inline", "none"]))
    below: list[str] = []
    if shape == "table":
        below = ["[runsc_config]", *draw(st.lists(KEYS, unique=True, max_size=3)), said]
    elif shape == "inline":
        top = [*top, f"runsc_config = {{{said.strip()}}}"]
    elif shape == "dotted" and said:
        top = [*top, f"runsc_config.{said.strip()}"]
    text = draw(st.sampled_from(["\n", "\r\n"])).join([*top, *below, draw(st.sampled_from(["", "# end"]))])
    return (draw(st.sampled_from(["", "\ufeff"])) + text).encode()


@given(runsc_files(), st.sampled_from(list(Driver)))
@settings(deadline=None, max_examples=200)
def test_whatever_the_file_looks_like_every_other_byte_stays(text: bytes, driver: Driver) -> None:
    edited = set_driver(text, driver)
    again = set_driver(edited.text, driver)

    assert (read(edited.text).driver or Driver.CGROUPFS) is driver
    assert (edited.text, ()) == (again.text, again.edits)
    old, new = text.decode().removeprefix("\ufeff"), edited.text.decode().removeprefix("\ufeff")
    start = next(
        (at for at, (one, two) in enumerate(zip(old, new, strict=False)) if one != two),
        min(len(old), len(new)),
    )
    end = next(
        (
            at
            for at, (one, two) in enumerate(zip(old[start:][::-1], new[start:][::-1], strict=False))
            if one != two
        ),
        min(len(old), len(new)) - start,
    )
    assert set(new[start : len(new) - end]) <= set('systemd-cgroup="true" \r\n\t[runsc_config]{},false\'')
    assert {**tomllib.loads(old), "runsc_config": None} == {**tomllib.loads(new), "runsc_config": None}


@pytest.mark.parametrize(
    ("version", "day"),
    [
        ("release-20240807.0", 20240807),
        ("20240807.0-1", 20240807),
        ("release-20201216.0-72-gbf343394d498", 20201216),
        ("1.1.5", None),
        ("", None),
    ],
)
def test_a_release_is_its_day(version: str, day: int | None) -> None:
    assert day == release(version)


GOOD = {
    "config_path": "/r.toml",
    "is_read": True,
    "version": "20240807.0",
    "cgroup_mode": "unified",
    "systemd": 252,
}


@pytest.mark.parametrize(
    ("but", "reason"),
    [
        ({}, None),
        ({"version": ""}, None),
        ({"cgroup_mode": "unknown"}, "cgroup mode is not known"),
        ({"systemd": None}, "version is not known"),
        ({"config_path": ""}, "no ConfigPath"),
        ({"config_path": "r.toml"}, "no absolute path"),
        ({"is_read": False}, "is not there or cannot be used"),
        ({"cgroup_mode": "hybrid"}, "cgroup v2 alone"),
        ({"cgroup_mode": "legacy"}, "cgroup v2 alone"),
        ({"version": "release-20201216.0"}, "its runsc is of 20201216"),
        ({"systemd": 243}, "wants systemd 244"),
    ],
)
def test_where_the_flag_would_not_help_the_reason_is_told(but: dict[str, object], reason: str | None) -> None:
    found = unsettable(**{**GOOD, **but})  # type: ignore[arg-type]

    assert found is None if reason is None else reason in str(found)

# SPDX-License-Identifier: Apache-2.0
"""daemon.json: the driver goes into exec-opts, and every other byte stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit
from migrator.configs.docker import driver_of_exec_opts, read, set_driver

SYSTEMD = "native.cgroupdriver=systemd"

# name, before, after
EDITS: list[tuple[str, str | None, str]] = [
    ("no file", None, '{\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'),
    ("an empty file", "", '{\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'),
    ("blank lines of Windows", "\r\n", '{\r\n  "exec-opts": ["native.cgroupdriver=systemd"]\r\n}\r\n'),
    ("a byte order mark alone", "\ufeff", '\ufeff{\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'),
    ("an empty object", "{}\n", '{\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'),
    ("an empty object on two lines", "{\n}\n", '{\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'),
    (
        "one line, as scripts write it",
        '{"exec-opts":["native.cgroupdriver=cgroupfs"],"bridge":"none","iptables":false}',
        '{"exec-opts":["native.cgroupdriver=systemd"],"bridge":"none","iptables":false}',
    ),
    (
        "one member on one line",
        '{"debug":true}',
        '{"debug":true,"exec-opts":["native.cgroupdriver=systemd"]}',
    ),
    (
        "several members on one line",
        '{"debug": true, "hosts": ["fd://"]}\n',
        '{"debug": true, "hosts": ["fd://"], "exec-opts": ["native.cgroupdriver=systemd"]}\n',
    ),
    (
        "tabs, and no newline at the end",
        '{\n\t"log-driver": "json-file",\n\t"log-opts": {\n\t\t"max-size": "100m"\n\t}\n}',
        (
            '{\n\t"log-driver": "json-file",\n\t"log-opts": {\n\t\t"max-size": "100m"\n\t},\n'
            '\t"exec-opts": ["native.cgroupdriver=systemd"]\n}'
        ),
    ),
    (
        "CRLF, a byte order mark and a list over several lines",
        '\ufeff{\r\n    "exec-opts": [\r\n        "native.cgroupdriver=cgroupfs"\r\n    ],\r\n    "debug": false\r\n}\r\n',
        '\ufeff{\r\n    "exec-opts": [\r\n        "native.cgroupdriver=systemd"\r\n    ],\r\n    "debug": false\r\n}\r\n',
    ),
    (
        "another option in a list of one line",
        '{"exec-opts": ["isolation=hyperv"]}',
        '{"exec-opts": ["isolation=hyperv", "native.cgroupdriver=systemd"]}',
    ),
    (
        "another option in a list of several lines",
        '{\n  "exec-opts": [\n    "isolation=hyperv"\n  ]\n}\n',
        '{\n  "exec-opts": [\n    "isolation=hyperv",\n    "native.cgroupdriver=systemd"\n  ]\n}\n',
    ),
    (
        "an empty list",
        '{"exec-opts": [], "ipv6": true}',
        '{"exec-opts": ["native.cgroupdriver=systemd"], "ipv6": true}',
    ),
    (
        "an empty list on two lines",
        '{\n  "exec-opts": [\n  ]\n}\n',
        '{\n  "exec-opts": [\n    "native.cgroupdriver=systemd"\n  ]\n}\n',
    ),
    ("null", '{"exec-opts": null}', '{"exec-opts": ["native.cgroupdriver=systemd"]}'),
    (
        "commas at the start of lines",
        '{ "a": 1\n, "b": 2\n}',
        '{ "a": 1\n, "b": 2\n, "exec-opts": ["native.cgroupdriver=systemd"]\n}',
    ),
    (
        "dockerd ignores letter case and blanks",
        '{"exec-opts": ["Native.CgroupDriver = cgroupfs"]}',
        '{"exec-opts": ["Native.CgroupDriver = systemd"]}',
    ),
    (
        "every one of several",
        '{"exec-opts": ["native.cgroupdriver=cgroupfs", "native.cgroupdriver="]}',
        '{"exec-opts": ["native.cgroupdriver=systemd", "native.cgroupdriver=systemd"]}',
    ),
    (
        "written with escapes",
        '{"exec-opts": ["native\\u002ecgroupdriver=cgroupfs"]}',
        '{"exec-opts": ["native.cgroupdriver=systemd"]}',
    ),
    (
        "the words elsewhere mean nothing",
        '{"labels": ["native.cgroupdriver=cgroupfs", "}"], "x": {"exec-opts": ["native.cgroupdriver=cgroupfs"]}}',
        (
            '{"labels": ["native.cgroupdriver=cgroupfs", "}"], "x": {"exec-opts": ["native.cgroupdriver=cgroupfs"]}, '
            '"exec-opts": ["native.cgroupdriver=systemd"]}'
        ),
    ),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_the_driver_is_set_and_nothing_else_changes(before: str | None, after: str) -> None:
    edited = set_driver(before.encode() if before is not None else None, Driver.SYSTEMD)
    assert edited.text.decode() == after
    assert read(edited.text).driver == "systemd"
    again = set_driver(edited.text, Driver.SYSTEMD)
    assert (again.text, again.edits) == (edited.text, ())


def test_an_edit_names_key_values_and_line() -> None:
    text = b'{\n  "debug": true,\n  "exec-opts": [\n    "native.cgroupdriver=cgroupfs"\n  ]\n}\n'
    assert set_driver(text, Driver.SYSTEMD).edits == (
        Edit("exec-opts", "native.cgroupdriver=cgroupfs", "native.cgroupdriver=systemd", 4),
    )
    assert set_driver(b'{\n  "debug": true\n}\n', Driver.SYSTEMD).edits == (
        Edit("exec-opts", None, SYSTEMD, 3),
    )
    assert set_driver(None, Driver.SYSTEMD).edits == (Edit("exec-opts", None, SYSTEMD, 2),)


def test_what_the_file_says_is_read() -> None:
    config = read(
        b'{\n "exec-opts": ["a=b", "native.cgroupdriver=cgroupfs"],\n "cgroup-parent": "/docker",\n "live-restore": true\n}',
    )
    assert config.driver == "cgroupfs"
    assert config.driver_line == 2
    assert config.cgroup_parent == "/docker"
    assert config.exec_opts == ("a=b", "native.cgroupdriver=cgroupfs")
    assert config.live_restore is True
    assert config.data["cgroup-parent"] == "/docker"


def test_a_missing_file_says_nothing() -> None:
    assert read(None) == read(b"{}")
    assert read(None).driver is None


def test_a_file_on_which_docker_20_10_does_not_start_is_told() -> None:
    assert [read(text).is_blank for text in (None, b"", b" \r\n", b"{}")] == [False, True, True, False]
    assert [read(b"\xef\xbb\xbf" + text).has_byte_order_mark for text in (b"", b"{}")] == [True, True]
    assert not read(b"{}").has_byte_order_mark


@pytest.mark.parametrize(
    ("options", "driver"),
    [
        ([], None),
        (["native.cgroupdriver=systemd"], "systemd"),
        (["native.cgroupdriver=systemd", "native.cgroupdriver=cgroupfs"], "systemd"),
        (["NATIVE.CGROUPDRIVER= systemd "], "systemd"),
        (["native.cgroupdriver="], None),
        (["native.cgroupdriver"], None),
        (["native.cgroupdriver=Systemd"], "Systemd"),
    ],
)
def test_the_first_cgroupdriver_of_a_list_counts(options: list[str], driver: str | None) -> None:
    assert driver_of_exec_opts(options) == driver


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[]", 1),
        (b'\n"x"', 2),
        (b'{\n  "a": 1,\n}', 3),
        (b'{\n  "a": 1,\n  "a": 2\n}', 3),
        (b'{\n  "exec-opts": "native.cgroupdriver=systemd"\n}', 2),
        (b'{\n  "exec-opts": [1]\n}', 2),
        (b'{\n  "a": NaN\n}', 2),
        (b'{\n  "live-restore": "yes"\n}', 2),
        (b'{\n  "cgroup-parent": 1\n}', 2),
        (b'{\n  "a": "\xff"\n}', 2),
        (b"{\n" + b'"a":[' * 100_000, 2),
        (b'{\n"a":' + b"[" * 100 + b"]" * 100 + b"}", 2),
        (b'{"a":\n "' + b'\\"' * 200_000, 2),  # from each quote to the end, it would take for ever
        (b'{"a": 1} // comment', 1),
        (b'{"a": "', 1),
    ],
)
def test_a_file_that_dockerd_would_not_read_is_refused_with_its_line(text: bytes, line: int) -> None:
    for ask in (read, lambda junk: set_driver(junk, Driver.SYSTEMD)):
        with pytest.raises(ConfigSyntaxError) as caught:
            ask(text)
        assert caught.value.line == line
        assert f"line {line}," in str(caught.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
EXEC_OPTS = st.lists(
    st.sampled_from(["a=b", "native.cgroupdriver=cgroupfs", "native.cgroupdriver=systemd", "x"]), max_size=3
)


@st.composite
def daemon_files(draw: st.DrawFn) -> bytes:
    data = draw(
        st.dictionaries(st.text(max_size=8).filter(lambda key: key not in ODD_KEYS), JSON_VALUES, max_size=4)
    )
    if draw(st.booleans()):
        data["exec-opts"] = draw(EXEC_OPTS)
    indent = draw(st.sampled_from([None, 0, 1, 2, 4, "\t"]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]))
    text = json.dumps(data, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    prefix = draw(st.sampled_from(["", "\ufeff", "\n "]))
    return (prefix + text + draw(st.sampled_from(["", "\n", "\r\n", "  "]))).encode("utf-8", "replace")


ODD_KEYS = {"exec-opts", "cgroup-parent", "live-restore"}


@given(daemon_files(), st.sampled_from(list(Driver)))
@settings(deadline=None)
def test_only_exec_opts_changes_and_lines_outside_the_edit_stay(text: bytes, driver: Driver) -> None:
    edited = set_driver(text, driver)
    before, after = (json.loads(data.decode("utf-8-sig")) for data in (text, edited.text))
    assert {**before, "exec-opts": 0} == {**after, "exec-opts": 0}
    assert read(edited.text).driver == driver
    assert set_driver(edited.text, driver).edits == ()
    for edit in edited.edits:
        assert driver in edited.text.decode().split("\n")[edit.line - 1]
    kept = text.split(b"exec-opts")[0] if b"exec-opts" in text else b""
    assert edited.text.startswith(kept)


@given(daemon_files())
@settings(deadline=None)
def test_setting_it_back_gives_the_original_bytes_where_the_option_was_there(text: bytes) -> None:
    options = read(text).exec_opts or ()
    drivers = {option for option in options if option.startswith("native.")}
    if len(drivers) == 1:
        old = Driver(drivers.pop().partition("=")[2])
        other = Driver.SYSTEMD if old is Driver.CGROUPFS else Driver.CGROUPFS
        assert set_driver(set_driver(text, other).text, old).text == text


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ \nexec-opts1nt', max_size=60).map(str.encode))
@settings(deadline=None)
def test_junk_is_a_syntax_error_and_nothing_worse(junk: bytes) -> None:
    try:
        assert read(set_driver(junk, Driver.SYSTEMD).text).driver == "systemd"
    except ConfigSyntaxError as error:
        lines = range(1, junk.count(b"\n") + 1 + 1)
        if error.line not in lines:
            raise

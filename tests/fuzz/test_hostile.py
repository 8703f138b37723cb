# SPDX-License-Identifier: Apache-2.0
"""The classic attacks on a parser, one row each, for every format: answered rightly, or refused with a clear error."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from migrator.answers import MAX_SIZE
from migrator.errors import CgmigrateError
from tests.fuzz.judge import judge, limits
from tests.fuzz.targets import ID, TARGETS, UID

DEEP = 100_000
DIGITS = b"9" * 5000
BOM = b"\xef\xbb\xbf"
LARGE = 8 * 1024 * 1024
"""Bytes: `host.MAX_FILE`, the largest file that is read at all."""

ANSWERED = ""

_KUBELET = b"kind: KubeletConfiguration\ncgroupDriver: cgroupfs\n"
_BOMB = b"".join(b"k%d: &k%d [%s]\n" % (at, at, b",".join([b"*k%d" % (at - 1)] * 10)) for at in range(1, 30))
_LAUGHS = b"k0: &k0 lol\n" + _BOMB
_MERGES = b"k0: &k0 {a: 1}\n" + b"".join(
    b"k%d: &k%d {<<: [%s]}\n" % (at, at, b",".join([b"*k%d" % (at - 1)] * 10)) for at in range(1, 30)
)

YAML: Mapping[str, tuple[bytes, str]] = {
    "lists in lists": (b"a: " + b"[" * DEEP, "nested too deeply"),
    "lists in lists, closed": (b"a: " + b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "mappings in mappings": (b"a: " + b"{a: " * DEEP, "nested too deeply"),
    "a block in a block": (b"- " * 10_000, "nested too deeply"),
    "lists in 60 lists": (b"a: " + b"[" * 60 + b"]" * 60 + b"\n", "nested too deeply"),
    "more lines than anyone writes": (
        b"".join(b"k%d: 1\n" % at for at in range(30_000)),
        "more keys and values",
    ),
    "as large as a file may be": (b"a: " + b"x" * LARGE, "more than the 1048576"),
    "as many comments as a file may hold": (b"# c\n" * (LARGE // 4), "more than the 1048576"),
    "a NUL": (b"a: \x00\n", "not YAML"),
    "a lone surrogate": (b"a: \xed\xa0\x80\n", "is not UTF-8"),
    "a character beyond Unicode": (b'a: "\\U00110000"\n', "not YAML"),
    "Latin-1": (b"a: \xe4\n", "is not UTF-8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), "is not UTF-8"),
    "a key that stands twice": (b"a: 1\na: 2\n", "stands twice"),
    "an inner key that stands twice": (b"a: {b: 1, b: 2}\n", "stands twice"),
    "an alias without an anchor": (b"a: *x\n", "has no anchor"),
    "an alias to what it stands in": (b"a: &x [*x]\n", "has no anchor before it"),
    "two documents": (b"a: 1\n---\nb: 2\n", "second YAML document"),
    "a tab for an indent": (b"a:\n\tb: 1\n", "not YAML"),
    "a quote that is never closed": (b'a: "b\n', "not YAML"),
}
"""What no YAML file may hold, whoever reads it."""

YAML_TAKEN: Mapping[str, bytes] = {
    "a billion laughs": _LAUGHS,
    "a billion merges": _MERGES,
    "a tag that names a program": b"x: !!python/object/apply:os.system [touch /tmp/owned]\n",
    "a number of 5000 digits": b"x: " + DIGITS + b"\n",
    "what is no number": b"x: .nan\ny: -.inf\nz: 1e999\n",
    "a date": b"x: 2001-12-14t21:59:43.10-05:00\ny: 2001-99-99\n",
    "anchors that are used": b"x: &x [1]\ny: *x\nz: {<<: {a: *x}}\n",
    "a number of another base": b"x: 0o17\ny: 0x1F\nz: 1:2:3\nw: 1_000\n",
}
"""What is odd, and YAML."""

JSON: Mapping[str, tuple[bytes, str]] = {
    "lists in lists": (b'{"a": ' + b"[" * DEEP, "nested too deeply"),
    "lists in lists, closed": (b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deeply"),
    "objects in objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    "lists in 300 lists": (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
    "quotes that are never closed": (b'{"a": ' + b'"' + b'\\"' * 200_000, "not JSON"),
    "as large as a file may be": (b'{"a": "' + b"x" * LARGE + b'"}', "more than the 1048576"),
    "a NUL": (b'{"a": \x00}', "not JSON"),
    "a NUL in a text": (b'{"a": "\x00"}', "not JSON"),
    "a lone surrogate": (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
    "a key that stands twice": (b'{"a": 1, "a": 2}', "stands twice"),
    "what is no number": (b'{"a": NaN}', "NaN is not JSON"),
    "what has no end": (b'{"a": [-Infinity]}', "-Infinity is not JSON"),
    "two documents": (b"{}{}", "not JSON: Extra data"),
    "a list": (b"[1]", "the top level must be an object"),
    "a number": (b"1", "the top level must be an object"),
    "blanks": (b" \r\n ", ANSWERED),
    "nothing": (b"", ANSWERED),
    "an empty object": (b"{}", ANSWERED),
    "a byte order mark and CRLF": (
        BOM + b'{\r\n  "exec-opts": ["native.cgroupdriver=cgroupfs"]\r\n}\r\n',
        ANSWERED,
    ),
    "a number of 5000 digits": (b'{"a": ' + DIGITS + b"}", ANSWERED),
    "a float of 5000 digits": (b'{"a": ' + DIGITS + b".0e9999}", ANSWERED),
    "half of a surrogate pair, escaped": (b'{"exec-opts": ["a=\\ud800"]}', ANSWERED),
    "a driver behind escapes": (b'{"exec-opts": ["native.cgroup\\u0064river=cgroupfs"]}', ANSWERED),
}

TOML: Mapping[str, tuple[bytes, str]] = {
    "lists in lists": (b"a = " + b"[" * DEEP, "nested too deeply"),
    "lists in lists, closed": (b"a = " + b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "lists in 100 lists": (b"a = " + b"[" * 100 + b"]" * 100, "nested too deeply"),
    "inline tables in inline tables": (b"a = " + b"{a = " * DEEP, "nested too deeply"),
    "a dotted key of 10,000 parts": (b"a." * 10_000 + b"a = 1\n", "nested too deeply"),
    "a table of 10,000 parts": (
        b"[" + b"a." * 10_000 + b"a]\n" + b"".join(b"k%d = 1\n" % at for at in range(2000)),
        "nested too deeply",
    ),
    "as large as a file may be": (b'a = "' + b"x" * LARGE + b'"', "more than the 1048576"),
    "a NUL": (b"a = \x00", "not TOML"),
    "a lone surrogate": (b"a = '\xed\xa0\x80'", "is not UTF-8"),
    "half of a surrogate pair, escaped": (b'a = "\\ud800"', "not TOML"),
    "a character beyond Unicode": (b'a = "\\U00110000"', "not TOML"),
    "a key that stands twice": (b"a = 1\na = 2\n", "not TOML"),
    "a table that stands twice": (b"[a]\n[a]\n", "not TOML"),
    "a number of 5000 digits": (b"a = " + DIGITS, "not TOML"),
    "a day that never was": (b"a = 2001-02-30", "not TOML"),
    "a quote that is never closed": (b'a = """' + b'x"' * 100_000, "not TOML"),
    "nothing": (b"", ANSWERED),
    "a byte order mark and CRLF": (BOM + b"version = 2\r\nroot = '/x'\r\n", ANSWERED),
    "what is no number": (b"version = 2\nx = nan\ny = -inf\nz = 1e999\n", ANSWERED),
    "a date": (b"version = 2\nx = 1979-05-27T07:32:00-08:00\ny = 07:32:00\n", ANSWERED),
    "a float of 5000 digits": (b"version = 2\nx = " + DIGITS + b".5\n", ANSWERED),
    "as many tables as fit": (
        b"version = 2\n" + b"".join(b"[t%d]\na = 1\n" % at for at in range(3_000)),
        ANSWERED,
    ),
}

LINES: Mapping[str, tuple[bytes, str]] = {
    "as large as a file may be": (b"A=" + b"x" * LARGE, "more than the 65536"),
    "as large as is read": (b"[Service]\nA=" + b"x" * 65_000, ANSWERED),
    "nothing": (b"", ANSWERED),
    "a NUL": (b"[Service]\nA=\x00\n", ANSWERED),
    "bytes that are no UTF-8": (b"[Service]\nA=\xff\xfe\xed\xa0\x80\n", ANSWERED),
    "a byte order mark and CRLF": (BOM + b"[Service]\r\nA=b\r\n", ANSWERED),
    "backslashes to the end": (b"[Service]\nA=" + b"\\\n" * 30_000, ANSWERED),
    "a quote that is never closed": (b'[Service]\nEnvironment="' + b"x" * 1000, "is never closed"),
}

OWN_JSON: Mapping[str, bytes] = {
    "lists in lists": b"[" * DEEP,
    "objects in objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "lists in 300 lists": b"[" * 300 + b"]" * 300,
    "a number of 5000 digits": b'{"version": ' + DIGITS + b"}",
    "a NUL": b'{"a": "\x00"}',
    "a lone surrogate": b'{"a": "\xed\xa0\x80"}',
    "half of a surrogate pair, escaped": b'{"\\ud800": "\\udfff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "what is no number": b'{"version": NaN}',
    "two documents": b"{}{}",
    "nothing": b"",
    "a byte order mark": BOM + b"{}",
    "a list": b"[]",
    "as large as a file may be": b'{"a": "' + b"x" * LARGE + b'"}',
    "an answer for an hour": b"[" + b"1," * (LARGE // 4) + b"1]",
}


LONG: tuple[tuple[str, bytes], ...] = (
    ("cgroup-names", b"a-" * 20_000 + b"kubepods.slice"),
    ("cgroup-names", b"/kubepods" * 5_000),
    ("cgroup-names", b"/a-kubepods.slice" + b"/a" * 20_000),
    ("translate", b"a-" * 500_000 + b"kubepods.slice"),
    ("translate", b"kubepods-" * 500_000),
    ("translate", b"kubepods," * 50_000),
    ("translate", b"/kubepods/pod" + UID.encode() + b"/" + ID.encode() * 50_000),
    ("translate", b"\\/kubepods\\/burstable" * 20_000),
    ("translate", b"/kubepods/burstable\n" * 20_000),
    ("mountinfo", b"1 2 3:4 / /sys/fs/cgroup/x\\040 rw - cgroup cgroup rw," + b"memory," * 500_000),
    ("mountinfo", b"1 2 3:4 / /sys rw - cgroup2 c rw\n" * 50_000),
    ("proc-cgroup", (b"4:memory:/kubepods/pod" + UID.encode() + b"/" + ID.encode() + b"\n") * 500),
    ("proc-cgroup", b"0::/" + b"f" * 1_000_000),
    (
        "systemctl-show",
        b"Id=a\nMemoryMax=" + DIGITS + b"\nCPUQuotaPerSecUSec=" + DIGITS + b"." + DIGITS + b"s\n",
    ),
    ("systemctl-show", b"Id=a\n" + b"A=b\n" * 100_000),
    ("limits", DIGITS),
    ("limits", b"0" * 5000 + b"1"),
    ("limits", DIGITS + b" " + DIGITS),
    ("limits", b"1s " * 100_000),
    ("drain-lines", b'evicting pod "' + b"a." * 100_000),
    (
        "drain-lines",
        b'error when evicting pods/"' + b"a" * 100_000 + b'" (will retry after ' + b"5" * 100_000,
    ),
    ("cri-messages", b"\x0a\xff\xff\xff\x7f" * 1000),
    ("argv", b"--cgroup-driver\0" * 5_000),
    ("secrets", b"key=[" * 10_000),
    ("secrets", b"# key=[\n" * 5_000),
    ("secrets", b'"key": "' * 10_000),
    ("secrets", b"[auths]\na = 1\n" * 5_000),
    ("secrets", b"--token " * 10_000),
    ("secrets", b'"http://a ' * 10_000),
    ("secrets", b"http://a:b " * 10_000),
    ("secrets", b"docker login -p " * 10_000),
    ("secrets", b"curl -u '\n" * 10_000),
    ("secrets", b"echo -stdin <<<" * 10_000),
    ("secrets", b"proxy=\\\\\\" * 10_000),
    ("secrets", b"-----BEGIN KEY-----\n" * 5_000),
    ("secrets", b"https://" + b"a:" * 50_000),
    (
        "unit-file",
        b"[Service]\nEnvironmentFile=/etc/default/kubelet\nX="
        + b"${A}" * 1000
        + b"\n"
        + b"EnvironmentFile=/etc/default/kubelet\n" * 500,
    ),
    ("env-file", b"A=" + b"--cgroup-driver=cgroupfs " * 500),
)
"""What is long in the way that hurts most."""


def _rows() -> list[tuple[str, str, bytes, str]]:
    tables = {
        "daemon-json": JSON,
        "containerd-toml": TOML,
        "crio-toml": TOML,
        "unit-file": LINES,
        "env-file": {**LINES, "a quote that is never closed": (b'A="' + b"x" * 1000, "is never closed")},
        "kubelet-yaml": {
            **YAML,
            **{name: (_KUBELET + data, ANSWERED) for name, data in YAML_TAKEN.items()},
            "nothing": (b"", "holds no configuration"),
            "a word": (b"a\n", "must be a mapping"),
            "a byte order mark and CRLF": (BOM + _KUBELET.replace(b"\n", b"\r\n"), ANSWERED),
            "lists in lists, as JSON": (b'{"kind": ' + b"[" * DEEP, "nested too deeply"),
        },
        "kubeconfig": {
            **YAML,
            **{name: (b"clusters: [{}]\n" + data, ANSWERED) for name, data in YAML_TAKEN.items()},
            "nothing": (b"", "no `clusters`"),
        },
        "answers": {
            name: (data, "answers.yaml:" if len(data) < MAX_SIZE else "larger than 65536 bytes")
            for name, data in {**{name: row[0] for name, row in YAML.items()}, **YAML_TAKEN}.items()
        },
    }
    return [
        (f"{target} {name}", target, data, wanted)
        for target, table in tables.items()
        for name, (data, wanted) in table.items()
    ]


@pytest.mark.parametrize(
    ("target", "data", "wanted"), [row[1:] for row in _rows()], ids=[row[0] for row in _rows()]
)
def test_an_attack_on_a_configuration_file(target: str, data: bytes, wanted: str) -> None:
    assert wanted == _said(target, data, wanted)


@pytest.mark.parametrize("name", [*YAML, *YAML_TAKEN])
def test_an_attack_by_a_static_pod_ends_in_an_answer(name: str) -> None:
    pod = b"kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: b}]}\n"
    for data in (
        YAML[name][0] if name in YAML else YAML_TAKEN[name],
        pod + (YAML[name][0] if name in YAML else YAML_TAKEN[name]),
    ):
        assert ANSWERED == _said("static-pod", data, ANSWERED)


@pytest.mark.parametrize("target", ["plan", "facts"])
@pytest.mark.parametrize("name", OWN_JSON)
def test_an_attack_by_a_plan_or_facts_is_refused(target: str, name: str) -> None:
    said = _said(target, OWN_JSON[name], None)
    assert said
    assert 1000 > len(said)


@pytest.mark.parametrize("name", OWN_JSON)
@pytest.mark.parametrize("target", ["journal", "journal-signed", "docker-json", "cri-info"])
def test_an_attack_by_another_json_ends_in_an_answer(target: str, name: str) -> None:
    """A damaged last line of a journal is torn, so it does not count; what a runtime says oddly is as if it said nothing."""
    assert ANSWERED == _said(target, OWN_JSON[name], ANSWERED)


def test_a_journal_with_an_attack_in_its_middle_is_damaged() -> None:
    for name, data in OWN_JSON.items():
        assert "damaged record" == _said(
            "journal", data.replace(b"\n", b" ") + b"\n{}\n", "damaged record"
        ), name


@pytest.mark.parametrize(
    "step",
    [b"[]", b"{}", b"1", b"null", b'"\\ud800"', b'"' + b"x" * 100_000 + b'"'],
    ids=["list", "object", "number", "null", "surrogate", "long"],
)
def test_a_signed_record_of_another_shape_is_damaged_or_harmless(step: bytes) -> None:
    body = b'{"v": 1, "n": %d, "time": "t", "boot": "b", "kind": "applying", "step": %s, "data": {}}'
    data = b"[" + body % (1, step) + b"," + body % (2, b'"x"') + b"]"
    wanted = ANSWERED if step.startswith(b'"') else "damaged record"
    assert wanted == _said("journal-signed", data, wanted)


@pytest.mark.parametrize(("target", "data"), LONG, ids=[f"{row[0]}-{at}" for at, row in enumerate(LONG)])
def test_what_is_long_takes_no_longer_than_it_should(target: str, data: bytes) -> None:
    assert ANSWERED == _said(target, data, ANSWERED)


def test_labels_of_an_image_do_not_stop_a_removal() -> None:
    answer = json.dumps({"id": ID, "name": "x", "kind": "container", "grace": "9" * 5000}).encode()
    assert ANSWERED == _said("docker-json", answer, ANSWERED)


def _said(target: str, data: bytes, wanted: str | None) -> str:
    """Return what the target refused it with, or the `wanted` part of that; empty: it answered."""
    with limits():
        crash = judge(TARGETS[target], data).crash
    assert crash is None, (crash.signature, crash.detail)
    try:
        TARGETS[target].run(data)
    except TARGETS[target].may_raise as error:
        text = error.message if isinstance(error, CgmigrateError) else str(error)
        return wanted if wanted and wanted in text else text
    return ANSWERED

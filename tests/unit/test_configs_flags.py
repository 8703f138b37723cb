# SPDX-License-Identifier: Apache-2.0
"""Flags in argv and environment files: what counts, where it is written, and how it is changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit, UnsupportedShapeError
from migrator.configs.flags import (
    CRIO_DRIVER,
    DOCKER_DRIVER,
    KUBELET_DRIVER,
    Flag,
    driver_from_args,
    flags_in_env_file,
    parse_env_file,
    set_driver,
    value_from_args,
)

KUBEADM_FLAGS = (
    'KUBELET_KUBEADM_ARGS="--cgroup-driver=cgroupfs --network-plugin=cni '
    '--pod-infra-container-image=k8s.gcr.io/pause:3.2"\n'
)


@pytest.mark.parametrize(
    ("argv", "flag", "driver"),
    [
        (["kubelet"], KUBELET_DRIVER, None),
        (["kubelet", "--cgroup-driver=systemd"], KUBELET_DRIVER, "systemd"),
        (["kubelet", "--cgroup-driver", "systemd"], KUBELET_DRIVER, "systemd"),
        (
            ["kubelet", "--cgroup-driver=cgroupfs", "--v=2", "--cgroup-driver", "systemd"],
            KUBELET_DRIVER,
            "systemd",
        ),
        (["kubelet", "--cgroup-driver"], KUBELET_DRIVER, None),
        (["kubelet", "--cgroup-driver-x=systemd"], KUBELET_DRIVER, None),
        (["kubelet", "--", "--cgroup-driver=systemd"], KUBELET_DRIVER, None),
        (["kubelet", "--cgroup-driver='systemd'"], KUBELET_DRIVER, "'systemd'"),
        (["kubelet", "--cgroup_driver=systemd"], KUBELET_DRIVER, "systemd"),
        (["kubelet", "--cgroup-driver=systemd", "--cgroup_driver", "cgroupfs"], KUBELET_DRIVER, "cgroupfs"),
        (["kubelet", "__cgroup_driver=systemd"], KUBELET_DRIVER, None),
        (["kubelet", "--_cgroup_driver=systemd"], KUBELET_DRIVER, None),
        (["dockerd", "--exec_opt", "native.cgroupdriver=systemd"], DOCKER_DRIVER, None),
        (["crio", "--cgroup_manager=systemd"], CRIO_DRIVER, None),
        (["dockerd", "--exec-opt", "native.cgroupdriver=systemd"], DOCKER_DRIVER, "systemd"),
        (["dockerd", "--exec-opt=a=b", "--exec-opt=native.cgroupdriver=systemd"], DOCKER_DRIVER, "systemd"),
        (
            ["dockerd", "--exec-opt=native.cgroupdriver=x", "--exec-opt=native.cgroupdriver=y"],
            DOCKER_DRIVER,
            "x",
        ),
        (["dockerd", "--exec-opt=a=b"], DOCKER_DRIVER, None),
        (["crio", "--cgroup-manager=systemd"], CRIO_DRIVER, "systemd"),
        (["crio", "-cgroup-manager", "cgroupfs"], CRIO_DRIVER, "cgroupfs"),
    ],
)
def test_the_driver_of_an_argv_is_what_the_program_takes(
    argv: list[str], flag: Flag, driver: str | None
) -> None:
    assert driver_from_args(argv, flag) == driver


def test_other_flags_are_read_alike() -> None:
    assert value_from_args(["kubelet", "--config=/a", "--config", "/b"], "--config") == "/b"
    assert driver_from_args(["kubelet", "--cgroup-driver=x"], "--cgroup-driver") == "x"


# systemd.exec(5), EnvironmentFile=
@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB=2\n", [("A", "1", 1), ("B", "2", 2)]),
        ("# c\n; c\n\n  A = 1  \n", [("A", "1", 4)]),
        ("A=\nB=x\n", [("A", "", 1), ("B", "x", 2)]),
        ("A=\"a b\"\nB='c  d'\n", [("A", "a b", 1), ("B", "c  d", 2)]),
        ('A="a \\"b\\" \\$c \\d"\n', [("A", 'a "b" $c \\d', 1)]),
        ("A='a \\n'\n", [("A", "a \\n", 1)]),
        ("A=a\\\nb\\ c\n", [("A", "ab c", 1)]),
        ('A="a\\\nb"\n', [("A", "ab", 1)]),
        ('A="a\nb"\nB=1\n', [("A", "a\nb", 1), ("B", "1", 3)]),
        ("A=\"a\"'b'c\n", [("A", "abc", 1)]),
        ('A=a"b"\n', [("A", 'a"b"', 1)]),
        ("A=--x='y'\n", [("A", "--x='y'", 1)]),
        ("export A=1\n1A=2\nA\nB=1\n", [("B", "1", 4)]),
        ("A=1\r\nB=2\r\n", [("A", "1", 1), ("B", "2", 2)]),
        ("\ufeffA=1", [("A", "1", 1)]),
        ("A=a #b\n", [("A", "a #b", 1)]),
        ("", []),
    ],
)
def test_environment_files_are_read_as_systemd_reads_them(
    text: str, variables: list[tuple[str, str, int]]
) -> None:
    found = parse_env_file(text.encode(), "/etc/default/x")
    assert [(item.name, item.value, item.origin.line) for item in found] == variables
    assert {item.origin.path for item in found} <= {"/etc/default/x"}


# name, flag, before, after
EDITS = [
    ("kubeadm-flags.env", KUBELET_DRIVER, KUBEADM_FLAGS, KUBEADM_FLAGS.replace("=cgroupfs", "=systemd")),
    ("no quotes", KUBELET_DRIVER, "A=--v=2 --cgroup-driver=cgroupfs\n", "A=--v=2 --cgroup-driver=systemd\n"),
    (
        "underscores stay as they are",
        KUBELET_DRIVER,
        "A=--v=2 --cgroup_driver=cgroupfs --cgroup_driver cgroupfs\n",
        "A=--v=2 --cgroup_driver=systemd --cgroup_driver systemd\n",
    ),
    ("a word of its own", KUBELET_DRIVER, "A='--cgroup-driver cgroupfs'", "A='--cgroup-driver systemd'"),
    (
        "every place",
        KUBELET_DRIVER,
        'A="--cgroup-driver=cgroupfs"\r\nB=--cgroup-driver=cgroupfs\r\n',
        'A="--cgroup-driver=systemd"\r\nB=--cgroup-driver=systemd\r\n',
    ),
    (
        "quotes that reach the kubelet",
        KUBELET_DRIVER,
        "A=--cgroup-driver=\"'cgroupfs'\"\n",
        'A=--cgroup-driver="systemd"\n',
    ),
    ("quotes that do not", KUBELET_DRIVER, 'A=--cgroup-driver="cgroupfs"\n', 'A=--cgroup-driver="systemd"\n'),
    (
        "escaped quotes",
        KUBELET_DRIVER,
        'A="--cgroup-driver=\\"cgroupfs\\""\n',
        'A="--cgroup-driver=\\"systemd\\""\n',
    ),
    ("an empty value", KUBELET_DRIVER, "A=--cgroup-driver=\n", "A=--cgroup-driver=systemd\n"),
    (
        "a continued line",
        KUBELET_DRIVER,
        "A=--v=2 \\\n --cgroup-driver=cgroupfs\n",
        "A=--v=2 \\\n --cgroup-driver=systemd\n",
    ),
    (
        "a comment is no flag",
        KUBELET_DRIVER,
        "#A=--cgroup-driver=cgroupfs\n",
        "#A=--cgroup-driver=cgroupfs\n",
    ),
    ("none is added", KUBELET_DRIVER, "KUBELET_EXTRA_ARGS=\n", "KUBELET_EXTRA_ARGS=\n"),
    (
        "bytes that are no text",
        KUBELET_DRIVER,
        "# \udcff\nA=--cgroup-driver=cgroupfs",
        "# \udcff\nA=--cgroup-driver=systemd",
    ),
    (
        "docker's options",
        DOCKER_DRIVER,
        "OPTIONS='--selinux-enabled --exec-opt native.cgroupdriver=cgroupfs --exec-opt=a=cgroupfs'\n",
        "OPTIONS='--selinux-enabled --exec-opt native.cgroupdriver=systemd --exec-opt=a=cgroupfs'\n",
    ),
    (
        "CRI-O's",
        CRIO_DRIVER,
        "CRIO_CONFIG_OPTIONS=--cgroup-manager cgroupfs\n",
        "CRIO_CONFIG_OPTIONS=--cgroup-manager systemd\n",
    ),
]


@pytest.mark.parametrize(
    ("flag", "before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS]
)
def test_a_flag_that_is_there_is_changed_in_place(flag: Flag, before: str, after: str) -> None:
    edited = set_driver(before.encode("utf-8", "surrogateescape"), Driver.SYSTEMD, flag)
    assert edited.text.decode("utf-8", "surrogateescape") == after
    assert bool(edited.edits) == (before != after)
    assert set_driver(edited.text, Driver.SYSTEMD, flag).edits == ()


def test_an_edit_names_flag_values_and_line() -> None:
    edited = set_driver(b"# kubelet\n" + KUBEADM_FLAGS.encode(), Driver.SYSTEMD)
    assert edited.edits == (Edit("--cgroup-driver", "cgroupfs", "systemd", 2),)


def test_a_value_knows_its_file_and_line() -> None:
    (found,) = flags_in_env_file(
        b'A="--v=2 \\\n  --cgroup-driver=systemd"\n', KUBELET_DRIVER, "/etc/default/kubelet"
    )
    assert (found.value, str(found.origin)) == ("systemd", "/etc/default/kubelet:2")


@pytest.mark.parametrize(
    ("text", "line"),
    [(b'A=1\nB="--x\n', 2), (b"A='--x\nB=1\n", 1), (b'A="x"\nB="a" "b\n', 2)],
)
def test_an_open_quote_is_refused_with_its_line(text: bytes, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="never closed") as caught:
        set_driver(text, Driver.SYSTEMD)
    assert caught.value.line == line


def test_a_file_that_nobody_writes_is_refused() -> None:
    with pytest.raises(ConfigSyntaxError, match="70000 bytes, more than the 65536"):
        set_driver(b"A=1\n" + b"#" * 69_996, Driver.SYSTEMD)


@pytest.mark.parametrize(
    "value",
    [
        "--cgroup-driver=${DRIVER}",
        "--cgroup-driver=$DRIVER",
        "--cgroup-driver=cgr'oupfs'",
        "--cgroup-driver ''",
    ],
)
def test_a_value_that_is_not_written_out_is_left_to_the_operator(value: str) -> None:
    with pytest.raises(UnsupportedShapeError) as caught:
        set_driver(f'# c\nA="{value}"\n'.encode(), Driver.SYSTEMD)
    assert caught.value.line == 2


WORDS = st.sampled_from(
    ["--v=2", "--cgroup-driver=cgroupfs", "--cgroup-driver systemd", "--x='a b'", "y", "--cgroup-driver=''"]
)
QUOTES = st.sampled_from(["", '"'])


@st.composite
def env_files(draw: st.DrawFn) -> bytes:
    lines = []
    for name in draw(
        st.lists(st.sampled_from(["A", "B", "KUBELET_EXTRA_ARGS", "# C", "export D"]), max_size=4)
    ):
        quote = draw(QUOTES)
        separator = " " if name.startswith("#") else draw(st.sampled_from([" ", "  ", " \\\n "]))
        lines.append(f"{name}={quote}{separator.join(draw(st.lists(WORDS, max_size=4)))}{quote}")
    return "\n".join([*lines, ""]).encode()


@given(env_files(), st.sampled_from(list(Driver)))
@settings(deadline=None)
def test_only_the_values_of_the_flag_change(text: bytes, driver: Driver) -> None:
    try:
        edited = set_driver(text, driver)
    except UnsupportedShapeError:
        return
    before = flags_in_env_file(text, KUBELET_DRIVER)
    assert [value.value for value in flags_in_env_file(edited.text, KUBELET_DRIVER)] == [driver] * len(before)
    assert [item.name for item in parse_env_file(edited.text)] == [item.name for item in parse_env_file(text)]
    assert set_driver(edited.text, driver).edits == ()
    old, new = text.split(b"\n"), edited.text.split(b"\n")
    assert {n for n, (a, b) in enumerate(zip(old, new, strict=True), 1) if a != b} == {
        e.line for e in edited.edits
    }


@given(
    st.binary(max_size=60) | st.text(alphabet="A=\"'\\ \n#;$--cgroup-driver=x", max_size=80).map(str.encode)
)
@settings(deadline=None, max_examples=300)
def test_junk_is_a_syntax_error_and_nothing_worse(junk: bytes) -> None:
    try:
        edited = set_driver(junk, Driver.SYSTEMD)
        assert all(found.value == "systemd" for found in flags_in_env_file(edited.text, KUBELET_DRIVER))
    except ConfigSyntaxError as error:
        lines = range(1, junk.count(b"\n") + 1 + 1)
        if error.line not in lines:
            raise

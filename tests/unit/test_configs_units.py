# SPDX-License-Identifier: Apache-2.0
"""Units and drop-ins: the argv that the service starts with, and the line that each word comes from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit, UnsupportedShapeError
from migrator.configs.flags import DOCKER_DRIVER, KUBELET_DRIVER, Flag, effective, flag_values
from migrator.configs.units import (
    effective_argv,
    effective_environment,
    flags_in_unit,
    order_drop_ins,
    parse_unit,
    set_driver,
    unset_variables,
)

UNIT = b"""\
[Unit]
Description=kubelet: The Kubernetes Node Agent

[Service]
ExecStart=/usr/bin/kubelet
Restart=always

[Install]
WantedBy=multi-user.target
"""

KUBEADM = b"""\
# Note: This dropin only works with kubeadm and kubelet v1.11+
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/b.conf --kubeconfig=/etc/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
# This is a file that "kubeadm init" and "kubeadm join" generates at runtime
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""

FLAGS_ENV = b'KUBELET_KUBEADM_ARGS="--cgroup-driver=cgroupfs --network-plugin=cni"\n'
EXTRA_ENV = b"# extra\nKUBELET_EXTRA_ARGS=--node-ip=10.0.0.1 \\\n  --cgroup-driver='systemd'\n"

TEXTS = [("/lib/systemd/system/kubelet.service", UNIT), ("/etc/k.service.d/10-kubeadm.conf", KUBEADM)]
ENV_FILES = {"/var/lib/kubelet/kubeadm-flags.env": FLAGS_ENV, "/etc/default/kubelet": EXTRA_ENV}


def argv_of(text: str, variables: str = "") -> list[list[str]]:
    unit = parse_unit([("u", f"[Service]\n{text}\n".encode())])
    files = {file.path: variables.encode() for file in unit.environment_files}
    return [[word.text for word in argv] for argv in effective_argv(unit, files)]


def test_kubeadms_drop_in_gives_the_argv_of_the_kubelet() -> None:
    (argv,) = effective_argv(parse_unit(TEXTS), ENV_FILES)
    assert [(word.text, str(word.origin)) for word in argv] == [
        ("/usr/bin/kubelet", "/etc/k.service.d/10-kubeadm.conf:9"),
        ("--bootstrap-kubeconfig=/etc/b.conf", "/etc/k.service.d/10-kubeadm.conf:3"),
        ("--kubeconfig=/etc/kubelet.conf", "/etc/k.service.d/10-kubeadm.conf:3"),
        ("--config=/var/lib/kubelet/config.yaml", "/etc/k.service.d/10-kubeadm.conf:4"),
        ("--cgroup-driver=cgroupfs", "/var/lib/kubelet/kubeadm-flags.env:1"),
        ("--network-plugin=cni", "/var/lib/kubelet/kubeadm-flags.env:1"),
        ("--node-ip=10.0.0.1", "/etc/default/kubelet:2"),
        ("--cgroup-driver=systemd", "/etc/default/kubelet:3"),
    ]


def test_the_flag_that_counts_says_where_it_is_written() -> None:
    (argv,) = effective_argv(parse_unit(TEXTS), ENV_FILES)
    found = effective(flag_values(argv, KUBELET_DRIVER), KUBELET_DRIVER)
    assert found is not None
    assert (found.value, str(found.origin)) == ("systemd", "/etc/default/kubelet:3")


def test_files_that_do_not_exist_leave_variables_empty() -> None:
    (argv,) = effective_argv(parse_unit(TEXTS), {})
    assert [word.text for word in argv][-1] == "--config=/var/lib/kubelet/config.yaml"


def test_environment_files_are_listed_with_their_dash() -> None:
    files = parse_unit([("u", b"[Service]\nEnvironmentFile=-/a\nEnvironmentFile=/b\n")]).environment_files
    assert [(file.path, file.optional, file.origin.line) for file in files] == [
        ("/a", True, 2),
        ("/b", False, 3),
    ]
    reset = parse_unit([("u", b"[Service]\nEnvironmentFile=/a\nEnvironmentFile=\nEnvironmentFile=/c\n")])
    assert [file.path for file in reset.environment_files] == ["/c"]


@pytest.mark.parametrize(
    ("text", "variables", "argvs"),
    [
        ("ExecStart=/bin/a 'b c' \"d e\" f\\x20g", "", [["/bin/a", "b c", "d e", "f g"]]),
        ("ExecStart=/bin/a \\\n  b \\\n# comment\n  c", "", [["/bin/a", "b", "c"]]),
        ("ExecStart=/bin/a\nExecStart=/bin/b", "", [["/bin/a"], ["/bin/b"]]),
        ("ExecStart=/bin/a\nExecStart=\nExecStart=/bin/b", "", [["/bin/b"]]),
        ("ExecStart=/bin/a ; /bin/b \\;", "", [["/bin/a"], ["/bin/b", ";"]]),
        ("ExecStart=-/bin/a b", "", [["/bin/a", "b"]]),
        ("ExecStart=@/bin/a argv0 b", "", [["/bin/a", "b"]]),
        ("ExecStart=+!/bin/a 100%% $$x", "", [["/bin/a", "100%", "$x"]]),
        ("ExecStart=:/bin/a $X ${X}", "X=1", [["/bin/a", "$X", "${X}"]]),
        (
            "EnvironmentFile=/e\nExecStart=/bin/a $X ${X} pre$X x${X}y",
            "X='b  c'",
            [["/bin/a", "b", "c", "b  c", "pre$X", "xb  cy"]],
        ),
        ("EnvironmentFile=/e\nExecStart=/bin/a $X", "X=\"'b c' d\"", [["/bin/a", "b c", "d"]]),
        ("ExecStart=/bin/a $NONE ${NONE} $", "", [["/bin/a", "", "$"]]),
        ("Environment=X=1\nEnvironmentFile=/e\nExecStart=/bin/a $X", "X=2", [["/bin/a", "2"]]),
        ("EnvironmentFile=/e\nEnvironment=X=1\nExecStart=/bin/a $X", "X=2", [["/bin/a", "2"]]),
        ("Environment=X=1 'Y=b c' Z=%%\nExecStart=/bin/a $X $Y $Z", "", [["/bin/a", "1", "b", "c", "%"]]),
        ("Environment=X=1\nEnvironment=\nExecStart=/bin/a $X", "", [["/bin/a"]]),
        ("Environment=X=1 Y=2\nUnsetEnvironment=X Y=3\nExecStart=/bin/a $X $Y", "", [["/bin/a", "2"]]),
        ("ExecStart=/bin/a \\d \\101\\t\\u00e9 ''", "", [["/bin/a", "\\d", "A\té", ""]]),
        ("ExecStart=/bin/a x\\ y z\\;", "", [["/bin/a", "x\\ y", "z\\;"]]),
        ("ExecStart=/bin/a \\  'x'", "", [["/bin/a", "\\ ", "x"]]),
        ("EnvironmentFile=/e\nExecStart=/bin/a $X", "X=b\\\\ c\\\\", [["/bin/a", "b c"]]),
        ("  ExecStart = /bin/a  ", "", [["/bin/a"]]),
        ("NotAnAssignment\nExecStart=/bin/a", "", [["/bin/a"]]),
    ],
)
def test_command_lines_are_read_as_systemd_reads_them(
    text: str, variables: str, argvs: list[list[str]]
) -> None:
    assert argv_of(text, variables) == argvs


def test_only_the_service_section_counts() -> None:
    assert (
        parse_unit([("u", b"ExecStart=/a\n[Unit]\nExecStart=/b\n[X-Service]\nExecStart=/c\n")]).exec_start
        == ()
    )


def test_a_setting_of_one_value_is_the_last_one() -> None:
    unit = parse_unit([("a", b"[Service]\nCPUAccounting=no\n"), ("b", b"[Service]\n\nCPUAccounting=yes\n")])
    setting = unit.last("CPUAccounting")
    assert setting is not None
    assert (setting.value, str(setting.origin)) == ("yes", "b:3")
    assert unit.last("MemoryAccounting") is None


def test_environment_files_may_be_patterns() -> None:
    unit = parse_unit([("u", b"[Service]\nEnvironmentFile=/etc/k/*.env\n")])
    variables = effective_environment(
        unit, {"/etc/k/b.env": b"X=2\n", "/etc/k/a.env": b"X=1\nY=1\n", "/etc/other": b"X=3\n"}
    )
    assert {name: (found.value, str(found.origin)) for name, found in variables.items()} == {
        "X": ("2", "/etc/k/b.env:1"),
        "Y": ("1", "/etc/k/a.env:2"),
    }


def test_drop_ins_apply_by_file_name_and_etc_hides_usr() -> None:
    assert order_drop_ins(
        [
            "/etc/systemd/system/kubelet.service.d/20-extra.conf",
            "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "/run/systemd/system/kubelet.service.d/05-run.conf",
            "/etc/systemd/system/service.d/10-kubeadm.conf",
            "/etc/systemd/system/service.d/99-all.conf",
        ],
    ) == (
        "/run/systemd/system/kubelet.service.d/05-run.conf",
        "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        "/etc/systemd/system/kubelet.service.d/20-extra.conf",
        "/etc/systemd/system/service.d/99-all.conf",
    )


# name, flag, before, after
EDITS = [
    (
        "in ExecStart",
        KUBELET_DRIVER,
        "[Service]\nExecStart=/usr/bin/kubelet --cgroup-driver=cgroupfs --v=2\n",
        "[Service]\nExecStart=/usr/bin/kubelet --cgroup-driver=systemd --v=2\n",
    ),
    (
        "underscores",
        KUBELET_DRIVER,
        "[Service]\nExecStart=/usr/bin/kubelet --cgroup_driver=cgroupfs --cgroup_root=/\n",
        "[Service]\nExecStart=/usr/bin/kubelet --cgroup_driver=systemd --cgroup_root=/\n",
    ),
    (
        "in a continued line",
        KUBELET_DRIVER,
        "[Service]\r\nExecStart=/usr/bin/kubelet \\\r\n  --cgroup-driver cgroupfs \\\r\n  --v=2\r\n",
        "[Service]\r\nExecStart=/usr/bin/kubelet \\\r\n  --cgroup-driver systemd \\\r\n  --v=2\r\n",
    ),
    (
        "in Environment, with quotes of both levels",
        KUBELET_DRIVER,
        "[Service]\nEnvironment=\"A=--cgroup-driver='cgroupfs' --v=2\" B=1\n",
        "[Service]\nEnvironment=\"A=--cgroup-driver='systemd' --v=2\" B=1\n",
    ),
    (
        "dockerd's unit",
        DOCKER_DRIVER,
        "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --exec-opt native.cgroupdriver=cgroupfs $DOCKER_OPTS",
        "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --exec-opt native.cgroupdriver=systemd $DOCKER_OPTS",
    ),
    (
        "not in comments, other sections or other keys",
        KUBELET_DRIVER,
        "[Unit]\nExecStart=x --cgroup-driver=cgroupfs\n[Service]\n# ExecStart=--cgroup-driver=cgroupfs\nExecStartPre=x --cgroup-driver=cgroupfs\n",
        "[Unit]\nExecStart=x --cgroup-driver=cgroupfs\n[Service]\n# ExecStart=--cgroup-driver=cgroupfs\nExecStartPre=x --cgroup-driver=cgroupfs\n",
    ),
]


@pytest.mark.parametrize(
    ("flag", "before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS]
)
def test_a_flag_that_is_there_is_changed_in_place(flag: Flag, before: str, after: str) -> None:
    edited = set_driver(before.encode(), Driver.SYSTEMD, flag)
    assert edited.text.decode() == after
    assert bool(edited.edits) == (before != after)
    assert set_driver(edited.text, Driver.SYSTEMD, flag).edits == ()


def test_an_edit_names_flag_values_and_line() -> None:
    text = b"[Service]\nExecStart=/k \\\n  --cgroup-driver=cgroupfs\n"
    assert set_driver(text, Driver.SYSTEMD).edits == (Edit("--cgroup-driver", "cgroupfs", "systemd", 3),)
    assert [(found.value, str(found.origin)) for found in flags_in_unit(text, KUBELET_DRIVER, "k")] == [
        ("cgroupfs", "k:3")
    ]


@pytest.mark.parametrize("value", ["${DRIVER}", "$DRIVER", "cgr'oupfs'", "cgroup\\x66's'"])
def test_a_value_that_is_not_written_out_is_left_to_the_operator(value: str) -> None:
    with pytest.raises(UnsupportedShapeError) as caught:
        set_driver(f"[Service]\nExecStart=/k --cgroup-driver={value}\n".encode(), Driver.SYSTEMD)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[Service]\nExecStart=/k 'x\n", 2),
        (b'[Service]\nEnvironment="A=b\n', 2),
        (b'[Service]\nExecStart=/k \\\n "x\n', 3),
        (b"[Unit]\n\n[Service\nExecStart=/k\n", 3),
    ],
)
def test_a_unit_that_systemd_would_not_take_is_refused_with_its_line(text: bytes, line: int) -> None:
    for ask in (lambda junk: parse_unit([("u", junk)]), lambda junk: set_driver(junk, Driver.SYSTEMD)):
        with pytest.raises(ConfigSyntaxError) as caught:
            ask(text)
        assert caught.value.line == line


def test_a_command_that_variables_make_too_long_for_the_kernel_is_refused() -> None:
    text = b"[Service]\nEnvironmentFile=/e\nExecStart=/k\nExecStart=/k " + b"${A}" * 1000 + b"\n"
    with pytest.raises(ConfigSyntaxError, match="longer than the kernel takes") as caught:
        effective_argv(parse_unit([("u", text)]), {"/e": b"A=" + b"x" * 10_000 + b"\n"})
    assert caught.value.line == 4


def test_an_environment_file_that_is_named_again_counts_where_it_stands_last() -> None:
    unit = parse_unit(
        [("u", b"[Service]\n" + b"EnvironmentFile=/a\nEnvironmentFile=/b\n" * 300 + b"EnvironmentFile=/a\n")]
    )
    assert effective_environment(unit, {"/a": b"X=1\n", "/b": b"X=2\n"})["X"].value == "1"


WORDS = st.sampled_from(
    ["--v=2", "--cgroup-driver=cgroupfs", '"--cgroup-driver=systemd"', "'a b'", "$X", "%%", "\\x20"]
)


@given(st.lists(WORDS, max_size=6), st.sampled_from([" ", " \\\n  "]), st.sampled_from(list(Driver)))
@settings(deadline=None)
def test_only_the_values_of_the_flag_change(words: list[str], separator: str, driver: Driver) -> None:
    text = f"[Service]\nExecStart={separator.join(['/k', *words])}\nEnvironment=A=1\n".encode()
    edited = set_driver(text, driver)
    before, after = (parse_unit([("u", data)]).exec_start[0].argv for data in (text, edited.text))
    assert after == [f"--cgroup-driver={driver}" if word.startswith("--cgroup") else word for word in before]
    old, new = text.split(b"\n"), edited.text.split(b"\n")
    assert {n for n, (a, b) in enumerate(zip(old, new, strict=True), 1) if a != b} == {
        e.line for e in edited.edits
    }
    assert set_driver(edited.text, driver).edits == ()


@given(
    st.binary(max_size=60)
    | st.text(alphabet="[Service]\nExecStart=/k \"'\\%$;{}--cgroup-driver", max_size=80).map(str.encode)
)
@settings(deadline=None, max_examples=300)
def test_junk_is_a_syntax_error_and_nothing_worse(junk: bytes) -> None:
    text = b"[Service]\nExecStart=/k " + junk
    try:
        effective_argv(parse_unit([("u", text)]), {})
        edited = set_driver(text, Driver.SYSTEMD)
        assert all(found.value == "systemd" for found in flags_in_unit(edited.text, KUBELET_DRIVER))
    except ConfigSyntaxError as error:
        lines = range(1, text.count(b"\n") + 1 + 1)
        if error.line not in lines:
            raise


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ExecStart=/k --v=2\n", ()),
        ("ExecStart=/k $A ${B} --c=${C} $A\n", ("A", "B", "C")),
        ("Environment=A=1\nEnvironmentFile=/e\nExecStart=/k $A $B $C\n", ("C",)),
        ("UnsetEnvironment=A\nExecStart=/k $A\n", ()),
        ("ExecStart=/k $$A $${B} a$C\n", ()),
        ("ExecStart=:/k $A\n", ()),
        ("ExecStart=/k $A\nExecStart=\nExecStart=/k $B\n", ("B",)),
    ],
)
def test_variables_that_no_file_sets_are_known(text: str, names: tuple[str, ...]) -> None:
    unit = parse_unit([("/u", f"[Service]\n{text}".encode())])
    assert unset_variables(unit, {"/e": b"B=2\n"}) == names

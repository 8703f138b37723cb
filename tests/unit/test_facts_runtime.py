# SPDX-License-Identifier: Apache-2.0
"""Which runtime it is, and what its unit and files say of its driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.facts.look import Look
from migrator.facts.model import Driver, Handler, Kubelet, Node, Runtime, Source
from migrator.facts.runtime import gather_runtime, kind_of, socket_of
from migrator.facts.runtime_config import containerd_configured, crio_configured, docker_configured
from migrator.facts.units import unit_on_disk
from tests.unit.nodes import Link, lay

DAEMON_JSON = "/etc/docker/daemon.json"
DOCKER_UNIT = "/usr/lib/systemd/system/docker.service"
DOCKER_FILES: dict[str, str] = {
    DOCKER_UNIT: "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n"
}
OWN_OPTIONS = "/etc/systemd/system/docker.service.d/docker-options.conf"
TOML = "/etc/containerd/config.toml"
CONTAINERD_UNIT = {"/usr/lib/systemd/system/containerd.service": "[Service]\nExecStart=/usr/bin/containerd\n"}
CRIO_UNIT = {
    "/usr/lib/systemd/system/crio.service": "[Service]\nExecStart=/usr/bin/crio $CRIO_FLAGS\nEnvironmentFile=-/etc/sysconfig/crio\n"
}

CGROUPFS = Source(kind="default", value="cgroupfs")
SYSTEMD = Source(kind="default", value="systemd")


def node(mode: str = "hybrid", *, init_systemd: bool = True) -> Node:
    return Node(
        hostname="w",
        machine_id="",
        boot_id="",
        os="",
        kernel="",
        architecture="",
        uid=0,
        live=False,
        init_systemd=init_systemd,
        systemd_version=252,
        cgroup_mode=mode,
    )


def source(kind: str, value: str | None, path: str, line: int = 0) -> Source:
    return Source(kind=kind, value=value, path=path, line=line)


@pytest.mark.parametrize(
    ("machine", "files", "chain", "driver"),
    [
        pytest.param(
            node(),
            {},
            [CGROUPFS, source("config-file", None, DAEMON_JSON)],
            "cgroupfs",
            id="no file on cgroup v1",
        ),
        pytest.param(
            node("unified"),
            {DAEMON_JSON: "{}"},
            [SYSTEMD, source("config-file", None, DAEMON_JSON)],
            "systemd",
            id="cgroup v2",
        ),
        pytest.param(
            node("unified", init_systemd=False),
            {},
            [CGROUPFS, source("config-file", None, DAEMON_JSON)],
            "cgroupfs",
            id="cgroup v2 without systemd",
        ),
        pytest.param(
            node(),
            {
                DAEMON_JSON: '{\n "log-driver": "journald",\n "exec-opts": [\n  "native.cgroupdriver=systemd"\n ]\n}\n'
            },
            [CGROUPFS, source("config-file", "systemd", DAEMON_JSON, 4)],
            "systemd",
            id="daemon.json",
        ),
        pytest.param(
            node(),
            {"/etc/default/docker": "# opts\nDOCKER_OPTS='--exec-opt native.cgroupdriver=systemd'\n"},
            [
                CGROUPFS,
                source("config-file", None, DAEMON_JSON),
                source("env-file", "systemd", "/etc/default/docker", 2),
            ],
            "systemd",
            id="a flag by the environment file",
        ),
        pytest.param(
            node(),
            {
                OWN_OPTIONS: '[Service]\nEnvironment="DOCKER_OPTS=--exec-opt=native.cgroupdriver=systemd --live-restore"\n'
            },
            [
                CGROUPFS,
                source("config-file", None, DAEMON_JSON),
                source("unit-drop-in", "systemd", OWN_OPTIONS, 2),
            ],
            "systemd",
            id="a flag by a drop-in, as kubespray has it",
        ),
        pytest.param(
            node(),
            {
                "/etc/default/docker": (
                    "DOCKER_OPTS=--exec-opt native.cgroupdriver=systemd --exec-opt native.cgroupdriver=cgroupfs\n"
                )
            },
            [
                CGROUPFS,
                source("config-file", None, DAEMON_JSON),
                source("env-file", "cgroupfs", "/etc/default/docker", 1),
                source("env-file", "systemd", "/etc/default/docker", 1),
            ],
            "systemd",
            id="the first of several exec-opts counts, so it stands last",
        ),
        pytest.param(
            node(),
            {DAEMON_JSON: '{\n"exec-opts": "x"}'},
            [source("config-file", None, DAEMON_JSON, 2)],
            None,
            id="broken",
        ),
    ],
)
def test_dockers_driver_and_the_whole_chain(
    tmp_path: Path, machine: Node, files: dict[str, str], chain: list[Source], driver: str | None
) -> None:
    look = Look(lay(tmp_path, DOCKER_FILES | files))
    found = docker_configured(look, Runtime(kind="docker"), unit_on_disk(look, "docker.service"), machine)
    assert found.driver == Driver(value=driver, chain=tuple(chain))
    assert found.config_file == DAEMON_JSON


def test_dockers_default_is_unknown_while_the_cgroup_mode_is(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, DOCKER_FILES))
    found = docker_configured(
        look, Runtime(kind="docker"), unit_on_disk(look, "docker.service"), node("unknown")
    )
    assert (found.driver.value, [unknown.subject for unknown in look.unknowns]) == (None, ["runtime.driver"])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"exec-opts": [}', 1),
        ('{\n "a": 1,\n}', 3),
        ("[]", 1),
        ('{\n"exec-opts": ["a", 1]}', 2),
        ("\n\nnot json", 3),
    ],
)
def test_a_broken_daemon_json_is_unknown_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    look = Look(lay(tmp_path, DOCKER_FILES | {DAEMON_JSON: content}))
    docker_configured(look, Runtime(kind="docker"), unit_on_disk(look, "docker.service"), node())
    assert [(DAEMON_JSON, line)] == [(unknown.subject, unknown.line) for unknown in look.unknowns]


def test_other_settings_of_docker_come_from_file_and_flags(tmp_path: Path) -> None:
    files = {
        "/srv/docker.json": '{"live-restore": true, "cgroup-parent": "/kube"}',
        OWN_OPTIONS: "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --config-file=/srv/docker.json --live-restore=false\n",
    }
    look = Look(lay(tmp_path, DOCKER_FILES | files))
    found = docker_configured(look, Runtime(kind="docker"), unit_on_disk(look, "docker.service"), node())
    assert (found.config_file, found.live_restore, found.cgroup_parent) == (
        "/srv/docker.json",
        False,
        "/kube",
    )


CRI = '[plugins."io.containerd.grpc.v1.cri".containerd'
RUNC = f'version = 2\n{CRI}.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n{CRI}.runtimes.runc.options]\nSystemdCgroup = %s\n'
IMPLICIT = Handler(name="runc", runtime_type="io.containerd.runc.v2", is_default=True)


@pytest.mark.parametrize(
    ("files", "version", "chain", "handlers"),
    [
        pytest.param({}, None, [CGROUPFS, source("config-file", None, TOML)], [IMPLICIT], id="no file"),
        pytest.param(
            {TOML: ""}, None, [CGROUPFS, source("config-file", None, TOML)], [IMPLICIT], id="empty file"
        ),
        pytest.param(
            {TOML: RUNC % "true"},
            None,
            [CGROUPFS, source("config-file", "systemd", TOML, 5)],
            [
                Handler(
                    name="runc",
                    runtime_type="io.containerd.runc.v2",
                    systemd_cgroup=True,
                    is_default=True,
                    path=TOML,
                    line=5,
                )
            ],
            id="runc",
        ),
        pytest.param(
            {
                TOML: f'version = 2\n{CRI}]\ndefault_runtime_name = "nvidia"\n{CRI}.runtimes.nvidia]\n'
                f'runtime_type = "io.containerd.runc.v2"\n{CRI}.runtimes.nvidia.options]\nBinaryName = "/usr/bin/nvidia"\nSystemdCgroup = true\n'
            },
            None,
            [CGROUPFS, source("config-file", "systemd", TOML, 8)],
            [
                Handler(
                    name="nvidia",
                    runtime_type="io.containerd.runc.v2",
                    systemd_cgroup=True,
                    binary_name="/usr/bin/nvidia",
                    is_default=True,
                    path=TOML,
                    line=8,
                ),
                Handler(name="runc", runtime_type="io.containerd.runc.v2"),
            ],
            id="another default, and runc is there though nobody wrote it",
        ),
        pytest.param(
            {
                TOML: 'imports = ["conf.d/*.toml"]\n' + RUNC % "true",
                "/etc/containerd/conf.d/99-nvidia.toml": f'version = 2\n{CRI}.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n',
            },
            "1.7.0",
            [
                CGROUPFS,
                source("config-file", None, TOML),
                source("config-drop-in", "cgroupfs", "/etc/containerd/conf.d/99-nvidia.toml", 2),
            ],
            [
                Handler(
                    name="nvidia",
                    runtime_type="io.containerd.runc.v2",
                    path="/etc/containerd/conf.d/99-nvidia.toml",
                    line=2,
                ),
            ],
            id="an import replaces the plugin's table in 1.x, and with it the runc that nobody wrote",
        ),
        pytest.param(
            {
                TOML: 'imports = ["/etc/containerd/conf.d/*.toml"]\n' + RUNC % "true",
                "/etc/containerd/conf.d/99-nvidia.toml": f'version = 2\n{CRI}.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n',
            },
            "2.0.1",
            [
                CGROUPFS,
                source("config-file", "systemd", TOML, 6),
                source("config-drop-in", None, "/etc/containerd/conf.d/99-nvidia.toml"),
            ],
            [
                Handler(
                    name="nvidia",
                    runtime_type="io.containerd.runc.v2",
                    path="/etc/containerd/conf.d/99-nvidia.toml",
                    line=2,
                ),
                Handler(
                    name="runc",
                    runtime_type="io.containerd.runc.v2",
                    systemd_cgroup=True,
                    is_default=True,
                    path=TOML,
                    line=6,
                ),
            ],
            id="an import is merged in 2.x",
        ),
        pytest.param(
            {TOML: "version = 2\n[a\n"}, None, [source("config-file", None, TOML, 2)], [], id="broken"
        ),
    ],
)
def test_containerds_driver_is_its_default_handlers(
    tmp_path: Path, files: dict[str, str], version: str | None, chain: list[Source], handlers: list[Handler]
) -> None:
    look = Look(lay(tmp_path, CONTAINERD_UNIT | files))
    service = unit_on_disk(look, "containerd.service")
    found = containerd_configured(look, Runtime(kind="containerd", version=version), service)
    assert found.driver.chain == tuple(chain)
    assert found.handlers == tuple(handlers)


RUNSC = f'{CRI}.runtimes.runsc]\nruntime_type = "io.containerd.runsc.v1"\n{CRI}.runtimes.runsc.options]\nSystemdCgroup = true\n'
FLAGS = "/etc/containerd/runsc.toml"


@pytest.mark.parametrize(
    ("options", "files", "expected", "unknown"),
    [
        pytest.param(
            "", {}, ("", None, TOML, 10), [], id="no file: SystemdCgroup in its options has no effect"
        ),
        pytest.param(
            f'ConfigPath = "{FLAGS}"\n',
            {FLAGS: 'binary_name = "/opt/runsc"\n[runsc_config]\nsystemd-cgroup = "true"\n'},
            (FLAGS, True, FLAGS, 3),
            [],
            id="its own file says systemd",
        ),
        pytest.param(
            f'ConfigPath = "{FLAGS}"\n',
            {FLAGS: "[runsc_config]\n"},
            (FLAGS, None, FLAGS, 1),
            [],
            id="its own file says nothing",
        ),
        pytest.param(
            f'ConfigPath = "{FLAGS}"\n', {}, (FLAGS, None, TOML, 10), [], id="the file is not there"
        ),
        pytest.param(
            f'ConfigPath = "{FLAGS}"\n',
            {FLAGS: "[runsc_config]\nsystemd-cgroup = true\n"},
            (FLAGS, None, TOML, 10),
            [("runtime.handlers.runsc.config_path", f"{FLAGS}:2")],
            id="a flag without quotes, on which its shim ends",
        ),
        pytest.param(
            'ConfigPath = "runsc.toml"\n', {}, ("runsc.toml", None, TOML, 10), [], id="a relative path"
        ),
    ],
)
def test_gvisors_driver_is_in_the_file_that_its_options_name(
    tmp_path: Path,
    options: str,
    files: dict[str, str],
    expected: tuple[str, bool | None, str, int],
    unknown: list[tuple[str, str]],
) -> None:
    look = Look(lay(tmp_path, CONTAINERD_UNIT | {TOML: RUNC % "false" + "#\n" + RUNSC + options} | files))
    found = containerd_configured(look, Runtime(kind="containerd"), unit_on_disk(look, "containerd.service"))
    _, runsc = found.handlers
    assert expected == (runsc.config_path, runsc.systemd_cgroup, runsc.path, runsc.line)
    assert unknown == [(each.subject, each.reason.partition(": ")[0]) for each in look.unknowns]
    assert found.driver.value == "cgroupfs"


def test_what_breaks_a_containerd_configuration_is_a_fact(tmp_path: Path) -> None:
    text = (
        'disabled_plugins = ["cri"]\n[plugins.cri]\nsystemd_cgroup = true\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nSystemdCgroup = true\n'
    )
    look = Look(lay(tmp_path, CONTAINERD_UNIT | {TOML: text}))
    found = containerd_configured(look, Runtime(kind="containerd"), unit_on_disk(look, "containerd.service"))
    assert (found.config_version, found.disabled_plugins, found.legacy_systemd_cgroup) == (1, ("cri",), True)
    assert len(found.ignored_cri_tables) == 1
    assert found.driver.value == "cgroupfs"


@pytest.mark.parametrize(
    ("content", "line"),
    [("version = 2\n[a\n", 2), ("version = 9\n", 1), ('\n\nversion = "2"\n', 3), ("a = \x00", 1)],
)
def test_a_broken_config_toml_is_unknown_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    look = Look(lay(tmp_path, CONTAINERD_UNIT | {TOML: content}))
    containerd_configured(look, Runtime(kind="containerd"), unit_on_disk(look, "containerd.service"))
    assert [(TOML, line)] == [(unknown.subject, unknown.line) for unknown in look.unknowns]


@pytest.mark.parametrize(
    ("version", "starts"), [("1.4.13", True), ("1.6.20", False), ("1.7.24", False), ("2.1.4", True)]
)
def test_an_import_that_is_not_there_is_unknown_where_containerd_would_not_start(
    tmp_path: Path, version: str, *, starts: bool
) -> None:
    """As the daemons themselves did: 1.4 and 2.1 pass it by."""
    text = 'version = 2\nimports = ["/etc/containerd/conf.d/99-nvidia.toml"]\n'
    look = Look(lay(tmp_path, CONTAINERD_UNIT | {TOML: text}))
    runtime = Runtime(kind="containerd", version=version)
    containerd_configured(look, runtime, unit_on_disk(look, "containerd.service"))
    expected = [] if starts else ["/etc/containerd/conf.d/99-nvidia.toml"]
    assert expected == [unknown.subject for unknown in look.unknowns]


CRIO = "/etc/crio/crio.conf"
CRIO_D = "/etc/crio/crio.conf.d"


@pytest.mark.parametrize(
    ("files", "chain", "driver"),
    [
        ({}, [SYSTEMD, source("config-file", None, CRIO)], "systemd"),
        (
            {CRIO: '[crio.runtime]\ncgroup_manager = "cgroupfs"\nconmon_cgroup = "pod"\n'},
            [SYSTEMD, source("config-file", "cgroupfs", CRIO, 2)],
            "cgroupfs",
        ),
        (
            {
                CRIO: '[crio.runtime]\ncgroup_manager = "cgroupfs"\n',
                f"{CRIO_D}/02-cgroup.conf": '[crio.runtime]\nconmon_cgroup = "pod"\ncgroup_manager = "systemd"\n',
                f"{CRIO_D}/10-other.conf": "[crio.image]\n",
            },
            [
                SYSTEMD,
                source("config-file", "cgroupfs", CRIO, 2),
                source("config-drop-in", "systemd", f"{CRIO_D}/02-cgroup.conf", 3),
                source("config-drop-in", None, f"{CRIO_D}/10-other.conf"),
            ],
            "systemd",
        ),
        (
            {"/etc/sysconfig/crio": "CRIO_FLAGS=--cgroup-manager=cgroupfs\n"},
            [
                SYSTEMD,
                source("config-file", None, CRIO),
                source("env-file", "cgroupfs", "/etc/sysconfig/crio", 1),
            ],
            "cgroupfs",
        ),
        ({CRIO: "[crio.runtime\n"}, [source("config-file", None, CRIO, 1)], None),
    ],
)
def test_crios_driver_and_the_whole_chain(
    tmp_path: Path, files: dict[str, str], chain: list[Source], driver: str | None
) -> None:
    look = Look(lay(tmp_path, CRIO_UNIT | files))
    found = crio_configured(look, Runtime(kind="crio"), unit_on_disk(look, "crio.service"))
    assert found.driver == Driver(value=driver, chain=tuple(chain))


@pytest.mark.parametrize(
    ("endpoint", "runtime"),
    [
        ("unix:///var/run/dockershim.sock", ("docker", "dockershim")),
        ("unix:///run/cri-dockerd.sock", ("docker", "cri-dockerd")),
        ("/run/containerd/containerd.sock", ("containerd", "")),
        ("unix:///var/run/crio/crio.sock", ("crio", "")),
        ("unix:///run/mine.sock", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_runtime_is_told_by_its_sockets_name(endpoint: str, runtime: tuple[str, str]) -> None:
    assert runtime == kind_of(endpoint)


def test_an_endpoint_may_be_a_plain_path() -> None:
    assert {"/run/a.sock"} == {socket_of("unix:///run/a.sock"), socket_of("/run/a.sock")}


DOCKER_UNITS = ["docker.socket", "docker.service"]
CRI_DOCKERD_UNITS = ["cri-docker.socket", "docker.socket", "cri-docker.service", "docker.service"]
UNITS = {
    f"/usr/lib/systemd/system/{name}": "[Service]\nExecStart=/bin/x\n"
    for name in (*CRI_DOCKERD_UNITS, "containerd.service", "crio.service")
}


@pytest.mark.parametrize(
    ("endpoint", "sockets", "runtime", "units"),
    [
        ("unix:///var/run/dockershim.sock", [], ("docker", "/run/docker.sock"), DOCKER_UNITS),
        ("unix:///run/cri-dockerd.sock", [], ("docker", "/run/docker.sock"), CRI_DOCKERD_UNITS),
        (
            "/run/containerd/containerd.sock",
            [],
            ("containerd", "/run/containerd/containerd.sock"),
            ["containerd.service"],
        ),
        ("", ["/run/crio/crio.sock"], ("crio", "/run/crio/crio.sock"), ["crio.service"]),
        ("", ["/run/crio/crio.sock", "/run/containerd/containerd.sock"], ("unknown", ""), []),
        (
            "",
            ["/run/cri-dockerd.sock", "/run/containerd/containerd.sock"],
            ("docker", "/run/docker.sock"),
            CRI_DOCKERD_UNITS,
        ),
        ("unix:///run/mine.sock", [], ("unknown", "/run/mine.sock"), []),
        ("", [], ("unknown", ""), []),
    ],
)
def test_the_runtime_has_its_units_in_the_order_in_which_they_stop(
    tmp_path: Path, endpoint: str, sockets: list[str], runtime: tuple[str, str], units: list[str]
) -> None:
    look = Look(lay(tmp_path, UNITS | dict.fromkeys(sockets, "")))
    found = gather_runtime(look, None, node(), Kubelet(present=True, runtime_endpoint=endpoint))
    assert runtime == (found.runtime.kind, found.runtime.socket)
    assert units == [unit.name for unit in found.runtime.units]
    assert found.containers is None
    assert (["runtime.kind"] if not units else []) == [unknown.subject for unknown in look.unknowns]


def test_a_runtime_without_its_service_is_noted(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {}))
    gather_runtime(
        look, None, node(), Kubelet(present=True, runtime_endpoint="/run/k3s/containerd/containerd.sock")
    )
    assert ["there is no containerd.service"] == [unknown.reason for unknown in look.unknowns]


@pytest.mark.parametrize(
    ("files", "state"),
    [
        (
            {"/etc/systemd/system/docker.service": Link("/dev/null")},
            ("masked", "masked", "/etc/systemd/system/docker.service"),
        ),
        (DOCKER_FILES, ("loaded", "disabled", DOCKER_UNIT)),
        (
            DOCKER_FILES | {"/etc/systemd/system/multi-user.target.wants/docker.service": Link(DOCKER_UNIT)},
            ("loaded", "enabled", DOCKER_UNIT),
        ),
        ({}, ("not-found", "", "")),
    ],
)
def test_a_unit_of_an_image_is_as_its_files_say(
    tmp_path: Path, files: dict[str, str | Link], state: tuple[str, str, str]
) -> None:
    unit = unit_on_disk(Look(lay(tmp_path, files)), "docker.service")
    assert state == (unit.load_state, unit.unit_file_state, unit.fragment)


def test_drop_ins_of_a_name_with_dashes_come_from_every_level(tmp_path: Path) -> None:
    files: dict[str, str | Link] = {
        "/etc/systemd/system/cri-docker.service": "",
        "/etc/systemd/system/service.d/50-all.conf": "",
        "/etc/systemd/system/cri-.service.d/40-cri.conf": "",
        "/run/systemd/system/cri-docker.service.d/30-own.conf": "",
        "/usr/lib/systemd/system/cri-docker.service.d/30-own.conf": "",
        "/etc/systemd/system/cri-docker.service.d/20-gone.conf": Link("/dev/null"),
    }
    assert unit_on_disk(Look(lay(tmp_path, files)), "cri-docker.service").drop_ins == (
        "/run/systemd/system/cri-docker.service.d/30-own.conf",
        "/etc/systemd/system/cri-.service.d/40-cri.conf",
        "/etc/systemd/system/service.d/50-all.conf",
    )

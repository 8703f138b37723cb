# SPDX-License-Identifier: Apache-2.0
"""Who decides the kubelet's driver, in the shapes that are met in the field."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from migrator.configs.flags import Origin
from migrator.configs.words import plain_words
from migrator.facts.gather import settle_driver
from migrator.facts.kubelet import (
    CONTAINERD,
    DOCKERSHIM,
    KubeletLook,
    Settings,
    asks_runtime,
    driver_running,
    gather_kubelet,
    kubelet_process,
    merged,
    read_layers,
    runtime_endpoint,
    version_of,
)
from migrator.facts.look import Look
from migrator.facts.model import Driver, Kubelet, Runtime, Source, Unknown
from migrator.facts.runtime import RuntimeLook
from migrator.facts.units import process_words
from migrator.host import Reader
from tests.unit.nodes import Link, lay

UNIT = "/usr/lib/systemd/system/kubelet.service"
DROP_IN = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
CONFIG = "/var/lib/kubelet/config.yaml"
FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
DEFAULTS = "/etc/default/kubelet"
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

KUBEADM: dict[str, str | Link] = {
    UNIT: "[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n",
    DROP_IN: (
        "[Service]\n"
        'Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"\n'
        "EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\n"
        "EnvironmentFile=-/etc/default/kubelet\n"
        "ExecStart=\n"
        "ExecStart=/usr/bin/kubelet $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"
    ),
    CONFIG: HEAD + "cgroupDriver: systemd\n",
}

DEFAULT = Source(kind="default", value="cgroupfs")
SILENT_FILE = Source(kind="config-file", value=None, path=CONFIG)
IN_FILE = Source(kind="config-file", value="systemd", path=CONFIG, line=3)


def from_file(kind: str, value: str | None, path: str, line: int) -> Source:
    return Source(kind=kind, value=value, path=path, line=line)


@pytest.mark.parametrize(
    ("changes", "chain", "driver"),
    [
        pytest.param({CONFIG: HEAD}, [DEFAULT, SILENT_FILE], "cgroupfs", id="nobody says anything"),
        pytest.param({}, [DEFAULT, IN_FILE], "systemd", id="the configuration file says it"),
        pytest.param(
            {FLAGS: 'KUBELET_KUBEADM_ARGS="--cgroup-driver=cgroupfs --network-plugin=cni"\n'},
            [DEFAULT, IN_FILE, from_file("env-file", "cgroupfs", FLAGS, 1)],
            "cgroupfs",
            id="a flag of old kubeadm beats the file",
        ),
        pytest.param(
            {
                FLAGS: "KUBELET_KUBEADM_ARGS=--cgroup-driver=cgroupfs\n",
                DEFAULTS: "\nKUBELET_EXTRA_ARGS=--cgroup-driver systemd\n",
            },
            [
                DEFAULT,
                IN_FILE,
                from_file("env-file", "cgroupfs", FLAGS, 1),
                from_file("env-file", "systemd", DEFAULTS, 2),
            ],
            "systemd",
            id="the last of repeated flags wins, in either form",
        ),
        pytest.param(
            {FLAGS: "KUBELET_KUBEADM_ARGS=\"--cgroup-driver='systemd'\"\n", CONFIG: HEAD},
            [DEFAULT, SILENT_FILE, from_file("env-file", "systemd", FLAGS, 1)],
            "systemd",
            id="systemd takes quotes inside the variable away",
        ),
        pytest.param(
            {
                "/etc/systemd/system/kubelet.service.d/20-own.conf": (
                    "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet \\\n  --config=/var/lib/kubelet/config.yaml \\\n"
                    "  --cgroup-driver=cgroupfs\n"
                )
            },
            [
                DEFAULT,
                IN_FILE,
                from_file("unit-drop-in", "cgroupfs", "/etc/systemd/system/kubelet.service.d/20-own.conf", 5),
            ],
            "cgroupfs",
            id="a later drop-in resets ExecStart",
        ),
        pytest.param(
            {"/etc/systemd/system/kubelet.service.d/10-kubeadm.conf": "[Service]\nEnvironment=X=1\n"},
            [DEFAULT],
            "cgroupfs",
            id="a drop-in of the same name in etc hides the packaged one, and with it the configuration file",
        ),
        pytest.param(
            {
                "/etc/systemd/system/kubelet.service": "[Service]\nExecStart=/opt/kubelet --cgroup-driver=systemd\n",
                DROP_IN: "",
            },
            [DEFAULT, from_file("unit", "systemd", "/etc/systemd/system/kubelet.service", 2)],
            "systemd",
            id="a unit in etc hides the packaged one",
        ),
        pytest.param(
            {
                DEFAULTS: "KUBELET_EXTRA_ARGS=--config-dir=/etc/kubernetes/kubelet.conf.d\n",
                "/etc/kubernetes/kubelet.conf.d/00-a.conf": HEAD + "cgroupDriver: systemd\n",
                "/etc/kubernetes/kubelet.conf.d/10-b.conf": HEAD + "# note\ncgroupDriver: cgroupfs\n",
                "/etc/kubernetes/kubelet.conf.d/99-c.yaml": HEAD + "cgroupDriver: systemd\n",
            },
            [
                DEFAULT,
                IN_FILE,
                from_file("config-drop-in", "systemd", "/etc/kubernetes/kubelet.conf.d/00-a.conf", 3),
                from_file("config-drop-in", "cgroupfs", "/etc/kubernetes/kubelet.conf.d/10-b.conf", 4),
            ],
            "cgroupfs",
            id="drop-ins of --config-dir apply in order, and only *.conf",
        ),
        pytest.param(
            {CONFIG: '{"kind": "KubeletConfiguration",\n "cgroupDriver": "systemd"}'},
            [DEFAULT, from_file("config-file", "systemd", CONFIG, 2)],
            "systemd",
            id="the configuration file is JSON",
        ),
        pytest.param(
            {
                CONFIG: Link("../../../srv/kubelet.yaml"),
                "/srv/kubelet.yaml": HEAD + "cgroupDriver: systemd\n",
            },
            [DEFAULT, IN_FILE],
            "systemd",
            id="the configuration file is a link",
        ),
        pytest.param(
            {FLAGS: "KUBELET_KUBEADM_ARGS=--cgroup_driver=cgroupfs\n"},
            [DEFAULT, IN_FILE, from_file("env-file", "cgroupfs", FLAGS, 1)],
            "cgroupfs",
            id="a flag with underscores is the same flag",
        ),
        pytest.param(
            {
                DEFAULTS: "KUBELET_EXTRA_ARGS=--config_dir=/etc/k.d\n",
                "/etc/k.d/0.conf": HEAD + "cgroupDriver: cgroupfs\n",
            },
            [DEFAULT, IN_FILE, from_file("config-drop-in", "cgroupfs", "/etc/k.d/0.conf", 3)],
            "cgroupfs",
            id="and so is that of the drop-ins",
        ),
        pytest.param(
            {CONFIG: HEAD + "cgroupDriver: [systemd\n"},
            [from_file("config-file", None, CONFIG, 4)],
            None,
            id="below a broken file nothing is certain",
        ),
        pytest.param(
            {CONFIG: HEAD + "cgroupDriver: [\n", DEFAULTS: "KUBELET_EXTRA_ARGS=--cgroup-driver=systemd\n"},
            [from_file("config-file", None, CONFIG, 4), from_file("env-file", "systemd", DEFAULTS, 1)],
            "systemd",
            id="a flag decides also above a broken file",
        ),
    ],
)
def test_the_effective_driver_and_the_whole_chain(
    tmp_path: Path, changes: dict[str, str | Link], chain: list[Source], driver: str | None
) -> None:
    look = Look(lay(tmp_path, KUBEADM | changes))
    assert gather_kubelet(look, None).kubelet.driver == Driver(value=driver, chain=tuple(chain))


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({CONFIG: HEAD + "cgroupDriver: [systemd\n"}, (CONFIG, 4)),
        ({CONFIG: HEAD + "cgroupDriver: true\n"}, (CONFIG, 3)),
        ({CONFIG: '{"cgroupDriver":\n "systemd"'}, (CONFIG, 2)),
        ({CONFIG: HEAD + "cgroupDriver: a\ncgroupDriver: b\n"}, (CONFIG, 4)),
        ({CONFIG: Link("config.yaml")}, (CONFIG, 0)),
        ({FLAGS: '\nKUBELET_KUBEADM_ARGS="--cgroup-driver=systemd\n'}, (FLAGS, 2)),
        ({DROP_IN: "[Service]\n[Install\n"}, (DROP_IN, 2)),
    ],
)
def test_a_broken_file_is_unknown_with_its_line(
    tmp_path: Path, changes: dict[str, str | Link], unknown: tuple[str, int]
) -> None:
    look = Look(
        lay(tmp_path, {path: what for path, what in KUBEADM.items() if path not in changes} | changes)
    )
    gather_kubelet(look, None)
    assert unknown in [(each.subject, each.line) for each in look.unknowns]


def test_a_configuration_file_that_is_missing_is_unknown_and_no_default_is_guessed(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {path: text for path, text in KUBEADM.items() if path != CONFIG}))
    kubelet = gather_kubelet(look, None).kubelet
    assert kubelet.driver == Driver(value=None, chain=(SILENT_FILE,))
    assert (CONFIG, "the kubelet is told to read this file, and it is not there") in [
        (each.subject, each.reason) for each in look.unknowns
    ]


def test_every_file_that_was_read_is_noted_with_where_its_bytes_are(tmp_path: Path) -> None:
    content = KUBEADM | {CONFIG: Link("real.yaml"), "/var/lib/kubelet/real.yaml": HEAD, FLAGS: ""}
    look = Look(lay(tmp_path, content))
    gather_kubelet(look, None)
    assert {file.path: (file.real_path, file.present) for file in look.files.values()} == {
        UNIT: (UNIT, True),
        DROP_IN: (DROP_IN, True),
        CONFIG: ("/var/lib/kubelet/real.yaml", True),
        FLAGS: (FLAGS, True),
        DEFAULTS: (DEFAULTS, False),
    }


def test_without_a_kubelet_there_is_none_and_nothing_is_wrong(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {}))
    assert gather_kubelet(look, None) == KubeletLook(Kubelet(present=False), asks_runtime=False)
    assert look.unknowns == []


def test_a_masked_kubelet_is_there_as_a_unit_only(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, KUBEADM | {"/etc/systemd/system/kubelet.service": Link("/dev/null")}))
    kubelet = gather_kubelet(look, None).kubelet
    assert kubelet.unit is not None
    assert (kubelet.present, kubelet.unit.load_state, kubelet.driver) == (False, "masked", Driver(value=None))
    assert look.unknowns == []


@pytest.mark.parametrize(
    ("flags", "enforced"),
    [
        ("--enforce-node-allocatable=pods", ("pods",)),
        (
            "--enforce-node-allocatable=pods --enforce-node-allocatable=kube-reserved",
            ("pods", "kube-reserved"),
        ),
        (
            "--enforce-node-allocatable=kube-reserved --enforce_node_allocatable pods",
            ("kube-reserved", "pods"),
        ),
        ("--enforce-node-allocatable=", ()),
        ("", ("pods", "system-reserved")),
    ],
)
def test_a_repeated_list_adds_up_and_replaces_that_of_the_file(
    tmp_path: Path, flags: str, enforced: tuple[str, ...]
) -> None:
    texts = KUBEADM | {
        CONFIG: "enforceNodeAllocatable: [pods, system-reserved]\n",
        DEFAULTS: f"KUBELET_EXTRA_ARGS={flags}\n",
    }
    assert gather_kubelet(Look(lay(tmp_path, texts)), None).kubelet.enforce_node_allocatable == enforced


def test_the_settings_that_matter_come_from_file_and_flags(tmp_path: Path) -> None:
    config = (
        "cgroupRoot: /kubelet\ncgroupsPerQOS: true\nstaticPodPath: /etc/kubernetes/manifests\nhealthzPort: 10348\n"
        "healthzBindAddress: 0.0.0.0\nkubeReservedCgroup: /kube\nsystemReservedCgroup: /system\n"
        "enforceNodeAllocatable: [pods, kube-reserved]\nfailSwapOn: true\ncpuManagerPolicy: static\n"
    )
    flags = (
        "KUBELET_EXTRA_ARGS=--fail-swap-on=false --runtime-cgroups=/systemd/system.slice --kubeconfig=/etc/kubernetes/kubelet.conf "
        "--system-reserved-cgroup=/own --container-runtime-endpoint unix:///run/crio/crio.sock\n"
    )
    kubelet = gather_kubelet(
        Look(lay(tmp_path, KUBEADM | {CONFIG: HEAD + config, DEFAULTS: flags})), None
    ).kubelet
    assert kubelet.cgroup_root == "/kubelet"
    assert kubelet.static_pod_path == "/etc/kubernetes/manifests"
    assert kubelet.healthz == "http://127.0.0.1:10348/healthz"
    assert kubelet.reserved_cgroups == (
        ("kubeReservedCgroup", "/kube"),
        ("systemReservedCgroup", "/own"),
        ("runtimeCgroups", "/systemd/system.slice"),
    )
    assert kubelet.enforce_node_allocatable == ("pods", "kube-reserved")
    assert (kubelet.fail_swap_on, kubelet.cpu_manager_policy) == (False, "static")
    assert kubelet.kubeconfig == "/etc/kubernetes/kubelet.conf"
    assert kubelet.runtime_endpoint == "unix:///run/crio/crio.sock"


def test_settings_with_underscores_are_the_same_settings(tmp_path: Path) -> None:
    flags = (
        "KUBELET_EXTRA_ARGS=--cgroup_root=/own --container_runtime_endpoint=unix:///run/x.sock "
        "--container-runtime=remote --fail_swap_on=false --healthz_port 7\n"
    )
    kubelet = gather_kubelet(Look(lay(tmp_path, KUBEADM | {DEFAULTS: flags})), None).kubelet
    assert (kubelet.cgroup_root, kubelet.runtime_endpoint, kubelet.fail_swap_on, kubelet.healthz) == (
        "/own",
        "unix:///run/x.sock",
        False,
        "http://127.0.0.1:7/healthz",
    )


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ('/bin/sh -c "exec /usr/bin/kubelet --config=/c --cgroup-driver=cgroupfs"', "/bin/sh"),
        ("/usr/local/bin/start-kubelet.sh --cgroup-driver=systemd", "/usr/local/bin/start-kubelet.sh"),
        ("-/usr/bin/env kubelet --cgroup-driver=systemd", "/usr/bin/env"),
    ],
)
def test_what_a_script_starts_is_unknown_and_no_default_is_guessed(
    tmp_path: Path, command: str, program: str
) -> None:
    look = Look(lay(tmp_path, {UNIT: f"[Service]\nExecStart={command}\n"}))
    found = gather_kubelet(look, None)
    assert (found.kubelet.present, found.kubelet.driver, found.asks_runtime) == (
        True,
        Driver(value=None),
        False,
    )
    reason = f"ExecStart starts {program}, which is not the kubelet: what it will use cannot be told"
    assert look.unknowns == [Unknown(subject="kubelet.driver", reason=reason)]


@pytest.mark.parametrize("program", ["/usr/bin/kubelet", "/opt/kubelet-1.20.2", "/hyperkube kubelet"])
def test_the_kubelet_has_several_names(tmp_path: Path, program: str) -> None:
    look = Look(lay(tmp_path, {UNIT: f"[Service]\nExecStart={program} --cgroup-driver=systemd\n"}))
    assert gather_kubelet(look, None).kubelet.driver.value == "systemd"


@pytest.mark.parametrize(
    ("name", "version", "is_run"),
    [
        ("kubelet", "1.20.2", True),
        ("start-kubelet.sh", None, False),
        ("kubelet-1.20.2", None, False),
        ("sh", None, False),
    ],
)
def test_only_the_kubelet_is_run_to_be_asked_its_version(
    tmp_path: Path, name: str, version: str | None, *, is_run: bool
) -> None:
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\necho Kubernetes v1.20.2\n")
    program.chmod(0o755)
    look = Look(Reader())
    assert version_of(look, plain_words([str(program)], Origin(UNIT, 2)), 0) == version
    assert (tmp_path / "was-run").exists() is is_run
    assert [each.subject for each in look.unknowns] == ([] if is_run else ["kubelet.version"])


@pytest.mark.parametrize(
    ("file", "argv0", "is_the_kubelet"),
    [("kubelet", "kubelet", True), ("kubelet", "agent", True), ("sh", "/bin/sh", False)],
)
def test_a_unit_whose_main_process_is_a_shell_has_its_kubelet_elsewhere(
    tmp_path: Path, file: str, argv0: str, *, is_the_kubelet: bool
) -> None:
    shutil.copy("/bin/sleep", tmp_path / file)
    with subprocess.Popen([argv0, "5"], executable=tmp_path / file) as child:
        found = kubelet_process(Look(Reader()), child.pid)
        child.kill()
    assert (found == child.pid) is is_the_kubelet


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ("", "http://127.0.0.1:10248/healthz"),
        ("healthzPort: 0\n", ""),
        ("healthzBindAddress: '::'\n", "http://[::1]:10248/healthz"),
        ("healthzBindAddress: 10.0.0.7\nhealthzPort: 1\n", "http://10.0.0.7:1/healthz"),
    ],
)
def test_the_health_check_is_where_the_configuration_says(tmp_path: Path, settings: str, url: str) -> None:
    reader = lay(tmp_path, KUBEADM | {CONFIG: HEAD + settings})
    assert url == gather_kubelet(Look(reader), None).kubelet.healthz


@pytest.mark.parametrize(
    ("argv", "version", "endpoint"),
    [
        ([], "1.20.2", DOCKERSHIM),
        (["--container-runtime=docker"], "1.23.0", DOCKERSHIM),
        # Before 1.24 an endpoint counts for a remote runtime only.
        (["--container-runtime-endpoint=unix:///run/x.sock"], "1.20.2", DOCKERSHIM),
        (["--container-runtime=remote", "--container-runtime-endpoint=/run/x.sock"], "1.20.2", "/run/x.sock"),
        ([], "1.24.0", CONTAINERD),
        (["--container-runtime-endpoint=unix:///run/x.sock"], "1.30.1", "unix:///run/x.sock"),
        ([], None, ""),
        (["--network-plugin=cni"], None, DOCKERSHIM),
        (["--network-plugin=cni", "--container-runtime=remote", "--container-runtime-endpoint=a"], None, "a"),
        (["--container-runtime-endpoint=unix:///run/x.sock"], None, "unix:///run/x.sock"),
    ],
)
def test_the_runtime_is_the_one_of_the_flags_or_of_the_version(
    argv: list[str], version: str | None, endpoint: str
) -> None:
    assert endpoint == runtime_endpoint(Settings(plain_words(argv, Origin("argv", 1)), merged(())), version)


@pytest.mark.parametrize(
    ("version", "gates", "asks"),
    [
        (None, {}, False),
        ("1.20.2", {"KubeletCgroupDriverFromCRI": True}, False),
        ("1.28.0", {}, False),
        ("1.28.0", {"KubeletCgroupDriverFromCRI": True}, True),
        ("1.31.0", {}, True),
        ("1.31.0", {"KubeletCgroupDriverFromCRI": False}, False),
        ("1.34.0", {"KubeletCgroupDriverFromCRI": False}, True),
        ("v2.0", {}, True),
        ("junk", {}, False),
    ],
)
def test_from_which_version_on_the_kubelet_asks_the_runtime(
    version: str | None, gates: dict[str, bool], *, asks: bool
) -> None:
    assert asks == asks_runtime(version, gates)


def test_feature_gates_of_a_flag_win_one_by_one(tmp_path: Path) -> None:
    config = HEAD + "featureGates:\n  KubeletCgroupDriverFromCRI: false\n"
    look = Look(lay(tmp_path, {CONFIG: config}))
    words = plain_words(
        ["kubelet", f"--config={CONFIG}", "--feature-gates=A=true,KubeletCgroupDriverFromCRI=true"],
        Origin("", 1),
    )
    settings = Settings(words, merged(read_layers(look, words)))
    assert {"A": True, "KubeletCgroupDriverFromCRI": True} == settings.gates()


HERTZ = os.sysconf("SC_CLK_TCK")


def running(argv: str, *, changed: int, tmp_path: Path, since: int = 3600) -> tuple[Driver, list[Unknown]]:
    """Return what is known of process 77, with the configuration file changed that many seconds after its start.

    It starts `since` seconds from now, as the kernel lets nobody set the time of the last change of an inode (ctime).
    """
    started = int(time.time()) + since
    stat = f"77 (ku b) e) S 1 {' '.join(['0'] * 17)} {100 * HERTZ} 0 0\n"
    content = {
        CONFIG: KUBEADM[CONFIG],
        "/proc/77/cmdline": argv,
        "/proc/77/stat": stat,
        "/proc/stat": f"cpu 1\nbtime {started - 100}\n",
    }
    look = Look(lay(tmp_path, content))
    os.utime(tmp_path / CONFIG[1:], (started + changed, started + changed))
    return driver_running(look, 77, process_words(look, 77)), look.unknowns


def test_the_running_kubelet_has_what_its_file_said_when_it_started(tmp_path: Path) -> None:
    driver, unknowns = running(f"/usr/bin/kubelet\0--config={CONFIG}\0", changed=-60, tmp_path=tmp_path)
    assert (driver, unknowns) == (Driver(value="systemd", chain=(DEFAULT, IN_FILE)), [])


@pytest.mark.parametrize(
    ("changed", "since"), [(60, 3600), (-60, -3600)], ids=["written", "an old file moved to its place"]
)
def test_a_file_that_changed_since_tells_nothing_of_the_running_kubelet(
    tmp_path: Path, changed: int, since: int
) -> None:
    argv = f"/usr/bin/kubelet\0--config={CONFIG}\0"
    driver, unknowns = running(argv, changed=changed, tmp_path=tmp_path, since=since)
    reason = f"{CONFIG} may have changed after the running kubelet read it"
    assert (driver, unknowns) == (
        Driver(value=None, chain=(SILENT_FILE,)),
        [Unknown(subject="kubelet.driver_running", reason=reason)],
    )


def test_a_flag_of_the_running_kubelet_decides_whatever_became_of_its_file(tmp_path: Path) -> None:
    argv = f"/usr/bin/kubelet\0--config\0{CONFIG}\0--cgroup-driver\0cgroupfs\0"
    driver, _ = running(argv, changed=60, tmp_path=tmp_path)
    told = Source(kind="process", value="cgroupfs", path="/proc/77/cmdline")
    assert driver == Driver(value="cgroupfs", chain=(SILENT_FILE, told))


@pytest.mark.parametrize(
    ("asks", "told", "decides", "driver"),
    [
        (True, "cgroupfs", "runtime", "cgroupfs"),
        (True, None, "kubelet", "systemd"),
        (False, "cgroupfs", "kubelet", "systemd"),
    ],
)
def test_the_runtime_decides_only_if_asked_and_if_it_answers(
    tmp_path: Path, told: str | None, decides: str, driver: str, *, asks: bool
) -> None:
    own = Driver(value="systemd", chain=(DEFAULT, IN_FILE))
    runtime = RuntimeLook(Runtime(kind="containerd", socket="/run/c.sock"), (), told)
    kubelet = settle_driver(
        Look(lay(tmp_path, {})), KubeletLook(Kubelet(present=True, driver=own), asks_runtime=asks), runtime
    )
    assert (decides, driver) == (kubelet.decides, kubelet.driver.value)
    assert (kubelet.driver.decided_by == Source(kind="runtime", value="cgroupfs", path="/run/c.sock")) is (
        decides == "runtime"
    )


def test_who_decides_is_unknown_when_the_runtime_could_not_be_asked(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {}))
    kubelet = settle_driver(
        look, KubeletLook(Kubelet(present=True), asks_runtime=True), RuntimeLook(Runtime(kind="containerd"))
    )
    assert (kubelet.decides, [unknown.subject for unknown in look.unknowns]) == (
        "kubelet",
        ["kubelet.decides"],
    )


def test_a_runtime_that_started_after_the_kubelet_tells_nothing_of_the_running_one(tmp_path: Path) -> None:
    look = Look(lay(tmp_path, {}))
    own = Driver(value="systemd", chain=(DEFAULT, IN_FILE))
    kubelet = Kubelet(present=True, argv=("/usr/bin/kubelet",), driver=own, driver_running=own)
    found = settle_driver(
        look, KubeletLook(kubelet, asks_runtime=True), RuntimeLook(Runtime(kind="containerd"), (), "cgroupfs")
    )
    assert (found.driver.value, found.driver_running.value) == ("cgroupfs", None)
    assert ["kubelet.driver_running"] == [unknown.subject for unknown in look.unknowns]


def test_a_packages_version_stands_for_that_of_a_kubelet_in_an_image(tmp_path: Path) -> None:
    status = "Package: kubectl\nVersion: 1.19.0-00\n\nPackage: kubelet\nStatus: hold ok installed\nDescription: x\n y\nVersion: 1.20.2-00\n\n"
    kubelet = gather_kubelet(Look(lay(tmp_path, KUBEADM | {"/var/lib/dpkg/status": status})), None).kubelet
    assert (kubelet.version, kubelet.runtime_endpoint) == ("1.20.2", DOCKERSHIM)

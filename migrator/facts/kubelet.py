# SPDX-License-Identifier: Apache-2.0
"""The kubelet: its unit, its flags and configuration files, and which of them decides the cgroup driver."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from migrator.cgroups import Driver as CgroupDriver
from migrator.configs import kubelet as kubelet_config
from migrator.configs.flags import KUBELET_DRIVER, Word
from migrator.configs.kubelet import KubeletConfig
from migrator.configs.text import ConfigSyntaxError
from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Driver, Kubelet, Source, Unit
from migrator.facts.units import (
    flag_sources,
    flag_switch,
    flag_value,
    gather_unit,
    process_words,
    read_command,
    started_at,
)
from migrator.systemd import Units

UNIT = "kubelet.service"
DOCKERSHIM = "unix:///var/run/dockershim.sock"
CONTAINERD = "unix:///run/containerd/containerd.sock"
"""What the kubelet talks to without being told: dockershim until 1.23, this since (k8s `options.go` of both)."""

RUNTIME_GATE = "KubeletCgroupDriverFromCRI"
_CLOCK = 1.0  # seconds: /proc/stat tells the boot time in whole ones
_DEFAULT = Source(kind="default", value=CgroupDriver.CGROUPFS.value)


@dataclass(frozen=True, slots=True)
class Layer:
    """One configuration file of the kubelet; `config` is None where it could not be read or parsed."""

    kind: str
    path: str
    config: KubeletConfig | None
    line: int = 0


@dataclass(frozen=True, slots=True)
class KubeletLook:
    """The kubelet as its own files and process tell it; whether the runtime decides is not settled here.

    `asks_runtime`: this version takes the driver from the runtime, where that has an answer (F09).
    """

    kubelet: Kubelet
    asks_runtime: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """A setting is a flag, or else what the configuration files say."""

    words: Sequence[Word]
    config: KubeletConfig

    def text(self, flag: str, configured: str | None) -> str:
        """Return a text, empty where nobody gives one."""
        given = flag_value(self.words, flag)
        return given if given is not None else configured or ""

    def switch(self, flag: str, configured: bool | None) -> bool | None:
        """Return on or off, or None where nobody says."""
        given = flag_switch(self.words, flag)
        return configured if given is None else given

    def gates(self) -> dict[str, bool]:
        """Return the feature gates; those of the flag win one by one."""
        given = (flag_value(self.words, "--feature-gates") or "").split(",")
        pairs = (each.partition("=") for each in given if "=" in each)
        return dict(self.config.feature_gates) | {
            name.strip(): value.lower() == "true" for name, _, value in pairs
        }


def gather_kubelet(look: Look, units: Units | None) -> KubeletLook:
    """Return the kubelet as its unit, files and running process tell it."""
    unit = gather_unit(look, units, UNIT)
    words = read_command(look, unit)
    pid = unit.main_pid or (_find_process(look) if look.reader.live else 0)
    running = process_words(look, pid) if pid else ()
    decisive = words or running
    if not decisive:
        if unit.load_state == "loaded":
            look.unknown("kubelet.driver", f"{UNIT} has no ExecStart= that can be read")
        return KubeletLook(
            Kubelet(present=unit.load_state == "loaded", unit=_or_none(unit)), asks_runtime=False
        )
    layers = read_layers(look, decisive)
    config = merged(layers)
    version = _version(look, decisive)
    settings = Settings(decisive, config)
    config_file = flag_value(decisive, "--config") or ""
    kubelet = Kubelet(
        present=True,
        version=version,
        unit=_or_none(unit),
        argv=tuple(word.text for word in running),
        config_file=config_file,
        config_format=_format(look, config_file),
        config_dir=flag_value(decisive, "--config-dir") or "",
        driver=driver_of(layers, flag_sources(decisive, KUBELET_DRIVER, unit)),
        driver_running=driver_running(look, pid, running) if running else Driver(value=None),
        runtime_endpoint=runtime_endpoint(settings, version),
        cgroup_root=settings.text("--cgroup-root", config.cgroup_root),
        cgroups_per_qos=settings.switch("--cgroups-per-qos", config.cgroups_per_qos) is not False,
        static_pod_path=settings.text("--pod-manifest-path", config.static_pod_path),
        healthz=_healthz(settings),
        reserved_cgroups=_reserved(settings),
        enforce_node_allocatable=_enforced(settings),
        fail_cgroup_v1=settings.switch("--fail-cgroupv1", config.fail_cgroup_v1),
        fail_swap_on=settings.switch("--fail-swap-on", config.fail_swap_on),
        cpu_manager_policy=settings.text("--cpu-manager-policy", config.cpu_manager_policy) or "none",
        kubeconfig=flag_value(decisive, "--kubeconfig") or "",
    )
    return KubeletLook(kubelet, asks_runtime=asks_runtime(version, settings.gates()))


def read_layers(look: Look, words: Sequence[Word]) -> tuple[Layer, ...]:
    """Return the configuration files that these words name, lowest first: `--config`, then `--config-dir`'s drop-ins.

    Only `*.conf` count there, in alphanumeric order (KEP-3983).
    """
    paths = [("config-file", path) for path in (flag_value(words, "--config"),) if path]
    directory = flag_value(words, "--config-dir")
    if directory:
        names = (name for name in look.reader.names(directory) if name.endswith(".conf"))
        paths += [("config-drop-in", f"{directory.rstrip('/')}/{name}") for name in names]
    return tuple(_layer(look, kind, path) for kind, path in paths)


def merged(layers: Iterable[Layer]) -> KubeletConfig:
    """Return the settings of several configuration files, a later one winning key by key, lists as a whole."""
    values: dict[str, object] = {}
    gates: dict[str, bool] = {}
    for layer in layers:
        if layer.config is None:
            continue
        gates |= layer.config.feature_gates
        for each in fields(layer.config):
            value = getattr(layer.config, each.name)
            if value is not None:
                values[each.name] = value
    return KubeletConfig(**{**values, "feature_gates": gates})  # type: ignore[arg-type]


def driver_of(layers: Iterable[Layer], flags: Iterable[Source]) -> Driver:
    """Return the driver that configuration files and flags make, lowest precedence first.

    Below a file that could not be read nothing is certain, so what stands lower is left out of the chain.
    """
    chain = [_DEFAULT]
    for layer in layers:
        if layer.config is None:
            chain.clear()
        value = layer.config.cgroup_driver if layer.config else None
        line = layer.config.cgroup_driver_line if layer.config else layer.line
        chain.append(Source(kind=layer.kind, value=value, path=layer.path, line=line or 0))
    return decided((*chain, *flags))


def decided(chain: Iterable[Source]) -> Driver:
    """Return the driver that a chain of sources makes: the last one with a value decides."""
    undecided = Driver(value=None, chain=tuple(chain))
    source = undecided.decided_by
    return Driver(value=source.value if source else None, chain=undecided.chain)


def asks_runtime(version: str | None, gates: Mapping[str, bool]) -> bool:
    """Tell whether this kubelet takes the driver from the runtime (KEP-4033: alpha 1.28, on by default 1.31, always 1.34)."""
    release = release_of(version)
    if release is None or release < (1, 28):
        return False
    return release >= (1, 34) or gates.get(RUNTIME_GATE, release >= (1, 31))


def release_of(version: str | None) -> tuple[int, int] | None:
    """Return major and minor of a version like `1.20.2`."""
    match = re.match(r"v?(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None


def runtime_endpoint(settings: Settings, version: str | None) -> str:
    """Return the endpoint of the runtime that the kubelet talks to; empty where only its version could tell."""
    endpoint = settings.text("--container-runtime-endpoint", settings.config.container_runtime_endpoint)
    kind = flag_value(settings.words, "--container-runtime")
    release = release_of(version)
    if kind == "docker" or (release is not None and release < (1, 24) and kind != "remote"):
        return DOCKERSHIM
    if endpoint or release is None:
        # --network-plugin was dockershim's and went with it in 1.24.
        return endpoint or (
            DOCKERSHIM if kind is None and flag_value(settings.words, "--network-plugin") else ""
        )
    return CONTAINERD if release >= (1, 24) else ""


def _layer(look: Look, kind: str, path: str) -> Layer:
    data = look.read(path)
    if data is None:
        look.unknown(path, "the kubelet is told to read this file, and it is not there")
        return Layer(kind, path, None)
    try:
        return Layer(kind, path, kubelet_config.read(data))
    except ConfigSyntaxError as error:
        look.unknown(path, error.message, error.line)
        return Layer(kind, path, None, error.line)


def driver_running(look: Look, pid: int, words: Sequence[Word]) -> Driver:
    """Return the driver that the running kubelet was started with; a file that changed since tells nothing of it."""
    started = started_at(look, pid)
    layers = []
    for layer in read_layers(look, words):
        changed = _changed(look, layer.path)
        if started is None or changed is None or changed > started + _CLOCK:
            look.unknown(
                "kubelet.driver_running", f"{layer.path} may have changed after the running kubelet read it"
            )
            layers.append(Layer(layer.kind, layer.path, None))
        else:
            layers.append(layer)
    flags = flag_sources(words, KUBELET_DRIVER, None)
    told = [Source(kind="process", value=each.value, path=each.path) for each in flags]
    return driver_of(layers, told)


def _changed(look: Look, path: str) -> float | None:
    try:
        return look.reader.resolve(path).stat().st_mtime
    except (OSError, HostError):
        return None


def _find_process(look: Look) -> int:
    """Return the id of a process that calls itself kubelet, for one that no unit of this name runs; else 0.

    Not one of a node inside a container, which has process ids of its own.
    """
    ours = _pid_namespace("self")
    named = (pid for pid in look.reader.processes() if look.reader.text(f"/proc/{pid}/comm") == "kubelet\n")
    return min((pid for pid in named if _pid_namespace(str(pid)) == ours), default=0)


def _pid_namespace(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def _version(look: Look, words: Sequence[Word]) -> str | None:
    """Return the version that the kubelet's program prints, or, in an image, that the package has."""
    if look.reader.live:
        program = words[0].text if words else "kubelet"
        try:
            said = look.reader.run([program, "--version"])
        except (HostError, OSError) as error:
            look.unknown("kubelet.version", error)
            return None
        match = re.search(r"v(\d+\.\d+\.\d+\S*)", said.stdout)
    else:
        packages = look.reader.text("/var/lib/dpkg/status") or ""
        match = re.search(
            r"^Package: kubelet\n(?:\S.*\n| .*\n)*?Version: (\d+\.\d+\.\d+)", packages, re.MULTILINE
        )
    if match is None:
        look.unknown("kubelet.version", "nothing tells the kubelet's version")
        return None
    return match[1]


def _format(look: Look, path: str) -> str:
    text = look.reader.text(path) if path.startswith("/") else None
    return "json" if (text or "").removeprefix("\ufeff").lstrip().startswith("{") else "yaml"


def _healthz(settings: Settings) -> str:
    """Return the URL of the kubelet's health check on this machine, empty when port 0 switches it off."""
    given = flag_value(settings.words, "--healthz-port")
    configured = settings.config.healthz_port
    port = given if given is not None else str(10248 if configured is None else configured)
    if port == "0":
        return ""
    address = settings.text("--healthz-bind-address", settings.config.healthz_bind_address) or "127.0.0.1"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 it is compared, not bound
    return f"http://[{address}]:{port}/healthz" if ":" in address else f"http://{address}:{port}/healthz"


def _reserved(settings: Settings) -> tuple[tuple[str, str], ...]:
    config = settings.config
    named = (
        ("kubeReservedCgroup", settings.text("--kube-reserved-cgroup", config.kube_reserved_cgroup)),
        ("systemReservedCgroup", settings.text("--system-reserved-cgroup", config.system_reserved_cgroup)),
        ("kubeletCgroups", settings.text("--kubelet-cgroups", config.kubelet_cgroups)),
        ("runtimeCgroups", settings.text("--runtime-cgroups", None)),
        ("systemCgroups", settings.text("--system-cgroups", config.system_cgroups)),
    )
    return tuple((name, value) for name, value in named if value)


def _enforced(settings: Settings) -> tuple[str, ...]:
    given = flag_value(settings.words, "--enforce-node-allocatable")
    if given is not None:
        return tuple(each for each in given.split(",") if each)
    configured = settings.config.enforce_node_allocatable
    return ("pods",) if configured is None else configured


def _or_none(unit: Unit) -> Unit | None:
    return None if unit.load_state == "not-found" else unit

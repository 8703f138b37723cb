# SPDX-License-Identifier: Apache-2.0
"""The kubelet: its unit, its flags and configuration files, and which of them decides the cgroup driver."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

from migrator.cgroups import Driver as CgroupDriver
from migrator.configs import kubelet as kubelet_config
from migrator.configs.flags import KUBELET_DRIVER, Flag, Word, flag_values
from migrator.configs.kubelet import KubeletConfig
from migrator.configs.secrets import mask_words
from migrator.configs.text import ConfigSyntaxError
from migrator.errors import HostError
from migrator.facts.kubeadm import gather_patches
from migrator.facts.kubelet_state import gather_checkpoints, gather_pod_directories, places_of
from migrator.facts.look import Look
from migrator.facts.model import Driver, Kubelet, Source, Unit
from migrator.facts.packages import package_version
from migrator.facts.units import (
    executable,
    find_process,
    flag_sources,
    flag_switch,
    flag_value,
    gather_unit,
    manager_variables,
    process_words,
    program_name,
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
# pflag's names as the kubelet has them: `--cgroup_driver` is `--cgroup-driver`.
_value = partial(flag_value, underscores=True)
_switch = partial(flag_switch, underscores=True)
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
        given = _value(self.words, flag)
        return given if given is not None else configured or ""

    def switch(self, flag: str, configured: bool | None) -> bool | None:
        """Return on or off, or None where nobody says."""
        given = _switch(self.words, flag)
        return configured if given is None else given

    def gates(self) -> dict[str, bool]:
        """Return the feature gates; those of the flag win one by one."""
        given = (_value(self.words, "--feature-gates") or "").split(",")
        pairs = (each.partition("=") for each in given if "=" in each)
        return dict(self.config.feature_gates) | {
            name.strip(): value.lower() == "true" for name, _, value in pairs
        }


def gather_kubelet(look: Look, units: Units | None) -> KubeletLook:
    """Return the kubelet as its unit, files and running process tell it."""
    unit = gather_unit(look, units, UNIT)
    words = read_command(look, unit)
    why_unknown = undecidable(look, unit, words)
    if why_unknown:
        look.unknown("kubelet.driver", why_unknown)
    pid = kubelet_process(look, unit.main_pid) if look.reader.live else 0
    running = process_words(look, pid) if pid else ()
    decisive = words if is_kubelet(words) else running
    if not decisive:
        return KubeletLook(
            Kubelet(present=unit.load_state == "loaded", unit=_or_none(unit)), asks_runtime=False
        )
    layers = read_layers(look, decisive)
    config = merged(layers)
    version = version_of(look, decisive, unit.main_pid)
    settings = Settings(decisive, config)
    config_file = _value(decisive, "--config") or ""
    asks = asks_runtime(version, settings.gates())
    if why_unknown and asks and running:
        look.unknown(
            "kubelet.driver_running", "the runtime may have told it, which cannot be told of this kubelet"
        )
    kubelet = Kubelet(
        present=True,
        version=version,
        unit=_or_none(unit),
        argv=mask_words(word.text for word in running),
        config_file=config_file,
        config_format=_format(look, config_file),
        config_dir=_value(decisive, "--config-dir") or "",
        driver=Driver(value=None)
        if why_unknown
        else driver_of(layers, flag_sources(decisive, KUBELET_DRIVER, unit)),
        driver_running=driver_running(look, pid, running)
        if running and not (why_unknown and asks)
        else Driver(value=None),
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
        memory_manager_policy=settings.text("--memory-manager-policy", config.memory_manager_policy)
        or "none",
        cpu_quota_period=settings.text("--cpu-cfs-quota-period", config.cpu_cfs_quota_period),
        checkpoints=gather_checkpoints(look, _value(decisive, "--root-dir")),
        places=places_of(look, pid),
        pod_directories=gather_pod_directories(look, _value(decisive, "--root-dir")),
        patches=gather_patches(look),
        kubeconfig=_value(decisive, "--kubeconfig") or "",
    )
    # The runtime's answer must not stand for a configuration that cannot be told.
    return KubeletLook(kubelet, asks_runtime=asks and not why_unknown)


def is_kubelet(words: Sequence[Word]) -> bool:
    """Tell whether an argv starts the kubelet itself, not a shell or a script that may start it."""
    name = program_name(words)
    return name in ("kubelet", "hyperkube") or name.startswith("kubelet-")


def undecidable(look: Look, unit: Unit, words: Sequence[Word]) -> str:
    """Return why nothing on disk tells what the unit's kubelet will use; empty where that can be told."""
    if words and not is_kubelet(words):
        return f"ExecStart starts {words[0]}, which is not the kubelet: what it will use cannot be told"
    if not words:
        return f"{UNIT} has no ExecStart= that can be read" if unit.load_state == "loaded" else ""
    try:
        names = manager_variables(look, unit)
    except (HostError, OSError) as error:
        look.unknown("kubelet.environment", error)
        return ""
    return (
        f"ExecStart uses {', '.join(names)}, which only systemd's own environment sets "
        "(`systemctl show-environment`): put it in a file that the unit reads"
        if names
        else ""
    )


def kubelet_process(look: Look, main_pid: int) -> int:
    """Return the process of the kubelet: the unit's main one, or else one that calls itself so; 0 for none."""
    if main_pid and _runs_kubelet(look, main_pid):
        return main_pid
    pid = find_process(look, "kubelet")
    if pid and _runs_kubelet(look, pid):
        return pid
    if main_pid:
        look.unknown("kubelet.driver_running", f"the main process of {UNIT}, {main_pid}, is not the kubelet")
    return 0


def _runs_kubelet(look: Look, pid: int) -> bool:
    return is_kubelet(process_words(look, pid)) or executable(pid).endswith("/kubelet")


def read_layers(look: Look, words: Sequence[Word]) -> tuple[Layer, ...]:
    """Return the configuration files that these words name, lowest first: `--config`, then `--config-dir`'s drop-ins.

    Only `*.conf` count there, in alphanumeric order (KEP-3983).
    """
    paths = [("config-file", path) for path in (_value(words, "--config"),) if path]
    directory = _value(words, "--config-dir")
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
    match = re.match(r"v?(\d{1,9})\.(\d{1,9})", version or "")
    return (int(match[1]), int(match[2])) if match else None


def runtime_endpoint(settings: Settings, version: str | None) -> str:
    """Return the endpoint of the runtime that the kubelet talks to; empty where only its version could tell."""
    endpoint = settings.text("--container-runtime-endpoint", settings.config.container_runtime_endpoint)
    kind = _value(settings.words, "--container-runtime")
    release = release_of(version)
    if kind == "docker" or (release is not None and release < (1, 24) and kind != "remote"):
        return DOCKERSHIM
    if endpoint or release is None:
        # --network-plugin was dockershim's and went with it in 1.24.
        return endpoint or (DOCKERSHIM if kind is None and _value(settings.words, "--network-plugin") else "")
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
    started = started_at(look.reader, pid)
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
        state = look.reader.resolve(path).stat()
    except (OSError, HostError):
        return None
    # A file that is moved to its place (mv, rsync -a) brings its old mtime with it, but gets a new ctime.
    return max(state.st_mtime, state.st_ctime)


def version_of(look: Look, words: Sequence[Word], main_pid: int) -> str | None:
    """Return the version that the kubelet's program prints, or, in an image, that the package has.

    Only a program called `kubelet` is run: what a script does with `--version` is not known, and may be anything.
    """
    if look.reader.live:
        if program_name(words) == "kubelet":
            program = words[0].text
        elif main_pid and executable(main_pid).endswith("/kubelet"):
            program = f"/proc/{main_pid}/exe"
        else:
            look.unknown("kubelet.version", "no program called kubelet is known to be asked")
            return None
        try:
            said = look.reader.run([program, "--version"])
        except (HostError, OSError) as error:
            look.unknown("kubelet.version", error)
            return None
        match = re.search(r"v(\d+\.\d+\.\d+\S*)", said.stdout)
        found = match[1] if match else None
    else:
        found = package_version(look, "kubelet")
    if found is None:
        look.unknown("kubelet.version", "nothing tells the kubelet's version")
    return found


def _format(look: Look, path: str) -> str:
    text = look.reader.text(path) if path.startswith("/") else None
    return "json" if (text or "").removeprefix("\ufeff").lstrip().startswith("{") else "yaml"


def _healthz(settings: Settings) -> str:
    """Return the URL of the kubelet's health check on this machine, empty when port 0 switches it off."""
    given = _value(settings.words, "--healthz-port")
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
    # pflag's StringSlice: the first one replaces the configured list, each further one adds to it.
    given = flag_values(settings.words, Flag("--enforce-node-allocatable", underscores=True))
    if given:
        return tuple(dict.fromkeys(name for each in given for name in each.value.split(",") if name))
    configured = settings.config.enforce_node_allocatable
    return ("pods",) if configured is None else configured


def _or_none(unit: Unit) -> Unit | None:
    return None if unit.load_state == "not-found" else unit

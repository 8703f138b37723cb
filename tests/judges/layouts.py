# SPDX-License-Identifier: Apache-2.0
"""Configurations of containerd as operators have them: handlers, imports and spellings, put together by a seed."""

import random
from collections.abc import Iterator, Mapping

MAIN = "/etc/containerd/config.toml"
PLUGIN = {
    1: "plugins.cri",
    2: 'plugins."io.containerd.grpc.v1.cri"',
    3: "plugins.'io.containerd.cri.v1.runtime'",
}
RUNC = "io.containerd.runc.v2"
OTHERS = {"kata": "io.containerd.kata.v2", "runsc": "io.containerd.runsc.v1"}
NVIDIA = ("nvidia", "nvidia-cdi", "nvidia-legacy", "nvidia-experimental")

Lines = list[str]


def layout(seed: int) -> Mapping[str, bytes]:
    """Return the files of one node's containerd, by path; the same for the same seed."""
    choose = random.Random(seed)
    version = choose.choices([None, 1, 2, 3], [2, 1, 6, 5])[0]
    imports = choose.random() < 0.5
    files: dict[str, Lines] = {}
    pattern = choose.choice(
        ["/etc/containerd/conf.d/*.toml"] * 3 + ["conf.d/*.toml", "/etc/containerd/conf.d/10-*.toml"]
    )
    head = [f"version = {version}"] if version else []
    if imports:
        head.append(
            f'imports = ["{pattern}"]' if choose.random() < 0.7 else f'imports = [\n  "{pattern}", # ours\n]'
        )
    head += choose.sample(
        [
            'root = "/var/lib/containerd"',
            'state = "/run/containerd"',
            "oom_score = -999",
            "disabled_plugins = []",
        ],
        choose.randrange(4),
    )
    files[MAIN] = [*head, *_sections(choose), *_cri(choose, version or 1, main=True)]
    if imports:
        for number in range(choose.randrange(3)):
            own = choose.choices([version, None, 2], [8, 1, 1])[0]
            body = (
                _cri(choose, own or version or 1, main=False) if choose.random() < 0.75 else _sections(choose)
            )
            files[f"/etc/containerd/conf.d/{number + 1}0-own.toml"] = [
                *([f"version = {own}"] if own else []),
                *(body or _sections(choose)),
            ]
    return {path: _bytes(choose, lines) for path, lines in files.items()}


def _sections(choose: random.Random) -> Lines:
    every = [
        ['[plugins."io.containerd.gc.v1.scheduler"]', "  pause_threshold = 0.05"],
        ["[debug]", '  level = "info"'],
        ["[timeouts]", '  "io.containerd.timeout.task.state" = "5s"'],
        ["[metrics]", '  address = "127.0.0.1:1338" # Prometheus', "  grpc_histogram = false"],
    ]
    return [line for section in choose.sample(every, choose.randrange(3)) for line in section]


def _cri(choose: random.Random, version: int, *, main: bool) -> Lines:
    plugin = PLUGIN[version]
    if choose.random() < 0.04:  # of another version: ignored, or not
        plugin = choose.choice([*PLUGIN.values()])
    lines: Lines = []
    if choose.random() < 0.3:
        lines += [f"[{plugin}]", "  # from the installer", "  enable_selinux = false"]
    if choose.random() < 0.25:
        lines += [f"[{plugin}.cni]", '  bin_dir = "/usr/lib/cni"', "  conf_dir='/etc/cni/net.d'"]
    handlers = dict(_handlers(choose, main=main))
    default = choose.choice([None, None, None, *handlers])
    style = choose.choices(["headers", "nested", "inline", "dotted", "parent"], [6, 4, 1, 1, 2])[0]
    indent = "\t" if choose.random() < 0.2 else "  "
    if default or style in ("dotted", "parent"):
        lines.append(f"[{plugin}.containerd]")
        if default:
            lines.append(f'{indent}default_runtime_name = "{default}"')
        if choose.random() < 0.4:
            lines.append(f'{indent}snapshotter = "overlayfs"  # the default')
    if handlers:
        lines += _STYLES[style](plugin, handlers, indent)
    if choose.random() < 0.2 and version < 3:
        lines += [
            f'[{plugin}.registry.mirrors."registry.example"]',
            '  endpoint = [\n    "https://mirror.example", # near\n    "https://registry.example",\n  ]',
        ]
    return lines


def _handlers(choose: random.Random, *, main: bool) -> Iterator[tuple[str, dict[str, object]]]:
    names = ["runc"] * (choose.random() < (0.75 if main else 0.35))
    if choose.random() < 0.35:
        names += choose.sample(NVIDIA, choose.randrange(1, 4))
    names += choose.sample([*OTHERS, "crun"], choose.choices([0, 1, 2], [6, 2, 1])[0])
    for name in names:
        keys: dict[str, object] = {"runtime_type": OTHERS.get(name, RUNC)}
        options: dict[str, object] = {}
        if name.startswith("nvidia") or name == "crun":
            options["BinaryName"] = f"/usr/bin/{name.replace('nvidia', 'nvidia-container-runtime', 1)}"
        if name not in OTHERS and choose.random() < 0.7:
            options["SystemdCgroup"] = choose.random() < 0.25
        if name == "runc" and choose.random() < 0.2:
            options["NoPivotRoot"] = False
        if choose.random() < 0.3:
            keys["privileged_without_host_devices"] = False
        if options:
            keys["options"] = options
        yield name, keys


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def _with_headers(plugin: str, handlers: Mapping[str, dict[str, object]], indent: str) -> Lines:
    lines: Lines = []
    for name, keys in handlers.items():
        table = f"{plugin}.containerd.runtimes.{name}"
        lines += [
            "",
            f"[{table}]",
            *(f"{indent}{k} = {_value(v)}" for k, v in keys.items() if k != "options"),
        ]
        if isinstance(options := keys.get("options"), dict):
            lines += [
                f"[{table}.options]",
                *(f"{indent}{k} = {_value(v)}  # set" for k, v in options.items()),
            ]
    return lines


def _nested(plugin: str, handlers: Mapping[str, dict[str, object]], indent: str) -> Lines:
    lines: Lines = [f"{indent * 2}[{plugin}.containerd.runtimes]"]
    for line in _with_headers(plugin, handlers, indent):
        depth = 4 if ".options]" in line else 3
        lines.append(line and (indent * depth + line if line.startswith("[") else indent * 4 + line))
    return lines


def _inline(plugin: str, handlers: Mapping[str, dict[str, object]], indent: str) -> Lines:
    return [
        f"[{plugin}.containerd.runtimes]",
        *(f"{indent}{name} = {_value(keys)}" for name, keys in handlers.items()),
    ]


def _dotted(_plugin: str, handlers: Mapping[str, dict[str, object]], indent: str) -> Lines:
    lines: Lines = []
    for name, keys in handlers.items():
        lines += [f"{indent}runtimes.{name}.{k} = {_value(v)}" for k, v in keys.items() if k != "options"]
        if isinstance(options := keys.get("options"), dict):
            lines += [f"{indent}runtimes.{name}.options.{k} = {_value(v)}" for k, v in options.items()]
    return lines


def _options_inline(plugin: str, handlers: Mapping[str, dict[str, object]], indent: str) -> Lines:
    lines: Lines = []
    for name, keys in handlers.items():
        lines += [
            f"[{plugin}.containerd.runtimes.{name}]",
            *(f"{indent}{k}={_value(v)}" for k, v in keys.items()),
        ]
    return lines


_STYLES = {
    "headers": _with_headers,
    "nested": _nested,
    "inline": _inline,
    "dotted": _dotted,
    "parent": _options_inline,
}


def _bytes(choose: random.Random, lines: Lines) -> bytes:
    text = "\n".join(lines) + "\n"
    if choose.random() < 0.3:
        text = "# Managed by hand.\n\n" + text
    if choose.random() < 0.1:
        text = text.rstrip("\n")
    if choose.random() < 0.15:
        text = text.replace("\n", "\r\n")
    if choose.random() < 0.03:
        text = "\ufeff" + text
    return text.encode()

# SPDX-License-Identifier: Apache-2.0
"""What kubeadm lays over the kubelet's configuration of this node alone, whatever the cluster's ConfigMap says.

Sources: kubeadm's reference (`--patches`: `target[suffix][+patchtype].extension`), KEP-4656 (instance-config.yaml).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.configs import kubelet as kubelet_config
from migrator.configs import yamltext
from migrator.configs.text import ConfigSyntaxError, decode, line_at
from migrator.facts.look import Look

PATCHES = "/etc/kubernetes/patches"
"""Where patches are kept by custom; kubeadm is told the directory each time, and remembers none."""
INSTANCE = "/var/lib/kubelet/instance-config.yaml"

DRIVER = kubelet_config.KEY
_NAMES = {
    "cgroupRoot": "cgroup_root",
    "kubeReservedCgroup": "kube_reserved_cgroup",
    "systemReservedCgroup": "system_reserved_cgroup",
    "kubeletCgroups": "kubelet_cgroups",
    "systemCgroups": "system_cgroups",
}
_PATCH = re.compile(r"kubeletconfiguration[^+]*(?:\+(strategic|merge|json))?\.(?:json|yaml)")


def gather_patches(look: Look) -> tuple[tuple[str, str, str], ...]:
    """Return (`file:line`, setting, value) of the driver and the cgroup names that they state, in the order of the files."""
    named = ((each, _PATCH.fullmatch(each)) for each in look.reader.names(PATCHES))
    files = [(f"{PATCHES}/{name}", found[1] or "") for name, found in named if found]
    if look.reader.exists(INSTANCE):
        files.insert(0, (INSTANCE, ""))
    return tuple(each for path, kind in files for each in _stated(look, path, kind))


def _stated(look: Look, path: str, kind: str) -> Iterator[tuple[str, str, str]]:
    own = Look(look.reader)
    data = own.read(path)
    for each in own.unknowns:
        look.unknown("kubeadm.patches", f"{path}: {each.reason}")
    if data is None:
        return
    try:
        if kind == "json":
            yield from _made(look, path, decode(data))
            return
        config = kubelet_config.read(data)
    except ConfigSyntaxError as error:
        look.unknown("kubeadm.patches", f"{path}:{error.line}: {error.message}")
        return
    values = {DRIVER: config.cgroup_driver}
    values |= {setting: getattr(config, name) for setting, name in _NAMES.items()}
    for setting, value in values.items():
        if value:
            yield f"{path}:{config.lines.get(setting, 1)}", setting, value


def _made(look: Look, path: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield what a JSON patch (RFC 6902), a list of operations, makes of the settings; a later one wins."""
    # JSON may be indented by tabs, which is no YAML.
    operations = yamltext.plain_document(text.replace("\t", " ")) or []
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise ConfigSyntaxError("a patch of type `json` is a list of operations", line=1)
    made: dict[str, str] = {}
    for each in operations:
        places = {str(each[key]).removeprefix("/") for key in ("path", "from") if key in each}
        for setting in sorted(places.intersection((DRIVER, *_NAMES, ""))):
            value = each.get("value")
            if each.get("op") in ("add", "replace") and setting and isinstance(value, str):
                made[setting] = value
            else:
                made.pop(setting, None)
                what = f"`{each.get('op')}` of {f'/{setting}' if setting else 'the whole document'}"
                look.unknown("kubeadm.patches", f"{path}: {what}; what it makes is not judged")
    for setting, value in made.items():
        at = [found.start() for found in re.finditer(rf"/{setting}\b", text)]
        if value:
            yield f"{path}:{line_at(text, at[-1]) if at else 1}", setting, value

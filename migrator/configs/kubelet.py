# SPDX-License-Identifier: Apache-2.0
"""The kubelet's configuration file (KubeletConfiguration, YAML or JSON), and its drop-ins, which are the same kind.

Flags beat it (F17), and from 1.31 the runtime's answer may beat both (F09); who decides is for the facts to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ruamel.yaml.events import Event, ScalarEvent

from migrator.cgroups import Driver
from migrator.configs import jsontext, yamltext
from migrator.configs.text import (
    BOM,
    ConfigSyntaxError,
    Edited,
    Splice,
    decode,
    indent_at,
    insert_item,
    line_at,
    line_end,
    line_start,
    new_line_after,
    newline_at,
    splice,
    unsupported,
)

KEY = "cgroupDriver"
KIND = "KubeletConfiguration"


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    """What a KubeletConfiguration says; None where it says nothing and the kubelet's default holds."""

    api_version: str | None = None
    kind: str | None = None
    cgroup_driver: str | None = None
    """As written; the kubelet knows `cgroupfs` (its default) and `systemd`."""
    cgroup_driver_line: int | None = None
    cgroup_root: str | None = None
    cgroups_per_qos: bool | None = None
    kube_reserved_cgroup: str | None = None
    system_reserved_cgroup: str | None = None
    kubelet_cgroups: str | None = None
    system_cgroups: str | None = None
    enforce_node_allocatable: tuple[str, ...] | None = None
    static_pod_path: str | None = None
    healthz_bind_address: str | None = None
    healthz_port: int | None = None
    container_runtime_endpoint: str | None = None
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    fail_cgroup_v1: bool | None = None
    fail_swap_on: bool | None = None
    cpu_manager_policy: str | None = None
    memory_manager_policy: str | None = None
    cpu_cfs_quota_period: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    """1-based line of every top-level key."""


def read(text: bytes) -> KubeletConfig:
    """Return what a KubeletConfiguration says.

    Raises:
        ConfigSyntaxError: not YAML or JSON, several documents, a key that stands twice, or a value of a wrong type.
    """
    decoded = decode(text)
    data, lines, driver_line = _load(decoded)
    values = _Values(data, lines)
    return KubeletConfig(
        api_version=values.string("apiVersion"),
        kind=values.string("kind"),
        cgroup_driver=values.string(KEY) or None,
        cgroup_driver_line=driver_line,
        cgroup_root=values.string("cgroupRoot"),
        cgroups_per_qos=values.boolean("cgroupsPerQOS"),
        kube_reserved_cgroup=values.string("kubeReservedCgroup"),
        system_reserved_cgroup=values.string("systemReservedCgroup"),
        kubelet_cgroups=values.string("kubeletCgroups"),
        system_cgroups=values.string("systemCgroups"),
        enforce_node_allocatable=values.strings("enforceNodeAllocatable"),
        static_pod_path=values.string("staticPodPath"),
        healthz_bind_address=values.string("healthzBindAddress"),
        healthz_port=values.integer("healthzPort"),
        container_runtime_endpoint=values.string("containerRuntimeEndpoint"),
        feature_gates=values.booleans("featureGates"),
        fail_cgroup_v1=values.boolean("failCgroupV1"),
        fail_swap_on=values.boolean("failSwapOn"),
        cpu_manager_policy=values.string("cpuManagerPolicy"),
        memory_manager_policy=values.string("memoryManagerPolicy"),
        cpu_cfs_quota_period=values.string("cpuCFSQuotaPeriod"),
        lines=lines,
    )


def quantities(text: bytes, key: str) -> dict[str, str]:
    """Return a mapping of resources to quantities such as `kubeReserved`; what is no text is left out.

    Raises:
        ConfigSyntaxError: see `read`.
    """
    found = _load(decode(text))[0].get(key)
    return (
        {str(name): said for name, said in found.items() if isinstance(said, str)}
        if isinstance(found, dict)
        else {}
    )


def text_of(text: bytes, key: str) -> str | None:
    """Return the text that a top-level key has; None for none.

    Raises:
        ConfigSyntaxError: see `read`.
    """
    found = _load(decode(text))[0].get(key)
    return found if isinstance(found, str) else None


def set_driver(text: bytes, driver: Driver) -> Edited:
    """Set `cgroupDriver`; see `set_text`."""
    return set_text(text, KEY, driver.value)


def set_text(text: bytes, key: str, value: str) -> Edited:
    """Set a top-level key to a text, in place or as a new last key; quotes and comments of its line stay.

    Raises:
        ConfigSyntaxError: see `read`; also when the file is of another kind, or holds nothing.
        UnsupportedShapeError: the value is an alias, anchored, tagged or a block scalar.
    """
    decoded = decode(text)
    as_json = _json_object(decoded)
    mapping = None if as_json else yamltext.parse_mapping(decoded)
    if as_json is None and mapping is None:
        message = f"the file holds no configuration; a {KIND} needs at least apiVersion and kind"
        raise ConfigSyntaxError(message, line=1)
    config = read(text)
    if config.kind is not None and config.kind != KIND:
        message = f"this is a {config.kind}, not a {KIND}"
        raise ConfigSyntaxError(message, line=config.lines.get("kind", 1))
    if as_json is not None:
        return _set_in_json(as_json, key, value)
    if mapping is None:  # pragma: no cover - excluded above; the type checker cannot see it
        raise ConfigSyntaxError("the file holds no configuration", line=1)
    return _set_in_yaml(mapping, key, value)


def _set_in_json(document: jsontext.JsonObject, key: str, said: str) -> Edited:
    member = document.member(key)
    value = json.dumps(said, ensure_ascii=False)
    if member is None:
        return splice(document.text, [jsontext.append_member(document, key, value, path=key, after=said)])
    before = document.data[key]
    if before == said:
        return splice(document.text, [])
    shown = before if isinstance(before, str) else None
    return splice(document.text, [Splice(member.value_start, member.end, value, key, shown, said)])


def _set_in_yaml(mapping: yamltext.YamlMapping, key: str, said: str) -> Edited:
    entry = mapping.entry(key)
    if entry is None:
        return _first_that_holds(
            mapping, key, said, [_in_flow] if mapping.start.flow_style else [_at_end, _at_start]
        )
    value = entry.value[0]
    at = yamltext.start_of(value)
    if not isinstance(value, ScalarEvent) or value.anchor or value.tag or value.style in {"|", ">"}:
        message = f"{key} is an alias, anchor, tag or block; write it as plain `{key}: {said}`"
        raise unsupported(mapping.text, at, message)
    if value.value == said and not yamltext.is_null(value):
        return splice(mapping.text, [])
    return _first_that_holds(mapping, key, said, [_replaced])


def _replaced(mapping: yamltext.YamlMapping, key: str, said: str) -> Splice:
    entry = mapping.entry(key)
    if entry is None or not isinstance(value := entry.value[0], ScalarEvent):
        raise unsupported(mapping.text, 0, f"{key} has no plain value")
    if value.style is None and not value.value:
        colon = re.compile(r"\s*:").match(mapping.text, yamltext.end_of(entry.key_event))
        if colon is None:
            raise unsupported(mapping.text, yamltext.start_of(entry.key_event), f"{key} has no value")
        return Splice(colon.end(), colon.end(), f" {said}", key, None, said)
    quote = value.style or ""
    start, end = yamltext.start_of(value), yamltext.end_of(value)
    before = None if yamltext.is_null(value) else str(value.value)
    return Splice(start, end, f"{quote}{said}{quote}", key, before, said)


def _at_end(mapping: yamltext.YamlMapping, key: str, said: str) -> Splice:
    """Put the key on a line of its own after the last line that says something."""
    text = mapping.text
    last = mapping.entries[-1]
    end = max(
        [yamltext.end_of(last.key_event)]
        + [yamltext.end_of(event) for event in last.value if not _is_nothing(event)],
    )
    line = _block_line(mapping, key, said)
    # A block scalar ends where the next line begins; everything else ends inside its line.
    after = end if end and text[end - 1] == "\n" else line_end(text, end)
    place, new, edit_at = new_line_after(text, after, line)
    return Splice(place, place, new, key, None, said, edit_at)


def _is_nothing(event: Event) -> bool:
    """Is it an event without characters of its own, which the parser places further down?"""
    return yamltext.start_of(event) == yamltext.end_of(event)


def _at_start(mapping: yamltext.YamlMapping, key: str, said: str) -> Splice:
    """Put the key before the first one: for a last value that would swallow a line after it."""
    text = mapping.text
    place = line_start(text, yamltext.start_of(mapping.entries[0].key_event))
    place += text.startswith(BOM, place)
    new = _block_line(mapping, key, said) + newline_at(text, place)
    return Splice(place, place, new, key, None, said)


def _block_line(mapping: yamltext.YamlMapping, key: str, said: str) -> str:
    first = yamltext.start_of(mapping.entries[0].key_event)
    return f"{indent_at(mapping.text, first)}{key}: {said}"


def _in_flow(mapping: yamltext.YamlMapping, key: str, said: str) -> Splice:
    opening = yamltext.start_of(mapping.start)
    if not mapping.entries:
        return Splice(opening + 1, opening + 1, f"{key}: {said}", key, None, said)
    quote = mapping.entries[-1].key_event.style or ""
    item = f"{quote}{key}{quote}: {quote}{said}{quote}"
    spans = [
        (
            yamltext.start_of(entry.key_event),
            max(
                yamltext.end_of(event) for event in (entry.key_event, *entry.value) if not _is_nothing(event)
            ),
        )
        for entry in mapping.entries
    ]
    place, new, edit_at = insert_item(mapping.text, opening, spans, item)
    return Splice(place, place, new, key, None, said, edit_at)


def _first_that_holds(
    mapping: yamltext.YamlMapping,
    key: str,
    said: str,
    ways: list[Callable[[yamltext.YamlMapping, str, str], Splice]],
) -> Edited:
    """Return the first way of editing after which the document differs in this one key and nothing else."""
    wanted = _meaning_of_others(mapping, key)
    for way in ways:
        edited = splice(mapping.text, [way(mapping, key, said)])
        try:
            after = yamltext.parse_mapping(decode(edited.text))
        except ConfigSyntaxError:
            continue
        value = after.entry(key) if after else None
        if (
            after
            and value
            and _meaning_of_others(after, key) == wanted
            and yamltext.to_plain(after).get(key) == said
        ):
            return edited
    message = f"the document is written in a way that cannot be changed safely; set `{key}: {said}` by hand"
    raise unsupported(mapping.text, yamltext.start_of(mapping.start), message)


def _meaning_of_others(mapping: yamltext.YamlMapping, key: str) -> list[object]:
    """Return what every other entry says, in order."""
    return [
        (entry.key, yamltext.meaning((entry.key_event, *entry.value)))
        for entry in mapping.entries
        if entry.key != key
    ]


def _json_object(text: str) -> jsontext.JsonObject | None:
    """Parse as JSON when it looks like JSON; what is only YAML in braces is not, and is no error here."""
    body = text.removeprefix(BOM).lstrip()
    if not body.startswith("{"):
        return None
    try:
        return jsontext.parse_object(text)
    except ConfigSyntaxError as error:
        try:
            yamltext.parse_mapping(text)
        except ConfigSyntaxError as yaml_error:
            raise (error if body[1:].lstrip().startswith('"') else yaml_error) from None
        return None


def _load(text: str) -> tuple[dict[str, object], dict[str, int], int | None]:
    """Return the data, the line of every top-level key, and the line of the driver's value."""
    as_json = _json_object(text)
    if as_json is not None:
        member = as_json.member(KEY)
        lines = {member.key: line_at(text, member.start) for member in as_json.members}
        return as_json.data, lines, line_at(text, member.value_start) if member else None
    mapping = yamltext.parse_mapping(text)
    if mapping is None:
        return {}, {}, None
    lines = {entry.key: line_at(text, yamltext.start_of(entry.key_event)) for entry in mapping.entries}
    entry = mapping.entry(KEY)
    at = entry.key_event if entry and _is_nothing(entry.value[0]) else entry and entry.value[0]
    return yamltext.to_plain(mapping), lines, line_at(text, yamltext.start_of(at)) if at else None


@dataclass(frozen=True, slots=True)
class _Values:
    """Typed access to the top-level keys; a wrong type is an error of the file, with its line."""

    data: Mapping[str, object]
    lines: Mapping[str, int]

    def string(self, key: str) -> str | None:
        value = self.data.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(key, "a string")

    def boolean(self, key: str) -> bool | None:
        value = self.data.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(key, "true or false")

    def integer(self, key: str) -> int | None:
        value = self.data.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(key, "a whole number")

    def strings(self, key: str) -> tuple[str, ...] | None:
        value = self.data.get(key)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self._wrong(key, "a list of strings")

    def booleans(self, key: str) -> dict[str, bool]:
        value = self.data.get(key)
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(item, bool) for item in value.values()):
            return dict(value)
        raise self._wrong(key, "a mapping of names to true or false")

    def _wrong(self, key: str, wanted: str) -> ConfigSyntaxError:
        return ConfigSyntaxError(f"{key} must be {wanted}", line=self.lines.get(key, 1))

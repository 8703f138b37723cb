# SPDX-License-Identifier: Apache-2.0
"""The Docker engine's `daemon.json`: the driver is an element of the list `exec-opts`.

The same list as a flag of dockerd as well keeps the daemon from starting (F15); flags are in `flags` and `units`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from migrator.cgroups import Driver
from migrator.configs.jsontext import (
    JsonObject,
    Member,
    append_element,
    append_member,
    elements,
    parse_object,
)
from migrator.configs.text import BOM, Edited, Splice, decode, line_at, splice, syntax_error, unsupported

EXEC_OPTION = "native.cgroupdriver"


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What daemon.json says; None where it says nothing and dockerd's default holds."""

    driver: str | None = None
    driver_line: int | None = None
    cgroup_parent: str | None = None
    """Under the systemd driver it must be `*.slice` (F02)."""
    exec_opts: tuple[str, ...] | None = None
    live_restore: bool | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    """The whole document, credentials included: never print it."""
    is_blank: bool = False
    """A file is there and holds nothing; Docker 20.10 does not start on it (F16)."""
    has_byte_order_mark: bool = False
    """Docker 20.10 does not start on it."""


def driver_of_exec_opts(options: Sequence[str]) -> str | None:
    """Return the driver that dockerd takes from exec-opts: the first `native.cgroupdriver`, in any letter case.

    Source: `getCD` in moby `daemon/daemon_unix.go`; an empty value leaves dockerd's default.
    """
    values = (_driver_value(option) for option in options)
    return next((value for value in values if value is not None), None) or None


def read(text: bytes | None) -> DaemonConfig:
    """Return what a daemon.json says; a missing or blank file says nothing.

    Raises:
        ConfigSyntaxError: dockerd would not start on this file, or what it says is ambiguous.
    """
    document = _document(text)
    has_mark = (text or b"").startswith(BOM.encode())
    if document is None:
        return DaemonConfig(is_blank=text is not None, has_byte_order_mark=has_mark)
    options = _exec_opts(document)
    member = document.member("exec-opts")
    driver = driver_of_exec_opts(options) if options is not None else None
    return DaemonConfig(
        driver=driver,
        driver_line=_driver_line(document, member) if member and driver else None,
        cgroup_parent=_string(document, "cgroup-parent"),
        exec_opts=options,
        live_restore=_boolean(document, "live-restore"),
        data=document.data,
        has_byte_order_mark=has_mark,
    )


def set_driver(text: bytes | None, driver: Driver) -> Edited:
    """Set `native.cgroupdriver` in `exec-opts`; whatever else the file holds stays byte for byte (F16).

    Raises:
        ConfigSyntaxError: see `read`.
    """
    read(text)
    option = f"{EXEC_OPTION}={driver}"
    document = _document(text)
    if document is None:
        blank = decode(text or b"")
        kept = BOM if blank.startswith(BOM) else ""
        new = f'{{\n  "exec-opts": ["{option}"]\n}}\n'
        if "\r\n" in blank:
            new = new.replace("\n", "\r\n")
        return splice(kept, [Splice(len(kept), len(kept), new, "exec-opts", None, option, 4)])
    options = _exec_opts(document)
    member = document.member("exec-opts")
    if member is None or options is None:
        value = f"[{json.dumps(option)}]"
        if member is not None:
            change = Splice(member.value_start, member.end, value, "exec-opts", "null", option)
        else:
            change = append_member(document, "exec-opts", value, path="exec-opts", after=option)
        return _checked(document, [change], driver)
    changes = []
    for start, end in elements(document.text, member.value_start)[0]:
        before = json.loads(document.text[start:end])
        present = _driver_value(before)
        if present is not None and present != driver:
            changes.append(_replaced(document.text, (start, end), before, present, driver))
    if all(_driver_value(other) is None for other in options):
        new = json.dumps(option)
        changes = [append_element(document.text, member.value_start, new, path="exec-opts", after=option)]
    return _checked(document, changes, driver)


def _driver_value(option: str) -> str | None:
    key, equals, value = option.partition("=")
    return value.strip() if equals and key.strip().lower() == EXEC_OPTION else None


def _replaced(text: str, span: tuple[int, int], before: str, value: str, driver: Driver) -> Splice:
    """Replace the value alone where the string is written without escapes, else the whole string."""
    start, end = span
    at = before.index("=") + 1
    at += before[at:].index(value)
    after = before[:at] + driver + before[at + len(value) :]
    if "\\" in text[start:end]:
        return Splice(start, end, json.dumps(after), "exec-opts", before, after)
    at += start + 1
    return Splice(at, at + len(value), driver, "exec-opts", before, after)


def _checked(document: JsonObject, changes: list[Splice], driver: Driver) -> Edited:
    edited = splice(document.text, changes)
    after = parse_object(decode(edited.text))
    options = _exec_opts(after) or ()
    others = {key: value for key, value in document.data.items() if key != "exec-opts"}
    others_after = {key: value for key, value in after.data.items() if key != "exec-opts"}
    kept = [option for option in _exec_opts(document) or () if _driver_value(option) is None]
    kept_after = [option for option in options if _driver_value(option) is None]
    if others != others_after or kept != kept_after or driver_of_exec_opts(options) != driver:
        message = "exec-opts is written in a way that cannot be changed safely; set it by hand"
        raise unsupported(document.text, document.opening, message)
    return edited


def _document(text: bytes | None) -> JsonObject | None:
    decoded = decode(text or b"")
    return parse_object(decoded) if decoded.removeprefix(BOM).strip() else None


def _exec_opts(document: JsonObject) -> tuple[str, ...] | None:
    value = document.data.get("exec-opts")
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(option, str) for option in value):
        return tuple(value)
    member = document.member("exec-opts")
    message = f'exec-opts must be a list of strings, such as ["{EXEC_OPTION}=systemd"]'
    raise syntax_error(document.text, member.start if member else 0, message)


def _driver_line(document: JsonObject, member: Member) -> int:
    for start, end in elements(document.text, member.value_start)[0]:
        if _driver_value(json.loads(document.text[start:end])) is not None:
            return line_at(document.text, start)
    return line_at(document.text, member.start)


def _string(document: JsonObject, key: str) -> str | None:
    value = document.data.get(key)
    if value is None or isinstance(value, str):
        return value
    raise _wrong_type(document, key, "a string")


def _boolean(document: JsonObject, key: str) -> bool | None:
    value = document.data.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong_type(document, key, "true or false")


def _wrong_type(document: JsonObject, key: str, wanted: str) -> Exception:
    member = document.member(key)
    return syntax_error(document.text, member.start if member else 0, f"{key} must be {wanted}")

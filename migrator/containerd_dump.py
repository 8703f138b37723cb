# SPDX-License-Identifier: Apache-2.0
"""What the installed containerd makes of a plan's edit, asked before a byte is written: its own `config dump`.

The files as the plan would leave them are shown to it in memory (memfd_create(2)) with their imports by absolute name,
and held against its dump of the files on disk: only `SystemdCgroup` of the runc handlers may differ (F13, F14).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice

from migrator.changes import digest, real_path
from migrator.checks.base import runtime_service
from migrator.configs.containerd import read, unsettable
from migrator.configs.containerd_merge import daemon_version
from migrator.configs.secrets import MASK, is_secret_key, mask_secrets, mask_shapes
from migrator.configs.text import ConfigSyntaxError, decode, encode_any
from migrator.configs.tomltext import Path, dotted, parse
from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Facts, Runtime
from migrator.facts.runtime_config import CONTAINERD_TOML, imported_files
from migrator.facts.units import program_name, read_command
from migrator.findings import Finding, Rule, Severity
from migrator.host import Reader
from migrator.plan import Plan

_SHOWN = 3
"""Keys that a finding names; the rest are counted."""
_LONGEST = 120
"""Characters of a value that a finding shows."""
_IN_MEMORY = re.compile(r"/proc/self/fd/\d+")
_SHOWS_OPTIONS = (1, 5)
"""The first containerd whose dump has the options of a handler."""


RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule(
            "containerd-dump-differs",
            Severity.BLOCKER,
            "F14",
            "The installed containerd's own dump of the edited files differs in more than is meant, or not in that.",
        ),
        Rule(
            "containerd-files-refused",
            Severity.BLOCKER,
            "F14",
            "The installed containerd does not accept its configuration as it is, so that it would not start again.",
        ),
        Rule(
            "containerd-dump-unknown",
            Severity.WARNING,
            "F14",
            "The installed containerd did not say what it makes of the edit.",
        ),
    )
}
"""Every finding that the making of a plan adds to those of the audit, by id."""


class _DumpError(Exception):
    """There is no dump; says why."""


class _RefusedError(_DumpError):
    """containerd ended with an error."""


def judge_plan(reader: Reader, facts: Facts, plan: Plan) -> tuple[Finding, ...]:
    """Return what the installed containerd has against a plan's edit of its files; nothing where there is none to ask.

    A blocker where its dump would differ in another key, or not in the intended one, and where it refuses the files as
    they are. A warning where it gives no dump.
    """
    runtime = facts.runtime
    if not reader.live or runtime.kind != "containerd":
        return ()
    contents = {digest(data): data for data in plan.contents}
    known = {file.path: file for file in facts.files}
    written = {
        step.params.get("real_path", step.params["path"]): contents[step.params["after"]["sha256"]]
        for step in plan.steps
        if step.kind == "write-file"
    }
    edited = {name: written[real] for name in _names(runtime) if (real := real_path(known, name)) in written}
    if not edited:
        return ()
    service = runtime_service(facts)
    unit = next((unit for unit in runtime.units if unit.name == service), None)
    words = read_command(Look(reader), unit) if unit else ()
    # What another program does with these words may be anything.
    if program_name(words) != "containerd":
        return (_unknown(runtime, f"{service} starts no program called containerd that could be asked"),)
    return judge_edit(reader, words[0].text, runtime, edited)


def judge_edit(
    reader: Reader, program: str, runtime: Runtime, edited: Mapping[str, bytes]
) -> tuple[Finding, ...]:
    """Return what a containerd has against new content of some of its files; see `judge_plan`."""
    main = _names(runtime)[0]
    try:
        texts = {path: text for path in _names(runtime) if (text := _text(reader, path)) is not None}
        try:
            before = _before(reader, program, main, there=main in texts)
        except _RefusedError as refused:
            # One that cannot dump at all is no judge of the files.
            _dump_in_memory(reader, program, runtime, {main: b""})
            return (_refused(runtime, str(refused)),)
        texts = {main: b"", **texts}
        try:
            after = _dump_in_memory(reader, program, runtime, {**texts, **edited})
        except _RefusedError as refused:
            _dump_in_memory(reader, program, runtime, texts)
            return (_differs(runtime, f"it does not accept the edited files: {refused}"),)
        wrong = list(_differences(before, after))
        old = (daemon_version(runtime.version) or (0, 0)) < _SHOWS_OPTIONS
        handlers = read(after).handlers.values()
    except _DumpError as error:
        return (_unknown(runtime, str(error)),)
    except ConfigSyntaxError as error:
        return (_unknown(runtime, f"its dump cannot be read: {error}"),)
    ours = [handler for handler in handlers if unsettable(handler) is None]
    unseen = old and not any(handler.has_options for handler in handlers)
    wrong += [
        f"{dotted((*handler.path, 'options', 'SystemdCgroup'))} would not be true"
        for handler in ours
        if handler.systemd_cgroup is not True and not unseen
    ]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return (_differs(runtime, "; ".join(islice(wrong, _SHOWN)) + more),)
    if not ours:
        return (_unknown(runtime, "its dump shows no handler of runc type"),)
    if unseen:
        return (
            _unknown(
                runtime,
                "no other key differs, but this version shows no handler's options, so not SystemdCgroup",
            ),
        )
    return ()


def _names(runtime: Runtime) -> tuple[str, ...]:
    return (runtime.config_file or CONTAINERD_TOML, *runtime.imports)


def _text(reader: Reader, path: str) -> bytes | None:
    try:
        return reader.read(path)
    except FileNotFoundError:
        return None
    except HostError as error:
        raise _DumpError(error.message) from error


def _before(reader: Reader, program: str, main: str, *, there: bool) -> bytes:
    """Return the effective configuration of now.

    Without a file the daemon has defaults of its own, and `config dump` of 1.6 and 1.7 ends; told to read a file that is
    not there, the daemon ends as well.
    """
    if there or main != CONTAINERD_TOML:
        return _ask(reader, [program, "--config", main, "config", "dump"])
    return _ask(reader, [program, "config", "default"])


def _ask(reader: Reader, argv: Sequence[str], keep: Sequence[int] = ()) -> bytes:
    try:
        done = reader.run(argv, keep=keep)
    except HostError as error:
        raise _DumpError(error.message) from error
    if done.code:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.code}"]
        raise _RefusedError(mask_shapes(lines[-1]))
    return done.stdout.encode()


def _dump_in_memory(reader: Reader, program: str, runtime: Runtime, texts: Mapping[str, bytes]) -> bytes:
    """Return the effective configuration as if the files held these texts."""
    # Interpreters that are built for old C libraries do not have it.
    if not hasattr(os, "memfd_create"):
        raise _DumpError("this Python cannot make files in memory, and nothing is written to look")
    with ExitStack() as stack:
        try:
            files = {
                path: stack.enter_context(os.fdopen(os.memfd_create("cgmigrate"), "wb")) for path in texts
            }
            names = {path: f"/proc/self/fd/{file.fileno()}" for path, file in files.items()}
            for path, file in files.items():
                file.write(_with_imports(reader, runtime, path, texts[path], names))
                file.flush()
        except OSError as error:
            raise _DumpError(f"no file in memory can be made: {error.strerror}") from error
        argv = [program, "--config", names[_names(runtime)[0]], "config", "dump"]
        try:
            return _ask(reader, argv, [file.fileno() for file in files.values()])
        except _RefusedError as refused:
            paths = {name: path for path, name in names.items()}
            said = _IN_MEMORY.sub(lambda found: paths.get(found[0], found[0]), str(refused))
            raise _RefusedError(said) from refused


def _with_imports(
    reader: Reader, runtime: Runtime, path: str, text: bytes, names: Mapping[str, str]
) -> bytes:
    """Return a file that imports by absolute name what it imports where it is, the files in memory by theirs.

    What cannot be read is left as it is: containerd has the word.
    """
    try:
        document = parse(decode(text))
        patterns = read(text).imports
    except ConfigSyntaxError:
        return text
    pair = document.pair(("imports",))
    if pair is None:
        return text
    daemon = daemon_version(runtime.version)
    imported = [
        names.get(file, file)
        for pattern in patterns
        for file in imported_files(reader, path, pattern, daemon)
    ]
    head, tail = document.text[: pair.value_start], document.text[pair.value_end :]
    return encode_any(head + json.dumps(imported, ensure_ascii=False) + tail)


def _differences(before: bytes, after: bytes) -> Iterator[str]:
    """Yield each key that differs and is not meant to, as `key: before → after`."""
    meant = {
        (*handler.path, "options", "SystemdCgroup")
        for handler in read(after).handlers.values()
        if unsettable(handler) is None
    }
    old, new = (dict(_leaves(parse(decode(dump)).data)) for dump in (before, after))
    # Names of files, of which some are in memory; what is in them is compared.
    compared = (old.keys() | new.keys()) - meant - {("imports",)}
    different = [path for path in sorted(compared) if not _same(path, old.get(path), new.get(path))]
    # Of a table that is lost or added, what it says before what it leaves to the default.
    for path in sorted(different, key=lambda path: not (old.get(path) or new.get(path))):
        yield f"{dotted(path)}: {_value(path, old.get(path))} → {_value(path, new.get(path))}"


def _leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(below, (*path, name))
    else:
        yield path, value


def _same(path: Path, left: object, right: object) -> bool:
    """Tell whether two values mean the same: of a handler that a file names, defaults are not shown."""
    if path[-2:-1] == ("options",):
        return left == right or not (left or right)
    default = "podsandbox" if path[-1] == "sandbox_mode" else None
    return (left or default) == (right or default) if default else left == right


def _value(path: Path, value: object) -> str:
    if value is None:
        return "nothing"
    if any(is_secret_key(name) for name in path):
        return MASK
    text = mask_secrets(json.dumps(value, default=str))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _differs(runtime: Runtime, what: str) -> Finding:
    return _finding(
        "containerd-dump-differs",
        runtime,
        f"with this edit the installed containerd would do other than is meant: {what}",
        "`containerd config dump` of the files as they are and as the plan would leave them was compared.",
        f"is it another version than the one that runs ({runtime.version or 'unknown'})? Then restart it first; "
        "else set SystemdCgroup by hand, compare `containerd config dump` before and after, plan again",
    )


def _refused(runtime: Runtime, what: str) -> Finding:
    return _finding(
        "containerd-files-refused",
        runtime,
        f"the installed containerd does not accept its files as they are, and would not start again: {what}",
        "The daemon that runs has read them at another time, or is another version. A restart would fail, forward and back.",
        "mend the files until `containerd config dump` shows them, then plan again",
    )


def _unknown(runtime: Runtime, reason: str) -> Finding:
    return _finding(
        "containerd-dump-unknown",
        runtime,
        f"the installed containerd was not heard on the edit: {reason}",
        "The edit follows the rules of containerd's versions; its own `config dump` did not confirm it.",
        "compare `containerd config dump` before and after, or read the diff with care",
    )


def _finding(rule: str, runtime: Runtime, summary: str, detail: str, remediation: str) -> Finding:
    return Finding(
        id=rule,
        severity=RULES[rule].severity,
        subject=_names(runtime)[0],
        summary=summary,
        detail=detail,
        remediation=remediation,
        reference=RULES[rule].reference,
    )

# SPDX-License-Identifier: Apache-2.0
r"""Find the old tree's paths in the text of a host file, and write them anew where that is sure (F65). Pure.

What a path becomes is `translate.py`'s to say; what is decided here is whether a file may be changed so. A script or a
monitoring rule may put its path together from pieces, or match it with a pattern: changing one piece would give a path
that is neither the old nor the new one. Such a reference is reported and left, and so is all else on its line. Lines
that are a comment do nothing, and are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from migrator.cgroups import CgroupNameError, Driver, Runtime, RuntimeUnknownError
from migrator.configs.secrets import MASK, mask_secrets
from migrator.configs.text import Edit, Edited
from migrator.facts.model import Reference
from migrator.translate import Translator

KUBEPODS = b"kubepods"

_COMMENT = re.compile(rb"[ \t]*(?:#|;|//)")
_NEW_SPELLING = re.compile(rb"kubepods[^/]*?\.slice")
"""Also in a pattern that knows both, such as `kubepods(\\.slice)?`."""
_OLD_SPELLING = re.compile(rb"(?<![\w.-])kubepods(?=$|[/\\*+?^$(\[{]|\.(?:$|[*+?]))")
_IN_A_PATH = re.compile(rb"/kubepods|kubepods\\?/")
_OTHER_DIRECTORY = re.compile(rb"[\w.@-]\\?/$")
_OF_CGROUPS = re.compile(rb"cgroup|containers|[$*{%]")
_NAMED = re.compile(rb"""["'`=:]$|(?::|=)[ \t]+$""")
"""What stands before a bare word that is a name, and not part of a sentence or a search."""
_NAME_ENDS = re.compile(rb"""["'`]|[ \t]*\r?(?:\n|\Z)""")

_FILLED_IN = re.compile(rb"\$[{(]?\w|%[sdv(]|\{[A-Za-z_{}]")
_META = re.compile(rb"[*+?\[(^|\\{]|\$$")
_GROUP_ENDS = re.compile(rb"\||\)[*+?{/.\\\[(|$]")
_GOES_ON = re.compile(
    rb"""["'`]?[})]*["'`]?[/$\w]|["'`][})]*[ \t]*(?:\+|\.\.|%|\.[ \t]*[$"'\w]|/)|["'`]["'({]"""
)
_JOIN = re.compile(rb"(?i)(?:join\w*|path)\([^()]*$")
_METHOD = re.compile(rb"""["'`]\)\.\w+\(""")
_NEXT_ARGUMENT = re.compile(rb"""["'`]?[ \t]*,""")
_TEST = re.compile(rb"""(?:-[def]|test|exists\(|is_?dir\()[ \t]*["']?$""")
_CONTEXT = 200
"""Bytes of a line on either side of a path that tell what it is part of."""
_MANY_NAMES = 100
"""Variables of one file whose use is looked for; no file that a person wrote has more."""
_ASSIGNED = re.compile(
    rb"""(?:([A-Za-z_][\w-]*)["']?[ \t]*:?[=:][ \t]*(?:\w[\w.]*\([ \t]*)?[rbf]?["']?(?:\$\{\w+:?[-=])?"""
    rb"""|\$\{([A-Za-z_]\w*):?[-=]|\bfor[ \t]+(\w+)[ \t]+in[ \t][^;\n]*)$"""
)
"""A variable or key that is given the path, a default of one, or a loop over paths."""
_ENTERED = rb"""(?:(?<![\w./-])(?:cd|pushd)[ \t]+(?:-\w+[ \t]+)*|chdir\([ \t]*|WorkingDirectory=|\bcwd[ \t]*[=:][ \t]*)["']?"""
_IS_ENTERED = re.compile(_ENTERED + rb"$")
"""What is entered is the beginning of all that is named afterwards."""
_TEMPLATE = re.compile(rb"(?:%[-\d]*[sv]|(?<![$\w])\{\w*\})/")
_RELATIVE = re.compile(
    rb"""(?<![\w/\\.~-])(?:\*{1,2}/)?(?:(?:burstable|besteffort)(?=$|["'`]?[\s)\]},;:/*|]|["'`])|pod(?:[*%<]|\$\{?\w|\{\w))"""
)
"""The rest of a path of the old tree, which a program puts behind another one."""
_CALLED = re.compile(rb"""(?:^|[;&|({`])[ \t]*([A-Za-z_][\w-]*)(?:[ \t]+|[ \t]*\()[^;&|()\n]*$""")
_ANCHORED = re.compile(rb"^\^|\$$")
_REGEX = re.compile(rb"""(?:[=!]~[ \t]*["'`]?|\^)$""")
_ONLY_THE_TOP = re.compile(rb"kubepods(?:\\?/)?$")
_USED_AS_IT_IS = frozenset(
    b"[ [[ cat cgcreate cgdelete cgexec cgget cgset chmod chown du exists find grep head inotifywait isdir is_dir mkdir rmdir stat "
    b"systemd-cgls tail test tree wc".split()
)
"""Programs and functions that put nothing behind a path that they are given, or only what is there."""
_SEPARATOR = re.compile(rb"[;&|`{]|\$\(")
_ALONE = re.compile(
    rb"""[ \t]*(?:(?:local|readonly|declare|typeset)[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*[rbf]?["']?$"""
)
_ANOTHER_SETTING = re.compile(rb"(?!Exec|Environment)[A-Z]\w*=")
"""Of a unit: systemd takes its value as it is."""


class Reason(StrEnum):
    """Why a reference is left to a person."""

    PATTERN = "pattern"
    BUILT = "built"
    HANDED = "handed"
    WORD = "word"
    UNSURE = "unsure"
    RUNTIME = "runtime"
    BESIDE = "beside"
    TESTED = "tested"


MEANING: dict[Reason, str] = {
    Reason.PATTERN: "a regular expression or glob; what it must match afterwards is not guessed",
    Reason.BUILT: "a program puts the path together from pieces",
    Reason.HANDED: "only the top of the tree, given to other programs, which may put more behind it",
    Reason.WORD: "a bare name, which may be a path or only a word",
    Reason.UNSURE: "not surely a cgroup that the kubelet or the runtime names",
    Reason.RUNTIME: "the scope of this container depends on the runtime, which is not known",
    Reason.TESTED: "the file tells the two drivers apart; its test, rewritten, would hold for the other one",
    Reason.BESIDE: "stands on one line with a reference that is left",
}
"""What an operator is told of each."""


@dataclass(frozen=True, slots=True)
class Found:
    """One reference in a text: where it stands (`line` from 1), the bytes, and what they become; none: left, with why."""

    start: int
    line: int
    old: bytes
    new: bytes
    reason: Reason | None = None


def translator_of(runtime: str, cgroup_root: str) -> Translator | None:
    """Return what translates for this node, or None where its cgroup root is no name that a cgroup can have."""
    kind = Runtime(runtime) if runtime in set(Runtime) else None
    try:
        return Translator(Driver.SYSTEMD, kind, cgroup_root or "/")
    except CgroupNameError:
        return None


def find(data: bytes, translator: Translator, kind: str = "agent") -> list[Found]:
    """Return every reference to the old tree, in the order of the text; `kind` is a `ReferringFile`'s."""
    found: list[Found] = []
    pieces = _Pieces(data, kind)
    line, begin, end = 1, 0, 0
    for start, token in Translator.tokens(data):
        if start >= end:
            line += data.count(b"\n", begin, start)
            begin = max(end, data.rfind(b"\n", end, start) + 1)
            end = data.find(b"\n", start) + 1 or len(data) + 1
        if _COMMENT.match(data, begin):
            continue
        before = data[max(begin, start - _CONTEXT) : start]
        after = data[start + len(token) : min(end - 1, start + len(token) + _CONTEXT)]
        judged = _judged(before, token, after, translator, pieces)
        if judged is not None:
            found.append(Found(start, line, token, *judged))
    knows_both = any(_NEW_SPELLING.search(token) for _, token in Translator.tokens(data))
    found = [
        replace(each, new=b"", reason=Reason.TESTED)
        if each.reason is None
        and (knows_both or _TEST.search(data, max(0, each.start - _CONTEXT), each.start))
        else each
        for each in found
    ]
    left = {each.line for each in found if each.reason is not None}
    return [
        replace(each, new=b"", reason=Reason.BESIDE) if each.line in left and each.reason is None else each
        for each in found
    ]


def rewrite(data: bytes, translator: Translator, kind: str = "agent") -> Edited:
    """Return the text with every sure reference in the new spelling; all other bytes stay."""
    pieces: list[bytes] = []
    edits: list[Edit] = []
    done = 0
    show = _shown(data)
    for each in find(data, translator, kind):
        if each.reason is None:
            pieces += (data[done : each.start], each.new)
            done = each.start + len(each.old)
            old, new = show(each)
            edits.append(Edit("cgroup path", old, new, each.line))
    pieces.append(data[done:])
    return Edited(b"".join(pieces), tuple(edits))


def references(data: bytes, translator: Translator, kind: str = "agent") -> Iterator[Reference]:
    """Yield what `find` finds as facts, with what looks like a credential masked."""
    show = _shown(data)
    for each in find(data, translator, kind):
        old, new = show(each)
        yield Reference(line=each.line, old=old, new=new, reason=str(each.reason or ""))


def _judged(
    before: bytes, token: bytes, after: bytes, translator: Translator, pieces: _Pieces
) -> tuple[bytes, Reason | None] | None:
    """Return what a text becomes, or why it is left; None: no reference to the old tree."""
    try:
        new = translator.translate_token(token)
    except RuntimeUnknownError:
        return b"", Reason.RUNTIME
    if new == token:
        reason = _why_unsure(before, token, after)
        return (b"", reason) if reason else None
    if before.endswith(b"|") or _GROUP_ENDS.match(after) or _REGEX.search(before) or _ANCHORED.search(token):
        return b"", Reason.PATTERN
    if pieces.is_one(before, after):
        return b"", Reason.BUILT
    is_handed = _ONLY_THE_TOP.search(token) is not None and pieces.is_handed_on(before, after)
    return (b"", Reason.HANDED) if is_handed else (new, None)


def _why_unsure(before: bytes, token: bytes, after: bytes) -> Reason | None:
    """Return why a text that `translate.py` leaves is a reference all the same; None: it is none."""
    old = _OLD_SPELLING.search(token)
    if old is None or _NEW_SPELLING.search(token):
        return None
    if not _IN_A_PATH.search(token):
        if old.start() or not (_NAMED.search(before) and (_META.search(token) or _NAME_ENDS.match(after))):
            return None
        return Reason.PATTERN if _META.search(token) else Reason.WORD
    above = token[: old.start()]
    if _OTHER_DIRECTORY.search(above) and not _OF_CGROUPS.search(above):
        return None  # a file or a URL of that name
    if _FILLED_IN.search(token + after[:2]) or _GOES_ON.match(after):
        return Reason.BUILT
    is_pattern = _META.search(token) or before.endswith(b"|") or _GROUP_ENDS.match(after)
    return Reason.PATTERN if is_pattern or token.endswith(b"kubepods/") else Reason.UNSURE


class _Pieces:
    """Tells which paths of a text are only the beginning of one."""

    def __init__(self, data: bytes, kind: str) -> None:
        self._kind = kind
        self._is_table = kind == "cron" and not data.startswith(b"#!")
        self._data = b"".join(line for line in data.splitlines(keepends=True) if not _COMMENT.match(line))
        self._used: dict[bytes, bool] = {}
        self._assembles = _RELATIVE.search(self._data) is not None

    def is_one(self, before: bytes, after: bytes) -> bool:
        """Tell whether more is put behind a path: here, where its variable or its function is used, or somewhere."""
        if self._assembles or _GOES_ON.match(after) or (_JOIN.search(before) and _NEXT_ARGUMENT.match(after)):
            return True
        if (
            _IS_ENTERED.search(before)
            or _METHOD.match(after)
            or _TEMPLATE.search(before)
            or _TEMPLATE.search(after)
        ):
            return True
        assigned, called = _ASSIGNED.search(before), _CALLED.search(before)
        return (assigned is not None and self._goes_on(next(filter(None, assigned.groups())))) or (
            called is not None and self._is_function(called[1])
        )

    def is_handed_on(self, before: bytes, after: bytes) -> bool:
        """Tell whether other files get a path: from the environment, or as an argument."""
        if self._kind == "unit" and _ANOTHER_SETTING.match(before):
            return False
        if self._kind not in {"cron", "script", "unit"}:
            return self._kind == "environment"
        assigned = _ALONE.match(before)
        if assigned is None:
            return not _is_used_as_it_is(before)
        if self._is_table or re.match(rb"""["']?[ \t]+[^\s#]""", after):
            return True  # a variable of every job, or of one command
        return not self._is_used_here(assigned[1])

    def _is_used_here(self, name: bytes) -> bool:
        """Tell whether a variable is used in this file, and only as it is."""
        key = b"$" + name
        if key in self._used or len(self._used) >= _MANY_NAMES:
            return self._used.get(key, False)
        uses = [
            self._data[self._data.rfind(b"\n", 0, found.start()) + 1 : found.start()][-_CONTEXT:]
            for found in re.finditer(rb"(?<![\w.-])%s\b(?![ \t]*=)" % re.escape(name), self._data)
        ]
        self._used[key] = bool(uses) and all(map(_is_used_as_it_is, uses))
        return self._used[key]

    def _goes_on(self, name: bytes) -> bool:
        word = re.escape(name)
        expanded = (
            rb"(?:\$\{?%s\b[^}\s\"'/]{0,99}\}?|\{\{-?[ \t]{0,9}[\w.]{0,99}%s\b[^}\n]{0,99}\}\}|[{%%]\{?%s\}|(?<![\w$.-])%s(?![\w-]))"
            % ((word,) * 4)
        )
        return self._holds(
            name,
            rb"%s[\"'`)]{0,2}[ \t]*(?:/|\+|,|%%|\.\.|\.\w+\()|(?:%s|%s[^\n]{0,199})\$?\{?%s\b"
            % (expanded, _ENTERED, _TEMPLATE.pattern, word),
        )

    def _is_function(self, name: bytes) -> bool:
        word = re.escape(name)
        return self._holds(
            b"(" + name,
            rb"(?m)^[ \t]*(?:(?:function|def|func|sub)[ \t]+%s\b|%s[ \t]*\([ \t]*\))" % (word, word),
        )

    def _holds(self, name: bytes, pattern: bytes) -> bool:
        if name not in self._used:
            if len(self._used) >= _MANY_NAMES:
                return True
            again = self._data.count(name.lstrip(b"(")) > 1
            self._used[name] = again and re.search(pattern, self._data) is not None
        return self._used[name]


def _is_used_as_it_is(before: bytes) -> bool:
    words = _SEPARATOR.split(before.rstrip(b"$\"'({"))[-1].split()
    return any(re.split(rb"[/=.]", word.rstrip(b"(\"'"))[-1] in _USED_AS_IT_IS for word in words)


def _shown(data: bytes) -> Callable[[Found], tuple[str, str]]:
    """Return what tells a reference's old and new text as far as it may be shown; a URL may hold a password."""
    lines: list[str] = []

    def show(each: Found) -> tuple[str, str]:
        if not lines:
            lines.extend(mask_secrets(_text(data)).split("\n"))
        here = lines[each.line - 1]
        for cut in (0, each.old.find(KUBEPODS)):
            old = _text(each.old[cut:])
            if old in here:
                return old, _text(each.new[each.new.find(KUBEPODS) if cut else 0 :])
        return MASK, MASK if each.new else ""

    return show


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")

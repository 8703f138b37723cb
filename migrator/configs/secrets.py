# SPDX-License-Identifier: Apache-2.0
"""Hide what looks like a secret in configuration text of any of the formats that a node uses.

One pass for JSON, TOML, YAML, environment files and units: a diff shows a few lines of a file that may be half written,
so this looks at keys and shapes, not at a parsed document. When in doubt it hides too much. Lines stay lines.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from migrator.configs.text import line_end, line_start

MASK = "…masked…"

_WHOLE_WORDS = frozenset(
    [
        "auths",
        "pass",
        "passwd",
        "pwd",
        "creds",
        "cred",
        "pw",
        "jwt",
        "bearer",
        "cookie",
        "cookies",
        "key",
        "keys",
    ],
)
_INSIDE_WORDS = ("password", "passphrase", "secret", "token", "credential", "identitytoken")
# KubeletConfiguration has harmless sections of these names; a scalar under them is an HTTP header.
_SECTION_OR_HEADER = frozenset({"authorization", "proxyauthorization"})

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_KEY = re.compile(
    r"""(?P<key>"(?:[^"\\\n]|\\.)*"(?=\s*[:=])|'[^'\n]*'(?=\s*[:=])|(?<![\w.])\w[\w.\-]{0,127}+)"""
    r"""(?P<separator>\\*["']?(?:(?<=["'])\s*|[ \t]*)[:=][ \t]*)""",
)
_FLAG = re.compile(
    r"""(?<![\w-])--?(?P<name>[A-Za-z][\w-]*)\\?["']?"""
    r"""(?:[ \t]*\\?\r?\n[ \t]*(?:-[ \t]+)?|[ \t]*,\s*|[ \t]+(?!\\\r?\n))"""
    r"""(?P<quote>\\?["'])?(?=[^\s"'-])""",
)
# In prose a word with `=`, and a value in quotes; "unknown key: exec-opts" has neither.
_ASSIGNED = re.compile(
    r"""(?<![\w.])(?P<name>\w[\w.\-]{0,127}+)"""
    r"""(?:=|\\*["']?[ \t]*[:=][ \t]*(?=\\*["']))(?P<value>\\*"[^"\n]*"?|'[^'\n]*'?|[^\s"'`,;]+)"""
)
_HARMLESS_IN_PROSE = frozenset({"key", "keys", "pass"})
_FLAG_ARGUMENT = r"""(?:\\?["']?(?:[ \t]*\\?\r?\n[ \t]*(?:-[ \t]+)?|[ \t]*,\s*|[ \t]+|=))?"""
_PROGRAMS = {
    "p": r"login|sshpass|mysql\w*|mariadb[\w-]*|mongo\w*|7z\w*|rar|rabbitmqadmin",
    "P": r"zip|unzip|ipmitool|mosquitto_\w+|sqlcmd",
    "a": r"redis-cli",
    "w": r"ldap\w+",
    "kK": r"openssl",
    "uUbE": r"curl",
    "u": r"lftp",
    "U": r"smb\w+|rpcclient",
    "AX": r"snmp\w+",
}
"""Programs by the letters of the flags with which they are given a password (their manual pages)."""
_PROGRAM = re.compile(
    "|".join(rf"(?P<of_{letters}>(?<![\w.-])(?:{names})(?![\w-]))" for letters, names in _PROGRAMS.items())
)
_COMMAND = re.compile(r"(?:\\\r?\n|[^\n])+")
_GIVEN_ON_STDIN = re.compile(r"-stdin\b|\bchpasswd\b")
_SAID = re.compile(r"(?<![\w-])(?:echo|printf)[ \t]+(?P<hide>[^|\n]+)|<<<[ \t]*(?P<string>[^|;\n]+)")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))[#;][^\n]*(?<!\r)", re.MULTILINE)
_TELLING_WORD = re.compile(r"(?i)(?:password|passphrase|passwd|secret|token|credential)s?\b")
_HEADER = re.compile(r"^[ \t]*\[{1,2}(?P<name>[^\n#=]*?)\]{1,2}[ \t]*(?:#[^\n]*)?\r?$", re.MULTILINE)
_HEADER_PART = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^.\s\"']+")
_REMARK = re.compile(r"[\"']?[ \t]+#(?P<remark>[^\n]*)")
_JSON_LITERAL = re.compile(r"[-+.\w]+(?=\s*(?:[,}\]]|$))", re.MULTILINE)
_BRACKETS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^'\n]*'|(?<=[\s,\[{])#[^\n]*|[\[\]{}]", re.DOTALL)
_CLOSING = re.compile(r"[\]}]")
_SHELL_WORD = {
    "": re.compile(r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s"'\\])+""", re.DOTALL),
    '"': re.compile(r"""(?:'[^'"]*'|\\.|[^\s"'\\])+""", re.DOTALL),
    "'": re.compile(r"""(?:"[^'"]*"|\\.|[^\s"'\\])+""", re.DOTALL),
}
_SHAPES = (
    re.compile(r"(?<=-----BEGIN )[^\n]*?-----(?s:.)*?(?=-----END |\Z)"),
    re.compile(r"(?<![\w-])(?i:basic|bearer|negotiate)[ \t]+(?P<hide>[A-Za-z0-9+/=._~\-]{6,})"),
    re.compile(r"\beyJ[\w-]{8,999}\.[\w-]+(?:\.[\w-]*)?"),
    re.compile(r"\bpass:(?P<hide>[^\s\"']+)"),
    re.compile(r"\bLS0tLS1[A-Za-z0-9+/=]+"),
    re.compile(r"\b(?:gh[opsur]_|github_pat_|glpat-|dckr_(?:pat|oat)_|xox[abp]-|AKIA)[\w-]{8,}"),
    re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b"),
    re.compile(
        r"(?<![\w-])(?i:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{0,40}(?:token|key|auth|secret)|private-token)"
        r"[ \t]*:[ \t]*(?P<hide>[^\"'\s][^\"'\n]*)"
    ),
    # What programs are asked by: `?sig=…` of signed addresses, and those of webhooks, which need nothing else.
    re.compile(r"(?<=[?&])(?i:p|pw|sig|signature|x-amz-\w{1,40})=(?P<hide>[^\s&\"'#]+)"),
    re.compile(r"(?:(?<=hooks\.slack\.com/services/)|(?<=/webhook/)|(?<=/webhooks/))[^\s\"'?#]+"),
    re.compile(r"(?i:%3a%2f%2f)(?P<hide>[^\s\"']{1,512}?)(?i:%40)"),
    # `user:password@host` without a scheme; an image's tag before its digest is none
    re.compile(r"(?<![\w/.:@-])[\w.%+-]{1,64}:(?P<hide>[^\s/:@,]{1,256})@(?!sha\d{3}:)(?=[\w\[])"),
)
# A user and a group in numbers are no password.
_ARGUMENT = re.compile(
    r"(?<![\w-])(?:-u|--user|--proxy-user)(?:[ \t]+|=)\\?[\"']?[^\s:\"']{1,64}:(?!\d+(?:[\s\"']|$))"
    r"|\bvault[ \t]+login[ \t]+(?=[^\s-])"
)
_URL = re.compile(
    r":(?:\\*/){2}|(?i:proxy)[\w-]{0,40}\\*[\"']?[ \t]*[:=][ \t]*\\*[\"']?(?=[^\s/:@\"']{1,64}:(?!\\*/))"
)
# Up to where the last `@` ends a password: the quote that closes, a flag or another address that follows.
_URL_REST = {
    "": re.compile(r"(?:\\[^\n]|\S)*+"),
    '"': re.compile(r"""(?:[^"\\\s]|\\[^\n]|[ \t](?!-|\S*:\\*/\\*/))*+"""),
    "'": re.compile(r"""(?:[^'\s]|''|'\\''|[ \t](?!-|\S*:\\*/\\*/))*+"""),
}
_PASSWORD_BEGINS = re.compile(r"[^\s/:@]{1,64}:(?!\d+(?!\w)|\$)")
_REST_WITH_BLANKS = re.compile(r"(?:\S|[ \t](?!-|\S*:\\*/\\*/))*+")
_BASE64 = re.compile(r"(?<![\w+/=.-])[A-Za-z0-9+/]{8,}+={0,2}+(?![\w+/=.-])")
_USER_AND_PASSWORD = re.compile(rb"[\x21-\x39\x3b-\x7e]+:[\x20-\x7e]+")

Span = tuple[int, int]


def mask_secrets(text: str) -> str:
    """Return the text with every value that looks like a secret replaced; as many lines as before.

    Secret are: values (also objects and lists) of keys named like a password, token, key or credential; everything in
    a TOML table of such a name; arguments of such flags; credentials in URLs; PEM blocks; tokens known by their shape.
    """
    spans = _by_shape(text) + _by_flag(text) + _by_command(text) + _by_key(text) + _by_remark(text)
    return _replaced(text, spans)


def mask_shapes(text: str) -> str:
    """Return prose (a daemon's message, a reason) with what has the shape of a credential replaced.

    `mask_secrets` would hide half a sentence such as "unknown key: exec-opts"; here only a credential in a URL, a PEM
    block, a header's value, a flag's argument, `password=…` and a token known by its shape are hidden.
    """
    return _replaced(text, _by_shape(text) + _by_flag(text) + _by_command(text) + _by_assignment(text))


def mask_words(words: Iterable[str]) -> tuple[str, ...]:
    """Return an argv with the arguments of secret flags (`--token=…`, `--token …`) and credentials in URLs replaced."""
    masked = []
    secret = False
    for word in words:
        name, equals, _ = word.partition("=")
        if secret and not word.startswith("-"):
            masked.append(MASK)
            secret = False
            continue
        secret = word.startswith("-") and is_secret_key(name)
        if secret and equals:
            masked.append(f"{name}={MASK}")
            secret = False
        else:
            masked.append(_replaced(word, _by_shape(word) + _of_word(word)))
    return tuple(masked)


def is_secret_key(key: str) -> bool:
    """Is a value under this key to be hidden?"""
    return _is_secret(_words(key))


def _replaced(text: str, spans: list[Span]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in _merged(spans):
        pieces += [text[done:start], _masked(text[start:end])]
        done = end
    return "".join([*pieces, text[done:]])


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]


def _is_secret(words: list[str]) -> bool:
    for word in words:
        if word in _WHOLE_WORDS or word.endswith(("auth", "key", "keys", "pass", "passwd")):
            return True
        if word.startswith("auth") and not word.startswith(("authent", "author")):
            return True
    joined = "".join(words)
    return any(part in joined for part in _INSIDE_WORDS)


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged


def _masked(secret: str) -> str:
    lines = []
    for line in secret.split("\n"):
        body = line.strip()
        indent = line[: len(line) - len(line.lstrip())] if body else line
        lines.append(indent + (MASK if body else "") + ("\r" if body and line.endswith("\r") else ""))
    return "\n".join(lines)


def _by_shape(text: str) -> list[Span]:
    spans = [
        found.span("hide" if "hide" in shape.groupindex else 0)
        for shape in _SHAPES
        for found in shape.finditer(text)
    ]
    return (
        spans
        + _by_url(text)
        + [found.span() for found in _BASE64.finditer(text) if _holds_password(found[0])]
    )


def _by_url(text: str) -> list[Span]:
    """Where the user and the password of an address stand: up to the last `@`, as no quote is certain to be encoded."""
    quotes = _Quotes(text)
    spans = []
    position = 0
    while found := _URL.search(text, position):
        start = found.end()
        quote = quotes.at(start)
        rest = _URL_REST[quote].match(text, start)
        end = rest.end() if rest else start
        if "@" not in text[start:end] and not quote and _PASSWORD_BEGINS.match(text, start):
            rest = _REST_WITH_BLANKS.match(text, start)
            end = rest.end() if rest else end
        at = text.rfind("@", start, end)
        if at > start:
            spans.append((start, at))
        position = max(start, end)
    return spans


def _of_word(word: str) -> list[Span]:
    """Where they stand in one word of an argv, which has blanks and quotes of its own."""
    scheme, at = word.find("://"), word.rfind("@")
    return [(scheme + 3, at)] if 0 <= scheme < at - 3 else []


def _holds_password(word: str) -> bool:
    """Is it the base64 of `user:password`, the form of an `auth` entry?"""
    try:
        decoded = base64.b64decode(word + "=" * (-len(word) % 4), validate=True)
    except binascii.Error:
        return False
    return _USER_AND_PASSWORD.fullmatch(decoded) is not None


def _by_flag(text: str) -> list[Span]:
    quotes = _Quotes(text)
    spans = []
    for found in _FLAG.finditer(text):
        if is_secret_key(found["name"]):
            start = found.end()
            if found["quote"]:
                spans.append((start, _closing_quote(text, start, found["quote"][-1])))
            else:
                spans.append((start, _word_end(text, start, quotes.at(start))))
    return spans


def _by_command(text: str) -> list[Span]:
    """Arguments by which known programs are given a password (`docker login -p …`), whatever else is on their line."""
    quotes = _Quotes(text)
    spans = []
    starts = [found.end() for found in _ARGUMENT.finditer(text)]
    for command in _COMMAND.finditer(text):
        if _GIVEN_ON_STDIN.search(command[0]):
            said = _SAID.finditer(text, command.start(), command.end())
            spans += [found.span(found.lastgroup or 0) for found in said]
        programs = {str(found.lastgroup)[3:] for found in _PROGRAM.finditer(command[0])}
        if programs:
            letters = "".join(sorted(programs))
            flag = re.compile(rf"(?<![\w-])-[A-Za-z#]{{0,20}}?[{letters}]{_FLAG_ARGUMENT}(?=[^\s-])")
            starts += [found.end() for found in flag.finditer(text, command.start(), command.end())]
    return spans + [(start, _word_end(text, start, quotes.at(start))) for start in sorted(starts)]


def _word_end(text: str, start: int, quote: str) -> int:
    """Where a command's word ends; one with a quote that is never closed has no end that is certain."""
    word = _SHELL_WORD[quote].match(text, start)
    end = word.end() if word else start
    after = text[end : end + 1]
    if word and (after == quote or after not in "\"'\\"):
        return end
    return _closing_quote(text, end, quote) if quote else line_end(text, end)


def _by_remark(text: str) -> list[Span]:
    """What a comment says after such a word: `# password of the mirror: …` has no key, and prose has no end."""
    comments = (found.span() for found in _COMMENT.finditer(text))
    return [(word.end(), end) for start, end in comments if (word := _TELLING_WORD.search(text, start, end))]


def _by_assignment(text: str) -> list[Span]:
    return [
        found.span("value")
        for found in _ASSIGNED.finditer(text)
        if is_secret_key(found["name"]) and found["name"].lower() not in _HARMLESS_IN_PROSE
    ]


def _by_key(text: str) -> list[Span]:
    secret_tables = _secret_tables(text)
    brackets = _depths(text)
    closing = _Closing(text)
    quotes = _Quotes(text)
    spans = []
    position = 0
    while found := _KEY.search(text, position):
        position = found.end()
        words = _words(_plain_key(found["key"]))
        section = "".join(words) in _SECTION_OR_HEADER
        if section and (
            text.startswith("{", position) or not text[position : line_end(text, position)].strip()
        ):
            continue
        table = bisect_right(secret_tables, (found.start(), len(text))) - 1
        in_table = table >= 0 and found.start() < secret_tables[table][1]
        if section or in_table or _is_secret(words):
            depth = bisect_left(brackets, (found.start(), 0))
            in_brackets = bool(depth) and brackets[depth - 1][1] > 0
            span = _value(text, found, quotes.at(found.start()), closing, in_brackets=in_brackets)
            spans.append(span)
            if text[position : position + 1] in {'"', "'", "[", "{"}:
                position = max(position, span[1])
            if remark := _REMARK.match(text, span[1]):
                spans.append(remark.span("remark"))
                position = remark.end()
    return spans


def _depths(text: str) -> list[tuple[int, int]]:
    """Return every bracket's offset, and how many are open after it."""
    depths = []
    depth = 0
    for token in _BRACKETS.finditer(text):
        if token[0] in {"[", "{", "]", "}"}:
            depth = max(0, depth + (1 if token[0] in "[{" else -1))
            depths.append((token.start(), depth))
    return depths


def _plain_key(key: str) -> str:
    if not key.startswith('"'):
        return key.strip("'")
    try:
        return str(json.loads(key))
    except ValueError:
        return key


def _secret_tables(text: str) -> list[Span]:
    tables = []
    headers = list(_HEADER.finditer(text))
    for index, header in enumerate(headers):
        if any(is_secret_key(part) for part in _HEADER_PART.findall(header["name"])):
            end = headers[index + 1].start() if index + 1 < len(headers) else len(text)
            tables.append((header.end(), end))
    return tables


def _value(text: str, key: re.Match[str], open_quote: str, closing: _Closing, *, in_brackets: bool) -> Span:
    """Where the value of a secret key stands; it may go on over several lines."""
    start = key.end()
    quoted_key = key["key"].startswith(('"', "'"))
    if quoted_key and text.startswith(("\n", "\r\n"), start):
        start += len(text[start:]) - len(text[start:].lstrip())
    quote = "" if quoted_key else open_quote
    if text[key.start() - 1 : key.start()] == "-" and "=" in key["separator"]:
        word = _SHELL_WORD[quote].match(text, start)
        return (start, word.end()) if word else (start, start)
    if quote:
        return start, _closing_quote(text, start, quote)
    if text.startswith(('"', "'"), start):
        return _quoted(text, start)
    if text.startswith(("[", "{"), start) and (end := closing.bracket(start)):
        return start + 1, end
    if quoted_key and (literal := _JSON_LITERAL.match(text, start)):
        return literal.span()
    return start, _rest(text, key, start, in_brackets=in_brackets)


class _Quotes:
    """Tells which quote is open at an offset, judged from its line; offsets are asked in ascending order."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offset = 0
        self.quote = ""
        self.is_escaped = False

    def at(self, offset: int) -> str:
        """Return the open quote; an apostrophe in prose opens none."""
        before = self.text[self.offset - 1 : self.offset] or " "
        for character in self.text[self.offset : offset]:
            if character == "\n":
                self.quote, self.is_escaped = "", False
            elif self.is_escaped:
                self.is_escaped = False
            elif self.quote:
                if character == self.quote:
                    self.quote = ""
                self.is_escaped = character == "\\" and self.quote == '"'
            elif character in "\"'" and not before.isalnum():
                self.quote = character
            before = character
        self.offset = max(offset, self.offset)
        return self.quote


def _closing_quote(text: str, start: int, quote: str) -> int:
    end = line_end(text, start)
    closing = re.compile(r'(?:[^"\\]|\\.)*?(?=")' if quote == '"' else r"[^']*?(?=')", re.DOTALL)
    found = closing.match(text, start, end)
    return found.end() if found else end


def _quoted(text: str, start: int) -> Span:
    """Where a quoted value stands: TOML's three quotes, YAML's doubled ones, a shell's pieces side by side."""
    for triple in ('"""', "'''"):
        if text.startswith(triple, start):
            end = text.find(triple, start + 3)
            return start + 3, len(text) if end < 0 else end
    pieces = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|\\.|[^\s,\]}"'\\])+""", re.DOTALL).match(text, start)
    if not pieces:
        return start + 1, len(text)
    return start + 1, pieces.end() - (pieces[0][-1] in "\"'")


class _Closing:
    """Finds where brackets close; a text in which many never do is hidden from there on, and not read again and again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tries = 50

    def bracket(self, start: int) -> int:
        """Return where the bracket that opens here closes; 0 when it does not."""
        if not self.tries:
            return len(self.text)
        depth = 0
        for token in _BRACKETS.finditer(self.text, start):
            if token[0] in "[{":
                depth += 1
            elif token[0] in "]}":
                depth -= 1
                if not depth:
                    return token.start()
        self.tries -= 1
        return 0


def _rest(text: str, key: re.Match[str], start: int, *, in_brackets: bool) -> int:
    """Where an unquoted value ends: with the line, its continuation lines, its deeper block or its bracket (YAML)."""
    end = line_end(text, start)
    while text[start:end].rstrip("\r\n").endswith("\\") and end < len(text):
        end = line_end(text, end)
    if ":" not in key["separator"]:
        return end
    column = key.start() - line_start(text, key.start())
    if in_brackets:
        closing = _CLOSING.search(text, start)
        return max(end, closing.start() if closing else len(text))
    is_open = not text[start:end].strip()
    while end < len(text):
        line = text[end : line_end(text, end)]
        indent = len(line) - len(line.lstrip(" \t"))
        same_level_item = is_open and indent == column and line.lstrip().startswith("-")
        if line.strip() and indent <= column and not same_level_item:
            break
        end += len(line)
    return end

# SPDX-License-Identifier: Apache-2.0
"""kubectl, the program: where it is, whether a kubeconfig may be given to it, how it is run, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import stat
import subprocess
from collections.abc import Iterable, Sequence
from typing import IO, Literal, Self

from migrator.errors import HostError
from migrator.host import ENVIRONMENT, Output, Reader

DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin")
"""Where kubectl is looked for, and where it finds the programs that a kubeconfig names."""

_SURROUNDINGS = ENVIRONMENT | {
    "PATH": ":".join(DIRECTORIES),
    # kubectl's own preferences may give every command other options (KEP-3104).
    "KUBERC": "off",
    "KUBECTL_KUBERC": "false",
}
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_GRACE = 3.0  # seconds that a terminated kubectl gets
_MAX_LINE = 65536
_MAX_SAID = 500
_KLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d|Warning: ")
_ERROR = re.compile(r"[Ee]rror\b|Unable to connect|The connection to the server|cannot ")
_OWN_OPTIONS = ("--kubeconfig=", "--request-timeout=", "--output=", "--filename=", "--validate=")

Kind = Literal[
    "unreachable", "unauthorized", "forbidden", "not-found", "kubeconfig", "kubectl", "conflict", "other"
]

_KINDS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("conflict", (r"\(Conflict\)",)),
    ("not-found", (r"\(NotFound\)",)),
    ("forbidden", (r"\(Forbidden\)", r" is forbidden: ", r": Forbidden$")),
    (
        "unauthorized",
        (r"\(Unauthorized\)", r"logged in", r"provide credentials", r"getting credentials", r"Auth Provider"),
    ),
    (
        "kubeconfig",
        (
            r"loading config file",
            r"invalid configuration",
            r"no configuration has been provided",
            r"context .*does not exist",
            r"Error in configuration",
            r"cannot locate context",
            r"current-context",
            r"server localhost:8080",  # what kubectl tries when a kubeconfig names no server
            r"unable to (?:read|load) ",
            r"(?:stat|open) \S+: no such file",
            r"tls: (?:failed to find|private key)",
            r"illegal base64",
            r"x509: ",
        ),
    ),
    (
        "unreachable",
        (
            r"[Uu]nable to connect to the server",
            r"[Cc]onnection (?:to the server|refused|reset)",
            r"[Tt]imed? ?out",
            r"no route to host",
            r"is unreachable",
            r"no such host",
            r"deadline exceeded",
            r"handshake",
            r"\bEOF\b",
            r"http2: ",
            r"\((?:ServiceUnavailable|Timeout|ServerTimeout|TooManyRequests)\)",
            r"etcdserver: ",
        ),
    ),
)
"""How kubectl words each kind of error, the first that fits."""

_HINTS: dict[Kind, str] = {
    "unreachable": "is it up, and is the address right? kubectl --kubeconfig {0} get --raw /readyz",
    "unauthorized": "the credentials in {0} are not accepted: renew them, or give another one: --kubeconfig FILE",
    "forbidden": "give the kubeconfig of somebody who may: --kubeconfig FILE",
    "kubeconfig": "correct {0}, or give another one: --kubeconfig FILE",
    "conflict": "somebody else changed it meanwhile: look again, then repeat",
}


class KubeError(HostError):
    """The API server could not be asked, or said no.

    `kind`: `unreachable`, `unauthorized`, `forbidden`, `not-found`, `kubeconfig`, `kubectl` (there is none), `conflict`,
    or `other`.
    """

    def __init__(self, message: str, *, kind: Kind, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind: Kind = kind


def find_kubectl(reader: Reader) -> str:
    """Return the path of kubectl.

    Raises:
        KubeError: there is none (kind `kubectl`).
    """
    for directory in DIRECTORIES:
        path = f"{directory}/kubectl"
        real = reader.resolve(path)
        if real.is_file() and os.access(real, os.X_OK):
            return path
    raise KubeError(
        f"there is no kubectl in {', '.join(DIRECTORIES)}",
        kind="kubectl",
        hint="install it in one of them, or drain the node elsewhere and say --already-drained",
    )


def check_kubeconfig(reader: Reader, path: str) -> None:
    """Make sure that a kubeconfig is one, and that nobody else can have kubectl run programs by it.

    Raises:
        KubeError: of kind `kubeconfig`: absent, unreadable, no regular file, no kubeconfig, or not in the hands of root and
            the invoking user alone.
    """
    if not path.startswith("/"):
        raise _unusable(f"{path}: not an absolute path", "give the whole path")
    try:
        data = reader.read(path)
        real = reader.resolve(path)
        found, directory = real.stat(), real.parent.stat()
    except FileNotFoundError:
        raise _unusable(f"{path}: there is no such file", "give another one: --kubeconfig FILE") from None
    except (HostError, OSError) as error:
        raise _unusable(str(error), "run as root, or give another one: --kubeconfig FILE") from None
    danger = "who could have kubectl run any program as you"
    if found.st_uid not in {0, os.geteuid(), *_invoking("SUDO_UID")}:
        raise _unusable(f"{path} belongs to uid {found.st_uid}, {danger}", f"chown root: {shlex.quote(path)}")
    if found.st_mode & stat.S_IWOTH or (
        found.st_mode & stat.S_IWGRP and found.st_gid not in {0, *_invoking("SUDO_GID")}
    ):
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise _unusable(
            f"{path} can be written by others (mode {mode}), {danger}", f"chmod 0600 {shlex.quote(path)}"
        )
    if directory.st_mode & stat.S_IWOTH and not directory.st_mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(directory.st_mode):04o}"
        raise _unusable(
            f"{path} can be replaced by others (its directory has mode {mode}), {danger}",
            "move it to a directory of root's",
        )
    _check_content(path, data)


def _check_content(path: str, data: bytes) -> None:
    from migrator.configs import text, yamltext  # noqa: PLC0415 late: only who talks to an API server needs YAML

    try:
        mapping = yamltext.parse_mapping(text.decode(data))
        clusters = yamltext.to_plain(mapping).get("clusters") if mapping else None
    except text.ConfigSyntaxError as error:
        raise _unusable(f"{path}:{error.line}: {error.message}", f"correct {path}") from None
    if not isinstance(clusters, list) or not clusters:
        entry = mapping.entry("clusters") if mapping else None
        line = text.line_at(mapping.text, yamltext.start_of(entry.key_event)) if mapping and entry else 1
        raise _unusable(
            f"{path}:{line}: a kubeconfig with no `clusters`", _HINTS["kubeconfig"].format(shlex.quote(path))
        )


def _unusable(message: str, hint: str) -> KubeError:
    return KubeError(message, kind="kubeconfig", hint=hint)


def _invoking(variable: str) -> set[int]:
    """Return who called sudo, if anyone did."""
    given = os.environ.get(variable, "")
    return {int(given)} if given.isascii() and given.isdigit() else set()


def run(argv: Sequence[str], kubeconfig: str, *, limit: float, document: str | None = None) -> Output:
    """Run kubectl, with `document` on its input, and return what it said.

    Raises:
        KubeError: it ended with an error, or not within `limit` seconds.
    """
    data = None if document is None else document.encode()
    with _start(argv, subprocess.PIPE) as process:
        try:
            out, err = process.communicate(data, timeout=limit)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            raise KubeError(
                f"`{shown(argv)}` with {kubeconfig} gave no answer within {limit:g} s",
                kind="unreachable",
                hint=_HINTS["unreachable"].format(shlex.quote(kubeconfig)),
            ) from None
        except BaseException:
            _signal(process, signal.SIGKILL)
            raise
    done = Output(
        tuple(argv), process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
    )
    if done.code:
        raise refused(done, kubeconfig)
    return done


def refused(done: Output, kubeconfig: str) -> KubeError:
    """Return the error that a failed kubectl told."""
    text = said((done.stderr or done.stdout).splitlines())
    kind = kind_of(text)
    hint = _HINTS.get(kind, "").format(shlex.quote(kubeconfig))
    return KubeError(f"`{shown(done.argv)}` with {kubeconfig}: {text}", kind=kind, hint=hint)


def kind_of(text: str) -> Kind:
    """Return what kind of error kubectl's words tell of."""
    return next((kind for kind, patterns in _KINDS if re.search("|".join(patterns), text)), "other")


def said(lines: Iterable[str]) -> str:
    """Return the end of what kubectl said as one line, without debugging and advice, and with secrets masked."""
    from migrator.configs.secrets import mask_secrets  # noqa: PLC0415 late: most runs of kubectl succeed

    told = [line.strip() for line in lines if line.strip()]
    plain = [line for line in told if not _KLOG.match(line)] or told
    errors = [line for line in plain if _ERROR.match(line)] or plain
    return mask_secrets(" ".join(errors[-3:]))[:_MAX_SAID] or "nothing"


def shown(argv: Sequence[str]) -> str:
    """Return a command as an operator would type it, without the options that are the same in all of them."""
    return shlex.join(("kubectl", *(word for word in argv[1:] if not word.startswith(_OWN_OPTIONS))))


class Lines:
    """A kubectl whose lines (of both streams) are read while it runs; leaving the context ends it."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = _start(argv, subprocess.STDOUT)
        self._selector = selectors.DefaultSelector()
        self._rest = b""
        self._open = True

    def __enter__(self) -> Self:
        self._selector.register(self._stream, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        self._stream.close()
        if self._process.poll() is None:
            _signal(self._process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
        if self._process.poll() is None:
            _signal(self._process, signal.SIGKILL)
            self._process.wait()

    @property
    def code(self) -> int | None:
        """The exit code once it has ended and every line was read, until then None."""
        return None if self._open else self._process.poll()

    def read(self, wait: float) -> list[str]:
        """Return the lines that are there, after at most `wait` seconds."""
        if not self._open:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait)
        elif self._selector.select(wait):
            data = os.read(self._stream.fileno(), _MAX_LINE)
            self._open = bool(data)
            self._rest += data
        elif self._process.poll() is not None:
            self._open = False  # a program that it has started holds the other end
        *lines, self._rest = self._rest.split(b"\n")
        if not self._open or len(self._rest) > _MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace") for line in lines if line]

    @property
    def _stream(self) -> IO[bytes]:
        if (
            self._process.stdout is None
        ):  # pragma: no cover - it was asked for; the type checker cannot see it
            raise KubeError("kubectl has no output", kind="kubectl")
        return self._process.stdout


def _start(argv: Sequence[str], stderr: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stderr == subprocess.PIPE else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_SURROUNDINGS,
            start_new_session=True,  # a Ctrl-C on the terminal is ours to handle, not the child's
            preexec_fn=_die_with_us,  # noqa: PLW1509 - one call into the kernel, and no other thread is about
        )
    except OSError as error:
        raise KubeError(f"{argv[0]} cannot be started: {error.strerror}", kind="kubectl") from error


def _die_with_us() -> None:
    """End kubectl when this process is killed: a drain must not go on while its run is being taken back."""
    import ctypes  # noqa: PLC0415 late: only a child needs it

    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM))


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal kubectl and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

# SPDX-License-Identifier: Apache-2.0
"""A connection to systemd over D-Bus, for callers that know no event loop; the only module that knows the D-Bus library.

Of the library only `Message`, `MessageType`, `AuthError` and `aio.MessageBus` are used, which dbus-fast has in the same
modules. They are imported late: most commands never ask systemd. Every connection has an event loop of its own that ends
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_BUS = "org.freedesktop.DBus"
_BUS_PATH = "/org/freedesktop/DBus"

_CONNECT = 5.0  # seconds

_AWAY = frozenset(
    f"{_BUS}.Error.{name}" for name in ("Disconnected", "NameHasNoOwner", "NoReply", "ServiceUnknown")
)
"""What the bus answers in systemd's place while systemd is not on it again after a restart of the bus."""

T = TypeVar("T")


def object_path(unit: str) -> str:
    """Return the D-Bus path of a unit; systemd loads the unit on demand when this path is asked (sd-bus' label escaping)."""
    label = "".join(
        char if char.isascii() and (char.isalpha() or (char.isdigit() and place)) else _escaped(char)
        for place, char in enumerate(unit)
    )
    return f"/org/freedesktop/systemd1/unit/{label or '_'}"


def _escaped(char: str) -> str:
    return "".join(f"_{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


class LostBusError(Exception):
    """The connection could not be made or ended; `passing` when waiting may help although no bus was met yet."""

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class RefusedError(Exception):
    """Systemd answered with an error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.no_such_unit = name == "org.freedesktop.systemd1.NoSuchUnit"


class Connection:
    """One connection to a bus, with the event loop that serves it; nothing of either survives `close`."""

    def __init__(self, address: str) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        # The calls under way report a lost bus; what the library leaves unawaited then need not be logged as well.
        self._runner.get_loop().set_exception_handler(lambda _loop, _context: None)
        self._bus: Any = None
        self._systemd = ""
        self._listening = False
        self._results: dict[str, str] = {}
        self._news = asyncio.Event()
        try:
            self.run(partial(Connection._open, address=address), _CONNECT)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection and its event loop."""
        self._runner.close()
        if self._bus is not None:
            self._bus.close()

    def run(self, work: Callable[[Connection], Awaitable[T]], timeout: float) -> T:
        """Run one piece of work to its end.

        Raises:
            TimeoutError: it did not end within `timeout` seconds.
            LostBusError: the bus went away, or is not there.
            RefusedError: systemd answered with an error.
        """

        async def bounded() -> T:
            async with asyncio.timeout(timeout):
                return await work(self)

        try:
            return self._runner.run(bounded())
        except TimeoutError:
            raise
        except (OSError, EOFError) as error:
            passing = not isinstance(error, FileNotFoundError | PermissionError)
            raise LostBusError(str(error) or "the connection was closed", passing=passing) from error

    async def manager(self, member: str, signature: str = "", *body: object) -> Any:
        """Call a method of systemd's manager and return its answer as plain values."""
        return await self.call(_MANAGER_PATH, _MANAGER, member, signature, *body)

    async def manager_property(self, name: str) -> Any:
        """Return the value of a property of systemd's manager."""
        return await self.call(_MANAGER_PATH, "org.freedesktop.DBus.Properties", "Get", "ss", _MANAGER, name)

    async def bus(self, member: str) -> Any:
        """Call a method of the bus itself and return its answer as plain values."""
        return await self.call(_BUS_PATH, _BUS, member, "")

    async def call(self, path: str, interface: str, member: str, signature: str, *body: object) -> Any:
        """Call a method of systemd (or of the bus itself, by its interface) and return its answer as plain values."""
        from dbus_next.constants import MessageType  # noqa: PLC0415
        from dbus_next.message import Message  # noqa: PLC0415

        if not self._bus.connected:  # nothing would ever end a call on a finished connection
            raise EOFError
        reply = await self._bus.call(
            Message(
                destination=_BUS if interface == _BUS else _SYSTEMD,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=[*body],
            )
        )
        if reply is None:
            raise EOFError
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else reply.error_name
            if reply.error_name in _AWAY:
                raise LostBusError(text)
            raise RefusedError(reply.error_name, text)
        if interface != _BUS:
            self._systemd = reply.sender
        return [_plain(value) for value in reply.body]

    async def listen(self) -> None:
        """Have the results of all jobs told to this connection; a job queued before this may end unheard."""
        if self._listening:
            return
        rule = f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}',member='JobRemoved'"
        await self.call(_BUS_PATH, _BUS, "AddMatch", "s", rule)
        await self.manager("Subscribe")
        self._listening = True

    async def job_result(self, job: str, patience: float) -> str:
        """Return a job's result, or nothing when none was told within `patience` seconds."""
        await self.listen()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while job not in self._results:
                    self._news.clear()
                    await self._news.wait()
        return self._results.pop(job, "")

    async def _open(self, address: str) -> None:
        from dbus_next.errors import AuthError  # noqa: PLC0415

        try:
            self._bus = await _message_bus(address)
        except (AuthError, ValueError) as error:
            raise LostBusError(str(error), passing=False) from error
        self._bus.add_message_handler(self._hear)

    def _hear(self, message: Any) -> None:
        # The sender is checked because any process on the node may send a signal of this name to this connection.
        if (
            message.member == "JobRemoved"
            and message.interface == _MANAGER
            and message.sender == self._systemd
        ):
            _number, job, _unit, result = message.body
            self._results[job] = result
            self._news.set()


def _plain(value: Any) -> Any:
    """Return a D-Bus value without its variants."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    # Only a variant has a signature: the other values are Python's own str, bytes, int, float and bool.
    return _plain(value.value) if hasattr(value, "signature") else value


async def _message_bus(address: str) -> Any:
    """Connect to a bus, without the traps of dbus-next 0.2.3 (and of dbus-fast before 5)."""
    from dbus_next.aio.message_bus import MessageBus  # noqa: PLC0415

    class Bus(MessageBus):
        def _setup_socket(self) -> None:
            # Ours is non-blocking from the start, so that a bus with a full backlog says EAGAIN and does not hold us for
            # ever, and we can close it, which the library never does.
            [(_transport, options), *_] = self._bus_address
            name = options["path"] if "path" in options else "\0" + options["abstract"]
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._stream = self._sock.makefile("rwb")
            self._fd = self._sock.fileno()
            try:
                self._sock.connect(name)
            except OSError:
                self.close()
                raise

        async def _auth_readline(self) -> str:
            line = b""
            while not line.endswith(b"\r\n"):
                byte = await self._loop.sock_recv(self._sock, 1)
                if not byte:  # the library would go round here for ever
                    raise EOFError
                line += byte
            return line[:-2].decode("ascii", "replace")

        def disconnect(self) -> None:
            self.close()

        def close(self) -> None:
            for each in (self._stream, self._sock):
                with contextlib.suppress(OSError):
                    if each is not None:
                        each.close()

    bus = Bus(bus_address=address)
    try:
        return await bus.connect()
    except BaseException:
        bus.close()
        raise

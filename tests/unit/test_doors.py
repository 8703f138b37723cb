# SPDX-License-Identifier: Apache-2.0
"""The kubelet's health endpoint, when something else listens there: whatever it says, it is no health and holds nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from migrator.doors import answers

HUGE = b"HTTP/1.0 200 OK\r\nX-Long: " + b"x" * 1_000_000


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Have something listen that says `talk` to each who asks; give its URL."""

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                try:
                    client.recv(4096)
                    talk(client)
                except OSError:  # who asked has gone
                    pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/healthz"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(data: bytes) -> Callable[[socket.socket], None]:
    return lambda client: client.sendall(data)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.0 200\r\n\r\n", True),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n[-]syncloop failed", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HELLO I AM NOT HTTP\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", False),
        (b"\x15\x03\x01\x00\x02\x02\x16", False),
        (b"\xff" * 1000, False),
        (b"HTTP/1.1 2000 OK\r\n\r\n", False),
        (b"HTTP/9.9 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"", False),
        (HUGE, False),
    ],
    ids=lambda said: repr(said)[:40],
)
def test_health_is_an_answer_of_200_and_nothing_else(said: bytes, expected: bool) -> None:
    with listening(says(said)) as url:
        assert expected is answers(url)


def test_no_redirect_is_followed() -> None:
    asked: list[str] = []

    def well(client: socket.socket) -> None:
        asked.append("elsewhere")
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\nok")

    with (
        listening(well) as elsewhere,
        listening(says(f"HTTP/1.0 302 Found\r\nLocation: {elsewhere}\r\n\r\n".encode())) as url,
    ):
        assert answers(url) is False
    assert [] == asked


@pytest.mark.parametrize("first", [b"HTTP/1.0 200 OK", b"", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_who_answers_a_byte_at_a_time_holds_nobody(first: bytes) -> None:
    def drip(client: socket.socket) -> None:
        client.sendall(first)
        for _ in range(100):
            time.sleep(0.05)
            client.sendall(b"H")

    with listening(drip) as url:
        start = time.monotonic()
        well = answers(url, timeout=0.3)
        seconds = time.monotonic() - start

    assert first.endswith(b"\n") is well
    assert seconds < 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/healthz", "http://127.0.0.1:x/", "http://[::1/", "http://a..b/"]
)
def test_where_nothing_can_be_asked_there_is_no_health(url: str) -> None:
    assert answers(url) is False

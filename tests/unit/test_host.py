# SPDX-License-Identifier: Apache-2.0
"""The door to the files: nothing leaves the root, nothing is half written, nothing is lost."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from migrator.errors import HostError
from migrator.host import Host, Reader


def test_links_of_an_image_lead_inside_it(tmp_path: Path) -> None:
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/daemon.json").write_text("{}")
    (tmp_path / "etc/docker/daemon.json").symlink_to("/srv/daemon.json")
    (tmp_path / "etc/up").symlink_to("../../../../srv")

    assert b"{}" == Reader(tmp_path).read("/etc/docker/daemon.json")
    assert b"{}" == Reader(tmp_path).read("/etc/up/daemon.json")
    assert "/srv/daemon.json" == Reader(tmp_path).state("/etc/docker/daemon.json").path


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list as its extended attribute: (tag, permissions, id) each, see acl(5)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
FOR_USER = acl((1, 6, NOBODY), (2, 6, 1234), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY))


@pytest.mark.parametrize(
    "own", [None, acl((1, 6, NOBODY), (2, 4, 99), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))]
)
def test_a_file_that_is_written_does_not_inherit_who_else_may_write_it(
    tmp_path: Path, own: bytes | None
) -> None:
    target = tmp_path / "config"
    target.write_bytes(b"old")
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", FOR_USER)
    except OSError:
        pytest.skip("a file system without access control lists")
    if own:
        os.setxattr(target, "system.posix_acl_access", own)
    host = Host(tmp_path)
    before = host.state("/config")

    host.write("/config", b"new", like=before)
    host.write("/config", b"old", like=before)

    assert before == host.state("/config")
    assert bool(own) == ("system.posix_acl_access" in os.listxattr(target))


def test_a_loop_of_links_is_an_error_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("/a")

    assert not Reader(tmp_path).exists("/a")
    with pytest.raises(HostError, match="too many levels"):
        Reader(tmp_path).read("/a")


@pytest.mark.parametrize(
    ("path", "message"), [("/fifo", "not a regular file"), ("/big", "larger than 8 bytes")]
)
def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "fifo").mkdir()
    (tmp_path / "big").write_bytes(b"123456789")

    with pytest.raises(HostError, match=message) as caught:
        Reader(tmp_path).read(path, limit=8)
    assert path in caught.value.message


def test_a_fifo_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")

    with pytest.raises(HostError, match="not a regular file"):
        Reader(tmp_path).read("/config.yaml")


def test_writing_keeps_mode_owner_and_label(tmp_path: Path) -> None:
    target = tmp_path / "config"
    target.write_bytes(b"old")
    target.chmod(0o640)
    os.chown(target, 12, 34)
    os.setxattr(target, "user.label", b"\x00\xff")
    host = Host(tmp_path)
    before = host.state("/config")

    host.write("/config", b"new", like=before)
    after = host.state("/config")

    assert b"new" == target.read_bytes()
    assert (before.mode, before.uid, before.gid, before.xattrs) == (
        after.mode,
        after.uid,
        after.gid,
        after.xattrs,
    )
    assert ["config"] == [path.name for path in tmp_path.iterdir()]


def test_writing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")

    Host(tmp_path).write("/link", b"new")

    assert (tmp_path / "link").is_symlink()
    assert b"new" == (tmp_path / "real").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_bytes(b"x")

    with pytest.raises(HostError, match="cannot write /dir"):
        Host(tmp_path).write("/dir", b"new")

    assert ["dir", "dir/file"] == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


def test_an_image_cannot_be_asked_for_a_program(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is an image"):
        Reader(tmp_path).run(["docker", "info"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["no-such-program-here"], "no such program"), (["sleep", "5"], "no answer within 0.2 s")],
)
def test_a_program_that_is_missing_or_hangs_is_an_error(argv: list[str], message: str) -> None:
    with pytest.raises(HostError, match=message):
        Reader().run(argv, timeout=0.2)


@pytest.mark.parametrize(
    ("mode", "content", "message"),
    [
        (0o644, b"#!/bin/sh\n", "Permission denied"),
        (0o755, b"\x7fELFxxxx", "Exec format error"),
        (0o755, b"#!/no/such/shell\n", "no such program"),
    ],
)
def test_a_program_that_cannot_be_run_is_an_error(
    tmp_path: Path, mode: int, content: bytes, message: str
) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(mode)

    with pytest.raises(HostError, match=f"{program}: {message}"):
        Reader().run([str(program)])
    with pytest.raises(HostError, match="null byte"):
        Reader().run(["echo", "\0"])


def test_a_program_is_in_the_root_directory_and_has_the_descriptors_that_it_is_given_and_no_others() -> None:
    given, other = os.memfd_create("given"), os.memfd_create("other")
    os.write(given, b"shown")
    script = f"pwd; cat /proc/self/fd/{given}; ls /proc/self/fd/{other}"

    said = Reader().run(["sh", "-c", script], keep=[given])
    os.close(given)
    os.close(other)

    assert said.stdout == "/\nshown"
    assert said.code != 0


def test_only_empty_directories_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    host = Host(tmp_path)

    assert not host.remove_directory("/a")
    assert host.remove_directory("/a/b")
    assert host.remove_directory("/a/b")
    assert host.remove_directory("/a")


def test_the_kernels_own_files_are_read() -> None:
    """A sysctl file answers ENOMEM to a request for megabytes at once."""
    assert 37 == len(Reader().read("/proc/sys/kernel/random/boot_id"))


def test_a_file_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 200_000)

    assert 200_000 == len(Reader(tmp_path).read("/big", limit=200_000))


@pytest.mark.parametrize("then", ["write", "remove", "tidy"])
def test_what_a_killed_write_left_is_gone_after_the_next_touch(tmp_path: Path, then: str) -> None:
    """Killed between the temporary file and its rename, the next run must find and remove it."""
    host = Host(tmp_path)
    (tmp_path / ".config.cgmigrate-new").write_bytes(b"half of it")

    if then == "write":
        host.write("/config", b"new")
    elif then == "remove":
        host.remove("/config")
    else:
        host.tidy("/config")

    assert ["config"][: then == "write"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("path", ["/etc/\0x", "/etc/\ud800"])
def test_a_name_that_no_file_can_have_is_an_error_and_no_traceback(tmp_path: Path, path: str) -> None:
    host = Host(tmp_path)

    assert not host.exists(path)
    assert [] == host.names(path)
    assert host.text(path) is None
    with pytest.raises(HostError, match="no file can have this name"):
        host.read(path)

# SPDX-License-Identifier: Apache-2.0
"""What the lab's builds promise, without booting anything."""

import hashlib
import json
import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest

from .cache import Artefact, LabError, build, closure, copy_tree, drop_stale
from .packages import apt_entries, in_suite
from .recipes import write_image

STANZAS = """\
# the archive
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://other.example/
Suites: nodistro
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


@pytest.mark.parametrize(
    ("style", "text", "expected"),
    [
        ("sources", STANZAS, STANZAS.split("\n\n", maxsplit=1)[0].replace("Types: deb", "Types: deb-src") + "\n"),
        (
            "list",
            ("# x\ndeb [trusted=yes] http://m/debian bookworm main\ndeb-src http://m/debian bookworm-security main\n"
            "deb http://m/debian trixie main\n"),
            "deb-src [trusted=yes] http://m/debian bookworm main\ndeb-src http://m/debian bookworm-security main\n",
        ),
        ("list", "deb http://m/debian bookworm main\ndeb-src http://m/debian bookworm main\n",
         "deb-src http://m/debian bookworm main\n"),
        ("list", "", ""),
        ("sources", "", ""),
        ("list", "deb https://m/apt tool-bookworm main\n", ""),
    ],
)  # fmt: skip
def test_the_machines_own_apt_sources_become_source_entries(style: str, text: str, expected: str) -> None:
    assert apt_entries(text, style, "deb-src", "bookworm") == expected


@pytest.mark.parametrize(
    ("style", "text", "expected"),
    [
        (
            "sources",
            "Types: deb\nURIs: http://m/\nSuites: bookworm bookworm-updates\nComponents: main\n\nSuites: bookworm-security\n",
            "Types: deb\nURIs: http://m/\nSuites: sid\nComponents: main\n",
        ),
        (
            "list",
            "deb [arch=amd64] http://m/ bookworm main\ndeb http://s/ bookworm-security main\n",
            "deb [arch=amd64] http://m/ sid main\n",
        ),
    ],
)
def test_another_suite_comes_from_the_same_archive(style: str, text: str, expected: str) -> None:
    assert in_suite(text, style, "sid") == expected


def test_an_image_is_a_docker_archive_whose_digests_hold(tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"\x7fELF")
    write_image(
        tmp_path / "out.tar", "example/pause:3.2", ["/pause"], {"pause": tmp_path / "pause", "p": "pause"}
    )
    with tarfile.open(tmp_path / "out.tar") as archive:
        parts = {member.name: archive.extractfile(member) for member in archive}
        data = {name: file.read() for name, file in parts.items() if file}
    (manifest,) = json.loads(data["manifest.json"])
    assert manifest["RepoTags"] == ["example/pause:3.2"]
    assert manifest["Config"] == hashlib.sha256(data[manifest["Config"]]).hexdigest() + ".json"
    config = json.loads(data[manifest["Config"]])
    (layer,) = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(data[layer]).hexdigest()]
    assert config["config"]["Entrypoint"] == ["/pause"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CGMIGRATE_LAB_CACHE", str(tmp_path))
    return tmp_path


def nothing() -> None:
    pass


def write_one(out: Path) -> None:
    (out / "file").write_text("1")


def fail(_out: Path) -> None:
    raise LabError("it does not compile")


def test_an_artefact_is_made_once_and_anew_when_what_it_is_made_from_changes(cache: Path) -> None:
    made: list[Path] = []

    def make(out: Path) -> None:
        made.append(out)

    base = Artefact("base", make, made_from=("1",))
    for _ in range(2):
        build([base], nothing)
    assert len(made) == 1
    changed = Artefact("base", make, made_from=("2",))
    above = [Artefact("above", make, inputs=(artefact,)) for artefact in (base, changed)]
    assert len({artefact.path for artefact in (base, changed, *above)}) == 4
    build(above, nothing)
    assert len(made) == 4
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == sorted(
        artefact.path.name for artefact in (base, changed, *above)
    )
    assert sorted(drop_stale([above[1]])) == sorted([base.path, above[0].path])


def test_inputs_come_first_and_each_once() -> None:
    base = Artefact("base", write_one)
    left, right = (Artefact(name, write_one, inputs=(base,)) for name in ("left", "right"))
    top = Artefact("top", write_one, inputs=(left, right))
    assert [artefact.name for artefact in closure([top, right])] == ["base", "left", "right", "top"]


def test_a_failed_build_leaves_nothing_half_made(cache: Path) -> None:
    broken = Artefact("broken", fail)
    above = Artefact("above", write_one, inputs=(broken,))
    with pytest.raises(LabError, match="it does not compile"):
        build([above], nothing)
    assert [path.name for path in cache.iterdir()] == ["build.lock"]


def test_two_builders_at_once_make_an_artefact_once(cache: Path) -> None:
    made: list[int] = []
    first_is_in = threading.Event()

    def make(out: Path) -> None:
        first_is_in.wait(5)
        made.append(os.getpid())
        write_one(out)

    artefact = Artefact("slow", make)
    builders = [threading.Thread(target=build, args=([artefact], nothing)) for _ in range(2)]
    for builder in builders:
        builder.start()
    first_is_in.set()
    for builder in builders:
        builder.join()
    assert made == [os.getpid()]
    assert (artefact.path / "file").read_text() == "1"
    assert cache in artefact.path.parents


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts are devices, and their attributes are trusted ones")
def test_a_copy_keeps_what_makes_an_overlays_upper_layer(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "opaque").mkdir(parents=True)
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(upper / "removed", stat.S_IFCHR, os.makedev(0, 0))
    os.chown(upper / "opaque", 7, 8)
    copy_tree(upper, tmp_path / "copy")
    status = os.lstat(tmp_path / "copy/removed")
    assert (True, os.makedev(0, 0)) == (stat.S_ISCHR(status.st_mode), status.st_rdev)
    assert os.getxattr(tmp_path / "copy/opaque", "trusted.overlay.opaque") == b"y"
    status = os.lstat(tmp_path / "copy/opaque")
    assert (7, 8) == (status.st_uid, status.st_gid)

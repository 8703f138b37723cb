# SPDX-License-Identifier: Apache-2.0
"""Which files a plan changes, and which lines in them: containerd's imports, where the file that decides is not the main one."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.changes import file_changes
from migrator.errors import BlockedError
from migrator.facts.gather import gather
from tests.unit.nodes import Link, lay

MAIN, A, B = "/etc/containerd/config.toml", "/etc/containerd/conf.d/a.toml", "/etc/containerd/conf.d/b.toml"
V2, V3 = 'plugins."io.containerd.grpc.v1.cri"', "plugins.'io.containerd.cri.v1.runtime'"
KUBELET = {
    "/etc/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet --config=/k.yaml "
    "--container-runtime-endpoint=unix:///run/containerd/containerd.sock\n",
    "/etc/systemd/system/containerd.service": "[Service]\nExecStart=/usr/bin/containerd\n",
    "/k.yaml": "kind: KubeletConfiguration\ncgroupDriver: systemd\n",
}
IMPORTS = 'imports = ["conf.d/*.toml"]\n'


def status(version: str) -> dict[str, str]:
    return {
        "/var/lib/dpkg/status": f"Package: containerd.io\nStatus: install ok installed\nVersion: {version}-1\n"
    }


def handler(
    table: str, name: str = "runc", driver: str | None = "false", kind: str = "io.containerd.runc.v2"
) -> str:
    said = f"SystemdCgroup = {driver}\n" if driver else ""
    return (
        f'[{table}.containerd.runtimes.{name}]\nruntime_type = "{kind}"\n'
        f"[{table}.containerd.runtimes.{name}.options]\n{said}"
    )


CASES = [
    (
        "only the main file",
        "1.7.13",
        {MAIN: "version = 2\n" + handler(V2)},
        {MAIN: ("SystemdCgroup = true",)},
    ),
    (
        "an import of 1.7 with a table of CRI replaces that of the main file",
        "1.7.13",
        {MAIN: "version = 2\n" + IMPORTS + handler(V2), A: f"version = 2\n[{V2}]\nsandbox_image = 'x'\n"},
        {MAIN: ("SystemdCgroup = true",), A: ("runtime_type", "SystemdCgroup = true")},
    ),
    (
        "an import of 1.7 without one leaves it",
        "1.7.13",
        {MAIN: "version = 2\n" + IMPORTS + handler(V2), A: "version = 2\n[debug]\nlevel = 'info'\n"},
        {MAIN: ("SystemdCgroup = true",)},
    ),
    (
        "a later import of 2.x wins, and only what says the old driver changes",
        "2.1.4",
        {MAIN: "version = 3\n" + IMPORTS + handler(V3, driver="true"), A: "version = 3\n" + handler(V3)},
        {A: ("SystemdCgroup = true",)},
    ),
    (
        "below the file that decides, the old driver goes too",
        "2.1.4",
        {
            MAIN: "version = 3\n" + IMPORTS + handler(V3),
            A: "version = 3\n" + handler(V3),
            B: "version = 3\n" + handler(V3, driver="true"),
        },
        {MAIN: ("SystemdCgroup = true",), A: ("SystemdCgroup = true",)},
    ),
    (
        "a handler is set in the file that has it",
        "2.1.4",
        {MAIN: "version = 3\n" + IMPORTS + handler(V3), A: "version = 3\n" + handler(V3, "nvidia", None)},
        {MAIN: ("SystemdCgroup = true",), A: ("SystemdCgroup = true",)},
    ),
    (
        "a handler that is no runc is left alone",
        "2.1.4",
        {
            MAIN: "version = 3\n" + IMPORTS + handler(V3),
            A: "version = 3\n" + handler(V3, "kata", None, "io.containerd.kata.v2"),
        },
        {MAIN: ("SystemdCgroup = true",)},
    ),
    (
        "a file and a link to it are one file",
        "1.7.13",
        {
            MAIN: "version = 2\n" + IMPORTS + handler(V2),
            A: "version = 2\n" + handler(V2),
            B: Link("a.toml"),
        },
        {MAIN: ("SystemdCgroup = true",), A: ("SystemdCgroup = true",)},
    ),
    ("no file at all", "1.7.13", {}, {MAIN: ("version = 2", "runtime_type", "SystemdCgroup = true")}),
]


@pytest.mark.parametrize(
    ("version", "files", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_handler_of_containerd_is_set_where_it_decides(
    tmp_path: Path, version: str, files: dict[str, str | Link], expected: dict[str, tuple[str, ...]]
) -> None:
    reader = lay(tmp_path, {**KUBELET, **status(version), **files})

    def read(path: str) -> bytes | None:
        return reader.read(path) if reader.exists(path) else None

    changes = file_changes(gather(reader), read)

    added = {
        change.path: tuple(
            line.partition(" = ")[0].strip() if "runtime_type" in line else line.strip()
            for line in change.after.decode().splitlines()
            if "=" in line and line not in (change.before or b"").decode().splitlines()
        )
        for change in changes
    }
    assert expected == added


def test_the_reason_of_a_change_names_all_that_lead_to_the_file(tmp_path: Path) -> None:
    text = "version = 2\n" + handler(V2)
    files = {**KUBELET, **status("1.7.13"), MAIN: IMPORTS + text, "/srv/a": text}
    reader = lay(tmp_path, {**files, A: Link("/srv/a"), B: Link("a.toml")})

    changes = file_changes(gather(reader), reader.read)

    assert ["", f"; other names of this file: {B}"] == [each.why.partition("type")[2] for each in changes]
    assert [None, "/srv/a"] == [each.params().get("real_path") for each in changes]


def test_a_refusal_tells_its_place_once(tmp_path: Path) -> None:
    text = "version = 2\n" + handler(V2, driver=None) + "systemdCgroup = false\n"
    reader = lay(tmp_path, {**KUBELET, **status("1.7.13"), MAIN: text})

    with pytest.raises(BlockedError) as refusal:
        file_changes(gather(reader), reader.read)
    assert refusal.value.message.startswith(f"{MAIN}:5: systemdCgroup is not the key")

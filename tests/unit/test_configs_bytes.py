# SPDX-License-Identifier: Apache-2.0
"""What every editor promises of every byte: once is enough, and what it does not mean to change stays, however it is written.

Documents of each format, dressed in every way that a text can be: CRLF, a byte order mark, tabs for indentation, no end of the
last line, comments between the keys; and the shapes that a format has of its own (flow mappings, dotted keys, inline tables,
lists over several lines). The last two tests hold that all of these are really played.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import Edited, containerd, crio, docker, flags, gvisor, kubelet, units
from migrator.host import Host

CRI = 'plugins."io.containerd.grpc.v1.cri"'
RUNC = 'runtime_type = "io.containerd.runc.v2"'
RUNTIMES = f"{CRI}.containerd.runtimes"
NAMES = {Driver.SYSTEMD: "/kube_reserved.slice", Driver.CGROUPFS: "/kube-reserved"}
RESERVED = flags.Flag("--kube-reserved-cgroup", underscores=True)


@dataclass(frozen=True, slots=True)
class Format:
    """One editor, documents that it reads, and in which dress they come."""

    edit: Callable[[bytes, Driver], Edited]
    documents: tuple[str, ...]
    comment: str = ""
    tabs: bool = True


FORMATS = {
    "daemon.json": Format(
        docker.set_driver,
        (
            '{\n  "log-opts": {"max-size": "10m"},\n  "exec-opts": [\n    "a=b",\n    "native.cgroupdriver=cgroupfs"\n  ],\n  "x": 1\n}',
            '{\n  "exec-opts": ["native.cgroupdriver=systemd"],\n\n  "mirrors": [\n    "https://x"\n  ]\n}',
            '{\n  "mirrors": [\n    "https://x"\n  ]\n}',
            '{"exec-opts":[],"live-restore":true}',
            "{}",
        ),
    ),
    "containerd TOML": Format(
        lambda text, driver: containerd.set_driver(
            text,
            driver,
            [name for name, each in containerd.read(text).handlers.items() if containerd.is_runc(each)],
        ),
        (
            f"version = 2\n[{RUNTIMES}.runc]\n  {RUNC}\n#\n  [{RUNTIMES}.runc.options]\n#\n    SystemdCgroup = false # why\n    X = 'y'\n",
            f'version = 2\nimports = [ # two\n  "/a.toml", # one\n#\n  "/b.toml",\n]\n[{RUNTIMES}.runc]\n  {RUNC}\n[grpc]\n  gid = 0',
            f"version = 2\n{RUNTIMES}.runc.{RUNC}\n#\n{RUNTIMES}.runc.options.SystemdCgroup = true\n",
            f"version = 2\n{RUNTIMES}.runc.{RUNC}\n#\n[grpc]\n  gid = 0\n",
            f"version = 2\n[{RUNTIMES}]\n#\n  runc = {{ {RUNC}, options = {{ SystemdCgroup = false }} }}\n  b = {{{RUNC}}}\n",
            f"version = 2\n[{RUNTIMES}]\n  runc = {{ {RUNC} }} # end",
        ),
        comment="#",
    ),
    "CRI-O TOML": Format(
        crio.set_driver,
        (
            '[crio.runtime]\n#\n  cgroup_manager = "cgroupfs" # why\n  conmon_cgroup = "pod"\n[crio.image]\n  x = 1\n',
            "[crio]\n#\n[crio.runtime]\n  default_capabilities = [\n    'A', # one\n#\n    'B',\n  ]\n  cgroup_manager = 'systemd'",
            "crio.runtime.cgroup_manager = 'cgroupfs'\n#\ncrio.runtime.conmon_cgroup = 'pod'\n",
            "[crio]\n  runtime = { cgroup_manager = 'cgroupfs', conmon_cgroup = 'pod' }\n#\n",
            "[crio]\n#\n  runtime = { conmon_cgroup = 'pod' }",
        ),
        comment="#",
    ),
    "runsc TOML": Format(
        gvisor.set_driver,
        (
            'binary_name = "/r"\n[runsc_config]\n#\n  platform = "kvm" # fast\n  systemd-cgroup = "false"\n',
            'list = [\n  "a", # one\n#\n  "b",\n]\n[runsc_config]\n  debug = "true"',
            "runsc_config.platform = 'kvm'\n#\nrunsc_config.systemd-cgroup = 'true'\n",
            "runsc_config = { systemd-cgroup = 'false', platform = 'kvm' }\n#\n",
        ),
        comment="#",
    ),
    "kubelet YAML": Format(
        kubelet.set_driver,
        (
            "kind: KubeletConfiguration\n#\ncgroupDriver: cgroupfs\t# why\nclusterDNS:\n#\n  - 10.96.0.10\nevictionHard: {a: b, c: [d, e]}\n",
            "kind: KubeletConfiguration\nauthentication:\n  x509:\n    clientCAFile: /ca\n#\nlist: [\n  a, # one\n  b,\n]\ncgroupDriver: 'systemd'",
            "---\nkind: KubeletConfiguration\n#\nevictionHard: {a: b}\n",
            "{kind: KubeletConfiguration, cgroupDriver: cgroupfs, evictionHard: {a: b}}\n#\n",
            '{\n  kind: KubeletConfiguration,\n  x: [a,\n    b], # c\n  "y": 1\n}',
        ),
        comment="#",
        # YAML has none for indentation.
        tabs=False,
    ),
    "kubelet JSON": Format(
        kubelet.set_driver,
        (
            '{\n  "kind": "KubeletConfiguration",\n  "cgroupDriver": "cgroupfs",\n  "clusterDNS": [\n    "10.96.0.10"\n  ]\n}',
            '{\n  "kind": "KubeletConfiguration",\n  "clusterDNS": [\n    "10.96.0.10"\n  ]\n}',
            '{"kind":"KubeletConfiguration","cgroupDriver":"systemd"}',
        ),
    ),
    "unit file": Format(
        units.set_driver,
        (
            "[Unit]\n#\nDescription=x\n[Service]\nExecStart=/k \\\n  --cgroup-driver=cgroupfs \\\n  --v=2\n#\nRestart=always\n",
            "[Service]\nEnvironment=\"A=--cgroup-driver=cgroupfs --x='y z'\"\n#\nExecStart=/k $A",
            "[Service]\n#\nExecStart=\nExecStart=-/k --cgroup-driver systemd --v=2  \n",
        ),
        comment="#",
    ),
    "env file": Format(
        flags.set_driver,
        (
            "A=\"--v=2 --cgroup-driver=cgroupfs --x='y z'\"\n#\nB=--cgroup-driver=systemd\n",
            "#\nA='--v=2 \\\n  --cgroup-driver=cgroupfs'\nC=1",
            "A=--v=2\n#\nB=\n",
        ),
        comment="#",
    ),
    "kubelet YAML, a reserved cgroup": Format(
        lambda text, driver: kubelet.set_text(text, "kubeReservedCgroup", NAMES[driver]),
        (
            "kind: KubeletConfiguration\n#\nkubeReservedCgroup: /kube-reserved\t# why\nclusterDNS:\n#\n  - 10.96.0.10\nevictionHard: {a: b, c: [d, e]}\n",
            "kind: KubeletConfiguration\nkubeReserved:\n  cpu: 100m\n#\nlist: [\n  a, # one\n  b,\n]\nkubeReservedCgroup: '/kube-reserved'",
            '---\nkubeReservedCgroup: "/kube_reserved.slice"\n#\nevictionHard: {a: b}\n',
            "{kind: KubeletConfiguration, kubeReservedCgroup: /kube-reserved, evictionHard: {a: b}}\n#\n",
            '{\n  kind: KubeletConfiguration,\n  x: [a,\n    b], # c\n  "y": 1\n}',
        ),
        comment="#",
        tabs=False,
    ),
    "kubelet JSON, a reserved cgroup": Format(
        lambda text, driver: kubelet.set_text(text, "kubeReservedCgroup", NAMES[driver]),
        (
            '{\n  "kind": "KubeletConfiguration",\n  "kubeReservedCgroup": "/kube-reserved",\n  "clusterDNS": [\n    "10.96.0.10"\n  ]\n}',
            '{\n  "kind": "KubeletConfiguration",\n  "kubeReserved": {\n    "cpu": "100m"\n  }\n}',
            '{"kind":"KubeletConfiguration","kubeReservedCgroup":"/kube_reserved.slice","l":[\n]}',
        ),
    ),
    "unit file, a reserved cgroup": Format(
        lambda text, driver: units.set_flag(text, RESERVED, NAMES[driver]),
        (
            "[Unit]\n#\nDescription=x\n[Service]\nExecStart=/k \\\n  --kube-reserved-cgroup=/kube-reserved \\\n  --v=2\n#\nRestart=always\n",
            "[Service]\nEnvironment=\"A=--kube_reserved_cgroup=/kube-reserved --x='y z'\"\n#\nExecStart=/k $A",
            "[Service]\n#\nExecStart=\nExecStart=-/k --kube-reserved-cgroup /kube_reserved.slice --kube-reserved=cpu=1  \n",
        ),
        comment="#",
    ),
    "env file, a reserved cgroup": Format(
        lambda text, driver: flags.set_flag(text, RESERVED, NAMES[driver]),
        (
            "A=\"--kube-reserved-cgroup=/kube-reserved --x='y z'\"\n#\nB=--kube-reserved-cgroup=/kube_reserved.slice\n",
            "#\nA='--v=2 \\\n  --kube_reserved_cgroup /kube-reserved'\nC=1",
            "A=--kube-reserved=cpu=1\n#\nB=\n",
        ),
        comment="#",
    ),
    "unit file of dockerd": Format(
        lambda text, driver: units.set_driver(text, driver, flags.DOCKER_DRIVER),
        (
            "[Service]\n#\nExecStart=/d -H fd:// \\\n  --exec-opt native.cgroupdriver=cgroupfs \\\n  --exec-opt a=b\n#\nRestart=always\n",
            "[Service]\nEnvironment=\"A=--exec-opt=native.cgroupdriver=cgroupfs --label='y z'\"\n#\nExecStart=/d $A",
            "[Service]\n#\nExecStart=/d --exec-opt 'native.cgroupdriver=systemd'",
        ),
        comment="#",
    ),
    "env file of dockerd": Format(
        lambda text, driver: flags.set_driver(text, driver, flags.DOCKER_DRIVER),
        (
            'A="--exec-opt native.cgroupdriver=cgroupfs --exec-opt a=b"\n#\nB=1\n',
            "#\nA='--log-level=warn \\\n  --exec-opt=native.cgroupdriver=systemd'\nC=1",
        ),
        comment="#",
    ),
    "env file of CRI-O": Format(
        lambda text, driver: flags.set_driver(text, driver, flags.CRIO_DRIVER),
        (
            'A="--cgroup-manager=cgroupfs --log-level info"\n#\nB=1\n',
            "#\nA='--log-level info \\\n  -cgroup-manager systemd'\nC=1",
        ),
        comment="#",
    ),
}
SHAPES = {
    "comments between keys": {name for name, each in FORMATS.items() if each.comment},
    "flow mappings": {name for name in FORMATS if "YAML" in name},
    "dotted keys": {"containerd TOML", "CRI-O TOML", "runsc TOML"},
    "inline tables": {"containerd TOML", "CRI-O TOML", "runsc TOML"},
    "lists over several lines": {
        name for name in FORMATS if "TOML" in name or "JSON" in name.upper() or "YAML" in name
    },
}
PLAYED = {
    "comments between keys": lambda text: "\n#" in text,
    "flow mappings": lambda text: "{a: b" in text or text.startswith("{kind"),
    "dotted keys": lambda text: any(
        "." in line.split("=")[0] for line in text.split("\n") if "=" in line and line[:1] != " "
    ),
    "inline tables": lambda text: "= {" in text,
    "lists over several lines": lambda text: (
        any(line.partition("#")[0].rstrip().endswith("[") for line in text.split("\n"))
        or "[a,\n" in text
        or "\n  - " in text
    ),
}
VALUES = (
    b"cgroupfs",
    b"systemd",
    b"false",
    b"true",
    b"native.cgroupdriver=cgroupfs",
    *(name.encode() for name in NAMES.values()),
)
SWAPPED = {Driver.SYSTEMD: Driver.CGROUPFS, Driver.CGROUPFS: Driver.SYSTEMD}


@st.composite
def dressed(draw: st.DrawFn, name: str) -> bytes:
    """A document of a format, in one of its dresses."""
    form = FORMATS[name]
    text = draw(st.sampled_from(form.documents))
    remark = draw(st.sampled_from(["remark", "SystemdCgroup = false", "cgroupDriver: cgroupfs", "é"]))
    if form.comment:
        text = text.replace("\n#\n", f"\n{form.comment} {remark}\n")
        text = draw(st.sampled_from(["", f"{form.comment} {remark}\n\n"])) + text
    if form.tabs and draw(st.booleans()):
        text = "\n".join(
            line.replace("  ", "\t") if line.startswith("  ") else line for line in text.split("\n")
        )
    if draw(st.booleans()):
        text = text.rstrip("\n")
    elif not text.endswith("\n"):
        text += "\n"
    return (
        draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    ).encode()


def hunks(old: bytes, new: bytes) -> list[tuple[bytes, bytes]]:
    """Return what went and what came, as narrow as it can be told; of as many lines each for itself."""
    found = []
    lines, others = old.splitlines(keepends=True), new.splitlines(keepends=True)
    for tag, a, b, c, d in difflib.SequenceMatcher(None, lines, others, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        pairs = [(b"".join(lines[a:b]), b"".join(others[c:d]))]
        found += list(zip(lines[a:b], others[c:d], strict=True)) if b - a == d - c else pairs
    return [narrowed(went, came) for went, came in found if went != came]


def narrowed(went: bytes, came: bytes) -> tuple[bytes, bytes]:
    """Return two texts without what they begin and end with alike."""
    start = alike(went, came)
    end = alike(went[start:][::-1], came[start:][::-1])
    return went[start : len(went) - end], came[start : len(came) - end]


def alike(one: bytes, two: bytes) -> int:
    """Return with how many equal bytes two texts begin."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=60)
@given(data=st.data(), driver=st.sampled_from(list(Driver)))
def test_every_byte_outside_the_hunk_is_kept_and_once_is_enough(
    name: str, data: st.DataObject, driver: Driver
) -> None:
    edit = FORMATS[name].edit
    old = data.draw(dressed(name))
    edited = edit(old, driver)
    again = edit(edited.text, driver)

    assert (edited.text, ()) == (again.text, again.edits)
    changed = hunks(old, edited.text)
    assert bool(changed) == bool(edited.edits)
    assert len(changed) <= len(edited.edits)
    assert [] == [went for went, _ in changed if not any(went in value for value in VALUES)]
    came = b"".join(new for _, new in changed)
    assert (b"\r\n" in came) <= (b"\r\n" in old)
    assert came.count(b"\n") == came.count(b"\r\n") or b"\r\n" not in old
    assert edited.text.startswith(b"\xef\xbb\xbf") == old.startswith(b"\xef\xbb\xbf")
    assert edited.text.endswith(b"\n") == old.endswith(b"\n")


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), driver=st.sampled_from(list(Driver)))
def test_the_way_back_gives_the_same_bytes_where_the_value_was_there(
    name: str, data: st.DataObject, driver: Driver
) -> None:
    edit = FORMATS[name].edit
    old = data.draw(dressed(name))
    edited = edit(old, driver)

    was_there = all(each.before is not None for each in edited.edits)
    if was_there and edit(old, SWAPPED[driver]).edits == ():  # a file that says both cannot say so again
        assert old == edit(edited.text, SWAPPED[driver]).text


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_undo_of_the_file_gives_back_the_bytes(name: str, data: st.DataObject) -> None:
    old = data.draw(dressed(name))
    new = FORMATS[name].edit(old, Driver.SYSTEMD).text
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "f").write_bytes(old)
        host = Host(root)
        before = host.state("/f")
        host.write("/f", new, like=before)
        assert new == host.read("/f")
        host.write("/f", old, like=before)
        assert (old, before) == (host.read("/f"), host.state("/f"))


DRESSES: dict[str, Callable[[bytes], bool]] = {
    "CRLF": lambda text: b"\r\n" in text,
    "LF": lambda text: b"\n" in text and b"\r" not in text,
    "byte order mark": lambda text: text.startswith(b"\xef\xbb\xbf"),
    "tabs": lambda text: b"\t" in text,
    "no final newline": lambda text: not text.endswith(b"\n"),
    "all at once": lambda text: all(
        DRESSES[dress](text) for dress in ("CRLF", "byte order mark", "tabs", "no final newline")
    ),
}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("name", FORMATS)
def test_each_dress_is_played_for_each_format(name: str, dress: str) -> None:
    """Hypothesis raises where it draws none."""
    assert DRESSES[dress](find(dressed(name), DRESSES[dress]))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_played_for_each_format_that_has_it(shape: str) -> None:
    assert SHAPES[shape] == {
        name for name, each in FORMATS.items() if any(map(PLAYED[shape], each.documents))
    }

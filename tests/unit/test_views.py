# SPDX-License-Identifier: Apache-2.0
"""What an operator reads: the outcome first, nothing of the node raw."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from migrator.audit import audit
from migrator.drain import Move
from migrator.facts.model import Driver, Facts, Unknown
from migrator.plan_table import translations
from migrator.terminal import plain
from migrator.trees import before_and_after
from migrator.views import render_audit, render_diff, render_findings, render_steps, render_translations
from tests.unit.facts_base import DOCKER, ID, KUBELET_CONFIG, QUIET, UID, but, driver, pod, switched, tree
from tests.unit.terminals import SGR, Terminal

FULL = but(
    DOCKER,
    node={"cgroup_mode": "hybrid", "swap": True},
    runtime={
        "cgroup_parent": "/x",
        "driver": Driver(value="cgroupfs", chain=DOCKER.runtime.driver.chain[:1]),
    },
    pods=(pod(),),
    cgroups={
        "trees": (tree("cgroupfs", 3, "/sys/fs/cgroup/memory"), tree("cgroupfs", 3, "/sys/fs/cgroup/pids"))
    },
)


def view(facts: Facts, stream: io.StringIO | None = None, width: int | None = None) -> str:
    stream = stream or io.StringIO()
    render_audit(audit(facts), stream, width)
    return stream.getvalue()


def test_the_outcome_comes_first_and_what_to_do_next_last() -> None:
    lines = view(FULL).splitlines()
    assert lines[0] == "Recommendation: optional, 1 blocker in the way"
    assert lines[-1] == "Next: settle the blockers above, then run cgmigrate audit again"


def test_both_drivers_are_shown_with_the_places_that_decide_them() -> None:
    text = view(FULL)
    assert re.search(rf"kubelet +cgroupfs +decided by {KUBELET_CONFIG}:7, version 1\.21\.14", text)
    assert re.search(r"runtime docker +cgroupfs +decided by built-in default", text)


def test_the_parts_come_by_weight() -> None:
    text = view(FULL)
    headings = [
        "Blockers (1)",
        "Warnings (2)",
        "For information (1)",
        "Cgroup trees",
        "1 pod, 2 containers",
        "Next:",
    ]
    places = [text.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)


def test_a_finding_is_shown_whole() -> None:
    (finding,) = (each for each in audit(FULL).findings if each.id == "swap")
    stream = io.StringIO()
    render_findings([finding], stream)
    assert stream.getvalue().splitlines()[1:] == [
        "Warnings (1)",
        f"  {finding.summary}",
        "    swap [F62]: /proc/swaps",
        f"    -> {finding.remediation}",
    ]


def test_hierarchies_that_say_the_same_share_a_line() -> None:
    assert (
        "  /kubepods (cgroupfs): 5 directories, 3 with processes; in /sys/fs/cgroup/memory, /sys/fs/cgroup/pids\n"
        in view(FULL)
    )


def test_the_table_shows_paths_of_pods_whole_and_of_containers_what_differs() -> None:
    stream = io.StringIO()
    render_translations(translations(but(pods=(pod(),))), stream)
    uid = UID.replace("-", "_")
    assert stream.getvalue().splitlines()[1:] == [
        "1 pod, 2 containers: from -> to",
        "  default/web-1",
        f"    /kubepods/besteffort/pod{UID}",
        f"    -> /kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice",
        "    POD: 5a9db0c55a9d -> cri-containerd-5a9db0c55a9d.scope",
        "    app: 33dff8e533df -> cri-containerd-33dff8e533df.scope",
    ]


def test_a_container_outside_its_pod_is_shown_with_its_whole_place() -> None:
    whole = pod()
    stray = replace(whole.containers[0], cgroups=(f"/system.slice/docker-{ID}.scope",))
    stream = io.StringIO()
    render_translations(translations(but(pods=(replace(whole, containers=(stray,)),))), stream)
    assert f"app: /system.slice/docker-{ID[:12]}.scope -> cri-containerd-{ID[:12]}.scope" in stream.getvalue()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (QUIET, "Next: cgmigrate plan -o plan.json"),
        (switched(), "Next: cgmigrate verify proves it from two sides"),
        (
            but(DOCKER, node={"cgroup_mode": "legacy"}),
            "Next: if you decide to move: cgmigrate plan -o plan.json; if not",
        ),
    ],
)
def test_the_next_command_follows_from_the_verdict(facts: Facts, expected: str) -> None:
    assert view(facts).splitlines()[-1].startswith(expected)


def test_a_daemon_that_runs_with_another_driver_stands_out() -> None:
    facts = but(switched(), kubelet={"driver_running": driver("cgroupfs")})
    assert "RUNS WITH cgroupfs" in view(facts)


def test_a_driver_that_nothing_tells_is_shown_as_unknown() -> None:
    facts = but(kubelet={"driver": Driver(value=None), "driver_running": Driver(value=None), "version": None})
    assert re.search(r"kubelet +unknown +no source of it was found\n", view(facts))


UNREAD = {"driver": Driver(value=None), "driver_running": Driver(value=None), "version": None}


@pytest.mark.parametrize(
    ("subject", "line", "expected"),
    [
        (KUBELET_CONFIG, 3, f"{KUBELET_CONFIG}:3 cannot be used"),
        ("/etc/default/kubelet", 0, "/etc/default/kubelet cannot be used"),
        ("kubelet.driver", 0, "it is hidden"),
        (DOCKER.runtime.config_file, 3, "no source of it was found"),
        ("kubelet.version", 0, "no source of it was found"),
    ],
)
def test_an_unknown_driver_is_shown_with_the_place_that_explains_it(
    subject: str, line: int, expected: str
) -> None:
    unknown = Unknown(subject=subject, reason="it is hidden", line=line)
    facts = replace(but(DOCKER, kubelet=UNREAD), unknowns=(unknown,))
    assert re.search(rf"kubelet +unknown +{re.escape(expected)}\n", view(facts))


def test_a_file_of_the_runtime_that_cannot_be_read_explains_the_runtime_alone() -> None:
    config = DOCKER.runtime.config_file
    facts = replace(
        but(DOCKER, kubelet=UNREAD, runtime={"driver": Driver(value=None)}),
        unknowns=(
            Unknown(subject=config, reason="no JSON", line=2),
            Unknown(subject=KUBELET_CONFIG, reason="no YAML", line=9),
        ),
    )
    text = view(facts)
    assert re.search(rf"kubelet +unknown +{KUBELET_CONFIG}:9 cannot be used\n", text)
    assert re.search(rf"runtime docker +unknown +{config}:2 cannot be used", text)


def test_an_unknown_driver_is_no_advice_to_stay() -> None:
    found = audit(but(DOCKER, kubelet=UNREAD))
    lines = view(but(DOCKER, kubelet=UNREAD)).splitlines()
    assert found.recommendation.verdict.value == "stay"
    assert re.match(r"Recommendation: not decided \(stay for now\), \d blockers? in the way$", lines[0])


def test_a_node_that_must_stay_whatever_its_driver_is_decided() -> None:
    facts = but(DOCKER, kubelet=UNREAD, node={"init_systemd": False})
    assert view(facts).startswith("Recommendation: stay")


def test_elsewhere_than_on_a_terminal_there_is_no_colour_and_each_statement_is_one_line() -> None:
    text = view(FULL)
    assert "\x1b" not in text
    summaries = [finding.summary for finding in audit(FULL).findings]
    assert [each for each in summaries if f"  {each}\n" not in text] == []


def test_on_a_terminal_text_is_coloured_and_wrapped_but_commands_are_not_broken() -> None:
    text = view(FULL, Terminal(), width=60)
    assert "\x1b[1;31mBlockers" in text
    lines = SGR.sub("", text).splitlines()
    assert [line for line in lines if len(line) > 60 and not line.lstrip().startswith("-> ")] == []
    drain = "    -> kubectl drain worker-1 --ignore-daemonsets"
    assert drain in SGR.sub("", view(FULL, Terminal(), width=30)).splitlines()


GOES = Move(namespace="default", name="web-1", uid=UID, goes=True, why="ReplicaSet web")


def drawn(
    width: int, *, facts: Facts = FULL, moves: tuple[Move, ...] = (), stream: TextIO | None = None
) -> str:
    stream = stream or Terminal()
    render_translations(translations(facts), stream, width, moves)
    return SGR.sub("", stream.getvalue()) if isinstance(stream, io.StringIO) else ""


def flat(text: str) -> str:
    """Return what is left of a drawing when nothing is folded and nothing guides."""
    return re.sub(r"[\s│├└─]", "", text)


@pytest.mark.parametrize("width", [40, 59, 60, 80, 99, 100, 200])
def test_what_is_drawn_fits_the_terminal_and_says_all(width: int) -> None:
    stream = Terminal()
    steps = [("write-file:/var/lib/kubelet/config.yaml (first boot)", "why " * 30), ("guard", "short")]
    render_steps(steps, stream, width)
    render_translations(translations(but(FULL, pods=(pod("漢字" * 30),))), stream, width)
    render_audit(audit(FULL), stream, width)
    text = SGR.sub("", stream.getvalue())

    commands = [each.remediation for each in audit(FULL).findings]
    wide = [line for line in text.splitlines() if cell_len(line) > width]
    assert [] == [line for line in wide if line.strip().removeprefix("-> ") not in commands]
    left, right = before_and_after(translations(FULL))
    for branch in (*left, *right):
        if width < 100:  # side by side, a folded name has the other side's between
            assert flat(branch.path.rpartition("/")[2] + branch.what) in flat(text)


def test_from_100_columns_on_the_trees_stand_side_by_side() -> None:
    beside = [line.split() for line in drawn(100).splitlines()]
    below = [line.split() for line in drawn(99).splitlines()]

    assert ["/kubepods", "/kubepods.slice"] in beside
    assert below.index(["/kubepods"]) < below.index(["/kubepods.slice"])


def test_the_trees_say_who_lives_where() -> None:
    uid = UID.replace("-", "_")
    assert drawn(99).splitlines()[1:] == [
        "1 pod, 2 containers",
        "",
        "As it is",
        "/kubepods",
        "└── besteffort",
        f"    └── pod{UID}  default/web-1",
        "        ├── 33dff8e533df  app",
        "        └── 5a9db0c55a9d  sandbox",
        "",
        "With the systemd driver (new containers, new ids)",
        "/kubepods.slice",
        "└── kubepods-besteffort.slice",
        f"    └── kubepods-besteffort-pod{uid}.slice  default/web-1",
        "        ├── docker-33dff8e533df.scope  app",
        "        └── docker-5a9db0c55a9d.scope  sandbox",
    ]


def test_an_evicted_pod_is_in_the_second_tree_no_more() -> None:
    before, after = drawn(99, moves=(GOES,)).split("With the systemd driver")

    assert "default/web-1 (evicted)" in before
    assert after.splitlines()[1:] == ["(none of these)"]


def test_where_nothing_moves_one_tree_is_drawn() -> None:
    rows = [replace(row, from_path=row.to_path) for row in translations(FULL)]
    stream = Terminal()
    render_translations(rows, stream, 100)

    assert "As it is, and stays" in stream.getvalue()
    assert 1 == stream.getvalue().count("/kubepods.slice")


def test_a_pod_without_a_name_is_called_by_its_id_in_the_path_alone() -> None:
    before, _ = before_and_after(translations(but(FULL, pods=(pod(""),))))

    assert ["", "", "", "app", "sandbox"] == [branch.what for branch in before]


def test_a_place_that_is_deeper_than_there_is_room_stands_with_the_rest_of_its_path() -> None:
    whole = pod()
    deep = "/".join(["", *(f"level{number}" for number in range(300)), ID])
    stray = replace(whole.containers[0], cgroups=(deep,))
    text = drawn(40, facts=but(FULL, pods=(replace(whole, containers=(stray,)),)))

    assert [] == [line for line in text.splitlines() if cell_len(line) > 40]
    assert flat("".join(f"level{number}/" for number in range(5, 300)) + ID[:12]) in flat(text)


@pytest.mark.parametrize("setting", [("TERM", "dumb"), ("CGMIGRATE_PLAIN", "1")])
def test_where_nothing_may_be_drawn_a_terminal_gets_the_lines_of_a_pipe(
    setting: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*setting)
    steps = [("guard", "why it is"), ("write-file:/x", "y")]
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        render_audit(audit(FULL), stream, 2000)
        render_steps(steps, stream, 2000)
    assert SGR.sub("", terminal.getvalue()) == pipe.getvalue()


def test_the_drawing_of_a_terminal_that_knows_only_ascii_is_ascii() -> None:
    class Old(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    stream = Old(raw, encoding="ascii")
    drawn(100, facts=but(FULL, pods=(pod("Überwachung"),)), stream=stream)
    stream.flush()
    assert b"`-- \x1b[0mbesteffort" in raw.getvalue()
    assert b"default/\\xdcberwachung" in raw.getvalue()


def test_no_color_keeps_a_terminal_free_of_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert re.findall(r"\x1b\[[0-9;]*3[0-7]", view(FULL, Terminal(), width=100)) == []


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("web-1", "web-1"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp", "\\u202egnp"),
        ("a\u200bb", "a\\u200bb"),
        ("\udce9", "\\xe9"),
        ("\U000e0041", "\\U000e0041"),
        ("Überwachung", "Überwachung"),
    ],
)
def test_what_is_unprintable_is_shown_as_an_escape(raw: str, shown: str) -> None:
    assert plain(raw) == shown


HOSTILE = "\x1b]0;owned\x07\n[bold red]x[/] :smile: \u202e\x9b2J\udcff"


@pytest.mark.parametrize("width", [0, 40, 100])
def test_hostile_names_reach_no_terminal_raw(width: int) -> None:
    bad = replace(pod(HOSTILE), namespace=HOSTILE)
    bad = replace(bad, containers=(replace(bad.containers[0], name=HOSTILE),))
    facts = but(
        FULL,
        node={"hostname": HOSTILE, "os": HOSTILE, "kernel": HOSTILE},
        kubelet={"driver": driver(HOSTILE, HOSTILE), "version": HOSTILE},
        runtime={"cgroup_parent": HOSTILE, "version": HOSTILE, "shim": HOSTILE},
        pods=(bad,),
        cgroups={
            "trees": (replace(tree("cgroupfs"), path=HOSTILE),),
            "literal": (HOSTILE,),
            "failed_units": (HOSTILE,),
        },
    )
    text = SGR.sub("", view(facts, Terminal(), width) if width else view(facts))
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert flat("[bold red]x[/] :smile:") in flat(text)
    # A newline of the node makes no line of its own.
    assert [line for line in text.splitlines() if line.startswith("[bold red]")] == []


@given(st.text())
def test_whatever_the_text_what_is_shown_is_printable(text: str) -> None:
    assert plain(text).isprintable()


@given(st.text(alphabet=st.characters(exclude_characters="\t"), max_size=60))
def test_a_diff_keeps_its_lines_and_shows_nothing_raw(text: str) -> None:
    stream = io.StringIO()
    render_diff(text, stream)
    assert stream.getvalue().split("\n")[:-1] == [plain(line) for line in text.removesuffix("\n").split("\n")]


def test_a_diff_is_shown_line_by_line_with_its_tabs() -> None:
    diff = "--- /etc/docker/daemon.json\n+++ /etc/docker/daemon.json\n@@ -1 +1 @@\n-\t{}\n+\t{ }\r\n"
    plainly, coloured = io.StringIO(), Terminal()
    render_diff(diff, plainly)
    render_diff(diff, coloured, 80)
    assert plainly.getvalue() == diff.replace("\r", "\\x0d")
    assert "\x1b[32m+\t{ }" in coloured.getvalue()


def test_a_stream_that_knows_only_ascii_is_written_without_an_error() -> None:
    raw = io.BytesIO()
    stream: TextIO = io.TextIOWrapper(raw, encoding="ascii")
    render_audit(audit(but(node={"os": "Überwachung"})), stream)
    stream.flush()
    assert b"\\xdcberwachung" in raw.getvalue()

# SPDX-License-Identifier: Apache-2.0
"""References to the old tree in host files: what is one, what becomes of it, where it is looked for (F65)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.audit import audit
from migrator.checks import run_checks
from migrator.facts import references as search
from migrator.facts.look import Look
from migrator.facts.model import Facts, File, Reference, ReferringFile, Unknown
from migrator.plan import Plan
from migrator.plan_options import PlanOptions
from migrator.reference_changes import kept
from migrator.references import MEANING, Reason, find, references, rewrite, translator_of
from migrator.schemas import load_schema
from migrator.session import plan_node
from tests.unit.facts_base import DOCKER, ID, KUBELET_CONFIG, STATIC_UID, UID, but, config, switched, unit
from tests.unit.nodes import Link, lay

V1 = "/sys/fs/cgroup/memory"
POD = f"pod{UID}"
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
MAYBE = translator_of("docker", "")
assert MAYBE is not None
DOCKERS = MAYBE

SURE = [
    (f"cat {V1}/kubepods/memory.usage_in_bytes", f"cat {V1}/kubepods.slice/memory.usage_in_bytes"),
    (f"find {V1}/kubepods -name tasks | wc -l", f"find {V1}/kubepods.slice -name tasks | wc -l"),
    (
        'paths = ["/kubepods/burstable", "/kubepods/besteffort/"]',
        'paths = ["/kubepods.slice/kubepods-burstable.slice", "/kubepods.slice/kubepods-besteffort.slice/"]',
    ),
    (
        f"{V1}/kubepods/burstable/{POD}/{ID}/memory.stat",
        f"{V1}/kubepods.slice/kubepods-burstable.slice/{SLICE}/docker-{ID}.scope/memory.stat",
    ),
    (
        f"/kubepods/besteffort/pod{STATIC_UID}",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{STATIC_UID}.slice",
    ),
    ("ExecStart=/x --cgroup /kubepods --y", "ExecStart=/x --cgroup /kubepods.slice --y"),
    (
        "usage $(cat /sys/fs/cgroup/kubepods/memory.max)",
        "usage $(cat /sys/fs/cgroup/kubepods.slice/memory.max)",
    ),
    ("cgget -g memory:kubepods/burstable", "cgget -g memory:kubepods.slice/kubepods-burstable.slice"),
    ('expr: x{id="/kubepods"} # y', 'expr: x{id="/kubepods.slice"} # y'),
    (f"B={V1}/kubepods\necho $B", f"B={V1}/kubepods.slice\necho $B"),
    (f'"{V1}/kubepods";\r', f'"{V1}/kubepods.slice";\r'),
    (r'{"path": "\/kubepods\/burstable"}', r'{"path": "\/kubepods.slice\/kubepods-burstable.slice"}'),
    ("${ROOT}/kubepods/burstable", "${ROOT}/kubepods.slice/kubepods-burstable.slice"),
    (f"{V1}/kubepods \\", f"{V1}/kubepods.slice \\"),
    (f"B={V1}/kubepods\n# cat $B/burstable\necho $B", f"B={V1}/kubepods.slice\n# cat $B/burstable\necho $B"),
    (f"show() {{ :; }}\ncat {V1}/kubepods/tasks", f"show() {{ :; }}\ncat {V1}/kubepods.slice/tasks"),
    (f"kubectl get pods\ncat {V1}/kubepods/tasks", f"kubectl get pods\ncat {V1}/kubepods.slice/tasks"),
]


@pytest.mark.parametrize(("old", "new"), SURE, ids=[row[0] for row in SURE])
def test_a_sure_path_is_rewritten_and_the_text_around_it_stays(old: str, new: str) -> None:
    edited = rewrite(old.encode(), DOCKERS)

    assert new == edited.text.decode()
    assert [] == [each for each in find(old.encode(), DOCKERS) if each.reason]


LEFT = [
    ("/kubepods.*", "pattern"),
    ('id=~"/kubepods.+"', "pattern"),
    ("kubepods/(burstable|besteffort)/pod(.*)", "pattern"),
    ('id=~"^/kubepods(/.*)?$"', "pattern"),
    ("(/kubepods|/docker)", "pattern"),
    ("x|/kubepods/burstable", "pattern"),
    ("(/kubepods/burstable)?/x", "pattern"),
    ("awk '/kubepods/'", "pattern"),
    (f"ls {V1}/kubepods/*/pod*/memory.stat", "pattern"),
    (f"ls {V1}/kubepods/burstable/pod[0-9]/tasks", "pattern"),
    ('name: "kubepods.*"', "pattern"),
    (f"cat {V1}/kubepods/$qos/tasks", "built"),
    (f"cat {V1}/kubepods/burstable/pod${{uid}}/tasks", "built"),
    (f'"{V1}/kubepods/"$qos', "built"),
    (f'p = "{V1}/kubepods" + qos', "built"),
    (f'p = "{V1}/kubepods" .. qos', "built"),
    (f'os.path.join("{V1}/kubepods", qos)', "built"),
    (f'Path("{V1}/kubepods") / qos', "built"),
    (f'f"{V1}/kubepods/{{qos}}"', "built"),
    (f'printf "{V1}/kubepods/%s"', "built"),
    (f"${{B:-{V1}/kubepods}}/burstable", "built"),
    (f"B={V1}/kubepods\ncat $B/burstable/tasks", "built"),
    (f'B="{V1}/kubepods"\ncat "${{B}}"/tasks', "built"),
    (f'B = "{V1}/kubepods"\nopen(B + "/tasks")', "built"),
    (f"cd {V1}/kubepods && cat burstable/tasks", "built"),
    (f"cd {V1}/kubepods && cat tasks", "built"),
    (f"cd {V1}/kubepods\ncat x/tasks", "built"),
    (f'pushd -n "{V1}/kubepods"', "built"),
    (f"B={V1}/kubepods\ncd $B; ls */tasks", "built"),
    (f'os.chdir("{V1}/kubepods")', "built"),
    (f"WorkingDirectory={V1}/kubepods", "built"),
    (f'"${{BASE:-{V1}/kubepods}}"/burstable', "built"),
    (f"BASE=${{BASE:-{V1}/kubepods}}\ncat $BASE/tasks", "built"),
    (f": ${{BASE:={V1}/kubepods}}\ncat ${{BASE}}/tasks", "built"),
    (f"B={V1}/kubepods\ncat ${{B%/}}/tasks", "built"),
    (f"BASE: {V1}/kubepods\npath: '{{{{ BASE }}}}/tasks'", "built"),
    (f'base: "{V1}/kubepods"\npath: {{{{ .Values.base }}}}/tasks', "built"),
    (f"printf '%s/%s' {V1}/kubepods tasks", "built"),
    (f'f = "%s/%s" % ("{V1}/kubepods", q)', "built"),
    (f'"{{}}/{{}}".format("{V1}/kubepods", q)', "built"),
    (f'B={V1}/kubepods\nprintf "%s/%s" "$B" "$q"', "built"),
    (f'for p in Path("{V1}/kubepods").glob("*/x"):', "built"),
    (f'base = Path("{V1}/kubepods")\nfor p in base.rglob("tasks"):', "built"),
    (f'base = Path("{V1}/kubepods")\nprint(base / q)', "built"),
    (f"for d in {V1}/kubepods; do cat $d/tasks; done", "built"),
    (f'show() {{ cat "$1/tasks"; }}\nshow {V1}/kubepods', "built"),
    (f'def show(base):\n    pass\nshow("{V1}/kubepods")', "built"),
    (f"find {V1}/kubepods -maxdepth 1 -name burstable", "built"),
    (f"find {V1}/kubepods -name 'pod*'", "built"),
    (f"B={V1}/kubepods\nfor q in burstable besteffort; do total $B $q; done", "built"),
    ("^/kubepods/burstable$", "pattern"),
    ('id=~"/kubepods/burstable"', "pattern"),
    ('id!~"^/kubepods"', "pattern"),
    (f"if [ -d {V1}/kubepods ]; then D=cgroupfs; else D=systemd; fi", "tested"),
    (f'os.path.exists("{V1}/kubepods")', "tested"),
    (f"B={V1}/kubepods # or {V1}/kubepods.slice\n", "tested"),
    ("cgget -g memory:kubepods", "word"),
    ('slice = "kubepods"', "word"),
    ("cgroup: kubepods\n", "word"),
    ("/kubepods/burstable/myapp", "unsure"),
    ("http://localhost:4194/api/v1.3/containers/kubepods", "unsure"),
]


@pytest.mark.parametrize(("text", "reason"), LEFT, ids=[row[0] for row in LEFT])
def test_what_is_not_sure_is_reported_and_left(text: str, reason: str) -> None:
    found = list(references(text.encode(), DOCKERS))

    assert [reason] == [each.reason for each in found]
    assert [""] == [each.new for each in found]
    assert text.encode() == rewrite(text.encode(), DOCKERS).text
    assert Reason(reason) in MEANING


def test_the_schema_of_facts_has_every_reason() -> None:
    listed = load_schema("facts-1")["$defs"]["Reference"]["properties"]["reason"]["enum"]

    assert {"", *Reason} == set(listed)


TOP = f"{V1}/kubepods"
HANDED = [
    ("environment", f"KUBE_CG={TOP}"),
    ("environment", f'ARGS="--root {TOP}/ --x"'),
    ("cron", f"* * * * * root /usr/local/bin/mon2.sh {TOP}"),
    ("cron", f"CG={TOP}\n* * * * * root mon.sh"),
    ("cron", f"@daily CG={TOP} mon.sh"),
    ("cron", f"* * * * * root cat x; /opt/test/mon {TOP}"),
    ("unit", f"[Service]\nEnvironment=CG={TOP}"),
    ("unit", f'Environment="A=b" "CG={TOP}"'),
    ("unit", f"ExecStart=/usr/bin/agent --cgroup {TOP} --y"),
    ("unit", f"ExecStart=/usr/bin/agent \\\n  --root={TOP}"),
    ("script", f'#!/bin/sh\nset -- {TOP}\ncat "$1/$QOS"'),
    ("script", f'#!/bin/bash\nread base <<< {TOP}\ncat "$base/$q"'),
    ("script", f"#!/bin/bash\ndeclare -A P=([k]={TOP})\ncat ${{P[k]}}/$q"),
    ("script", f"#!/bin/bash\nP=({TOP})\ncat ${{P[0]}}/$q"),
    ("script", f"#!/bin/sh\nexport CG={TOP}\nmon"),
    ("script", f"#!/bin/sh\nCG={TOP}\nexport CG\nmon"),
    ("script", f"#!/bin/sh\nCG={TOP} mon"),
    ("script", f'#!/bin/sh\nCG="{TOP}"\n'),
    ("script", f"#!/bin/sh\nCG={TOP}\nmon $CG"),
    ("script", f'#!/usr/bin/python3\nos.environ["CG"] = "{TOP}"'),
    ("script", f'#!/usr/bin/python3\nlib.show("{TOP}")'),
]


@pytest.mark.parametrize(("kind", "text"), HANDED, ids=[f"{row[0]}: {row[1]}" for row in HANDED])
def test_the_top_of_the_tree_is_left_where_another_file_may_put_more_behind_it(kind: str, text: str) -> None:
    assert ["handed"] == [each.reason for each in references(text.encode(), DOCKERS, kind)]
    assert text.encode() == rewrite(text.encode(), DOCKERS, kind).text
    whole = text.replace(TOP, f"{TOP}/burstable")
    assert [None] == [each.reason for each in find(whole.encode(), DOCKERS, kind)] or "/$" in whole


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("environment", f"STAT={TOP}/memory.stat"),
        ("cron", f"* * * * * root find {TOP} -name tasks | wc -l"),
        ("cron", f"* * * * * root mon >/dev/null; /usr/bin/du -s {TOP}"),
        ("cron", f"#!/bin/sh\nB={TOP}\nfind $B -name tasks"),
        ("unit", f"ReadWritePaths=/var/lib/mon {TOP}"),
        ("unit", f"ExecStart=/usr/bin/find {TOP} -name tasks"),
        ("script", f'#!/bin/sh\nlocal B="{TOP}"\nfind "${{B}}" -name tasks'),
        ("script", f"#!/bin/sh\nmkdir -p {TOP}"),
        ("agent", f'path = "{TOP}"'),
        ("system", f"d {TOP} 0755 root root"),
    ],
)
def test_the_top_of_the_tree_is_rewritten_where_it_is_used_as_it_is(kind: str, text: str) -> None:
    new = text.replace("kubepods", "kubepods.slice")

    assert new.encode() == rewrite(text.encode(), DOCKERS, kind).text


NONE = [
    "# cat /sys/fs/cgroup/memory/kubepods",
    "  ; /kubepods/burstable",
    "// /kubepods",
    f"{V1}/kubepods.slice/kubepods-burstable.slice",
    r'id=~"/kubepods(\.slice)?/.*"',
    r"kubepods-[a-z]+\.slice",
    "Description=Watch the kubepods of this node",
    "grep -c kubepods /proc/self/cgroup",
    "/opt/kubepods/bin/run",
    "https://example.org/kubepods/burstable",
    "/etc/kubepods.conf",
    "/kubepods-exporter",
    "my-kubepods/x",
]


@pytest.mark.parametrize("text", NONE)
def test_what_names_no_old_cgroup_is_not_reported(text: str) -> None:
    assert [] == find(text.encode(), DOCKERS)


def test_a_line_is_rewritten_whole_or_not_at_all() -> None:
    text = b"du /sys/fs/cgroup/kubepods /sys/fs/cgroup/kubepods/*\ndu /sys/fs/cgroup/kubepods\n"

    assert [(1, "beside"), (1, "pattern"), (2, "")] == [
        (each.line, each.reason) for each in references(text, DOCKERS)
    ]
    edited = rewrite(text, DOCKERS)
    assert (
        b"du /sys/fs/cgroup/kubepods /sys/fs/cgroup/kubepods/*\ndu /sys/fs/cgroup/kubepods.slice\n"
        == edited.text
    )
    assert [(2, "/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/kubepods.slice")] == [
        (each.line, each.before, each.after) for each in edited.edits
    ]


def test_the_cgroup_root_of_the_kubelet_is_heeded() -> None:
    rooted = translator_of("containerd", "/kubelet")
    assert rooted is not None

    assert b"x /kubelet.slice/kubelet-kubepods.slice y" == rewrite(b"x /kubelet/kubepods y", rooted).text
    assert None is translator_of("containerd", "/a/../b")


def test_a_container_of_an_unknown_runtime_is_left() -> None:
    nobody = translator_of("unknown", "")
    assert nobody is not None

    found = list(references(f"/kubepods/{POD}/{ID}\n".encode(), nobody))

    assert ["runtime"] == [each.reason for each in found]


PASSWORD = "pl4ntedS3cret"  # noqa: S105 - what is planted
SECRETS = [
    f"url = http://agent:{PASSWORD}@host/containers/kubepods/burstable",
    f"token = {PASSWORD}$x/kubepods/burstable",
    f"password={PASSWORD}/sys/fs/cgroup/kubepods",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_credential_beside_a_path_is_masked(text: str) -> None:
    found = list(references(text.encode(), DOCKERS))
    edits = rewrite(text.encode(), DOCKERS).edits

    assert found
    assert PASSWORD not in repr(found) + repr(edits)


PIECES = st.sampled_from(
    [
        *(
            b"kubepods",
            b"/kubepods",
            V1.encode(),
            b"/burstable",
            b"/pod",
            UID.encode(),
            ID.encode(),
            b".slice",
        ),
        *(bytes([each]) for each in b"\n\r \"'#|()*=B+\xff\\/"),
        b"$B",
    ]
)


@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_rewriting_is_idempotent_and_changes_only_what_it_lists(data: bytes) -> None:
    edited = rewrite(data, DOCKERS)

    again = rewrite(edited.text, DOCKERS)
    assert (edited.text, ()) == (again.text, again.edits)
    found = find(data, DOCKERS)
    assert [data.count(b"\n", 0, each.start) + 1 for each in found] == [each.line for each in found]
    sure = [each for each in found if each.reason is None]
    assert len(sure) == len(edited.edits)
    back, done = [], 0
    for each in sure:
        at = edited.text.index(each.new, done)
        back += [edited.text[done:at], each.old]
        done = at + len(each.new)
    assert data == b"".join([*back, edited.text[done:]])
    assert data.count(b"\n") == edited.text.count(b"\n")


JOB = f"* * * * * root cat {V1}/kubepods/memory.usage_in_bytes\n"
TREE: dict[str, str | bytes | Link | None] = {
    "/etc/cron.d/usage": JOB,
    "/etc/cron.d/other": "* * * * * root true\n",
    "/var/spool/cron/crontabs/root": JOB,
    "/etc/systemd/system/watch.service": "[Service]\nExecStart=/usr/local/bin/watch.sh /kubepods\n",
    "/etc/systemd/system/watch.service.d/10-x.conf": "[Service]\nEnvironment=C=/kubepods/burstable\n",
    "/etc/systemd/system/multi-user.target.wants/watch.service": Link("/etc/systemd/system/watch.service"),
    "/etc/systemd/system/kubelet.service.d/x.conf": f"[Service]\nExecStartPre=/bin/mkdir {V1}/kubepods\n",
    "/etc/default/prometheus-node-exporter": "ARGS=--path=/kubepods/burstable\n",
    "/lib/systemd/system/prometheus-node-exporter.service": "[Service]\n",
    "/etc/telegraf/telegraf.d/cgroups.conf": 'paths = ["/sys/fs/cgroup/memory/kubepods"]\n',
    "/etc/systemd/system/telegraf.service": "[Service]\nExecStart=/usr/bin/telegraf\n",
    "/etc/telegraf.conf": b"\0\1/kubepods\n",
    "/usr/local/bin/watch.sh": f"#!/bin/sh\nls {V1}/kubepods\n",
    "/usr/local/bin/program": f"{V1}/kubepods\n",
    "/etc/cron.d/away": Link("/srv/jobs/away"),
    "/srv/jobs/away": JOB,
    "/etc/cron.d/loop": Link("/etc/cron.d"),
    "/etc/prometheus": Link("/srv/prometheus"),
    "/srv/prometheus/rules.yml": 'expr: x{id="/kubepods"}\n',
    "/etc/hosts": "127.0.0.1 /kubepods\n",
}


def searched(
    root: Path, tree: dict[str, str | bytes | Link | None]
) -> tuple[list[ReferringFile], list[Unknown]]:
    look = Look(lay(root, tree))
    kubelet = replace(DOCKER.kubelet, unit=unit("kubelet.service"))
    return list(search.gather_references(look, kubelet, DOCKER.runtime)), look.unknowns


def test_the_places_of_a_node_are_searched_and_no_link_is_followed_out_of_them(tmp_path: Path) -> None:
    found, unknowns = searched(tmp_path, TREE)

    assert {
        "/etc/cron.d/usage": ("cron", ()),
        "/etc/default/prometheus-node-exporter": ("environment", ("prometheus-node-exporter.service",)),
        "/etc/prometheus/rules.yml": ("agent", ("prometheus-node-exporter.service",)),
        "/etc/systemd/system/kubelet.service.d/x.conf": ("unit", ()),
        "/etc/systemd/system/watch.service": ("unit", ("watch.service",)),
        "/etc/systemd/system/watch.service.d/10-x.conf": ("unit", ("watch.service",)),
        "/etc/telegraf/telegraf.d/cgroups.conf": ("agent", ("telegraf.service",)),
        "/usr/local/bin/watch.sh": ("script", ("watch.service",)),
        "/var/spool/cron/crontabs/root": ("cron", ()),
    } == {each.file.path: (each.kind, each.readers) for each in found}
    assert "/srv/prometheus/rules.yml" == next(
        each.file.real_path for each in found if each.file.path == "/etc/prometheus/rules.yml"
    )
    assert [] == unknowns


def test_what_is_too_large_or_too_deep_is_told_and_decides_nothing(tmp_path: Path) -> None:
    deep = "/".join("abcdefgh")
    found, unknowns = searched(
        tmp_path,
        {
            "/etc/prometheus/large.yml": "x" * search.MAX_SIZE + "\n/kubepods",
            "/usr/local/bin/large": "#!" + "x" * search.MAX_SIZE,
            "/etc/prometheus/many.yml": "/kubepods\n" * (search.MAX_REFERENCES + 1),
            f"/etc/prometheus/{deep}/rules.yml": "/kubepods",
            "/etc/cron.d/\udcff\n".encode("utf-8", "surrogateescape").decode("latin-1"): JOB,
        },
    )

    assert [] == found
    expected = ["a file of such a name", "directories deep", "larger than", "more than 1000 times"]
    assert expected == sorted(part for each in unknowns for part in expected if part in each.reason)
    assert len(expected) == len(unknowns)
    assert all(each.subject.startswith("references:") for each in unknowns)
    told = [each.id for each in run_checks(replace(DOCKER, unknowns=tuple(unknowns)))]
    assert ["facts-unknown"] == told


def test_copies_kept_aside_are_read_by_nothing_and_passed_over(tmp_path: Path) -> None:
    names = ("x.dpkg-old", "x.rpmsave", "x.ucf-dist", "x~", ".x.swp", "x.bak", "x.cgmigrate-saved", "x.old")
    found, unknowns = searched(
        tmp_path, {**{f"/etc/cron.d/{name}": JOB for name in names}, "/etc/cron.d/x.bold": JOB}
    )

    assert (["/etc/cron.d/x.bold"], []) == ([each.file.path for each in found], unknowns)


def test_programs_do_not_use_up_what_texts_may_take(tmp_path: Path) -> None:
    program = b"\x7fELF\0" + b"x" * (search.MAX_SIZE - 5)
    programs = {
        f"/usr/local/bin/a{number}": program for number in range(search.MAX_TOTAL // search.MAX_SIZE + 1)
    }
    found, unknowns = searched(
        tmp_path, {**programs, "/usr/local/sbin/watch.sh": f"#!/bin/sh\nls {V1}/kubepods\n"}
    )

    assert (["/usr/local/sbin/watch.sh"], []) == ([each.file.path for each in found], unknowns)


@pytest.mark.parametrize(
    ("path", "reader"),
    [
        ("watch@.service", "watch@*.service"),
        ("watch@.service.d/10-x.conf", "watch@*.service"),
        ("watch@a.service", "watch@a.service"),
        ("watch-.service.d/10-x.conf", "watch-*.service"),
        ("-.slice.d/10-x.conf", "-.slice"),
    ],
)
def test_of_a_template_every_instance_is_restarted(tmp_path: Path, path: str, reader: str) -> None:
    found, _ = searched(tmp_path, {f"/etc/systemd/system/{path}": "[Service]\nExecStart=/x /kubepods\n"})

    assert [(reader,)] == [each.readers for each in found]


def test_a_diff_of_such_a_file_shows_no_neighbours(tmp_path: Path) -> None:
    text = f"#!/bin/sh\nlogin=admin; PIN={PASSWORD}\ncat {V1}/kubepods/tasks\nsend {PASSWORD}\n"
    reader = lay(tmp_path, {"/usr/local/bin/watch.sh": text})
    found = search.gather_references(Look(reader), DOCKER.kubelet, DOCKER.runtime)
    plan = plan_node(reader, audit(replace(switched(DOCKER), references=found)), PlanOptions(references=True))

    assert [f"-cat {V1}/kubepods/tasks\n+cat {V1}/kubepods.slice/tasks\n"] == [
        step.params["diff"].split("@@\n")[1] for step in plan.steps if step.kind == "write-file"
    ]
    assert PASSWORD not in repr(plan.document)


def test_a_file_that_two_names_lead_to_is_rewritten_once(tmp_path: Path) -> None:
    reader = lay(
        tmp_path, {"/etc/telegraf/telegraf.conf": JOB, "/etc/telegraf.conf": Link("telegraf/telegraf.conf")}
    )
    found = search.gather_references(Look(reader), DOCKER.kubelet, DOCKER.runtime)
    plan = plan_node(reader, audit(replace(switched(DOCKER), references=found)), PlanOptions(references=True))

    assert ["/etc/telegraf.conf", "/etc/telegraf/telegraf.conf"] == [each.file.path for each in found]
    (only,) = (step for step in plan.steps if step.kind == "write-file")
    assert only.why.endswith("; other names of this file: /etc/telegraf/telegraf.conf")


def test_a_file_that_cannot_be_looked_at_is_a_fact(tmp_path: Path) -> None:
    tree: dict[str, str | bytes | Link | None] = {"/etc/cron.d/a": JOB, "/etc/crontab": Link("/etc/crontab")}
    found, unknowns = searched(tmp_path, tree)

    assert ["/etc/cron.d/a"] == [each.file.path for each in found]
    assert ["references:/etc/crontab"] == [each.subject for each in unknowns]


def refers(path: str, *lines: Reference, kind: str = "cron", file: File | None = None) -> ReferringFile:
    return ReferringFile(file=file or config(path), kind=kind, references=lines, readers=())


RULE = Reference(line=3, old="/kubepods", new="/kubepods.slice")
REGEX = Reference(line=9, old="/kubepods.*", reason="pattern")
KEPT = [
    (refers("/etc/cron.d/x", RULE), ""),
    (refers(KUBELET_CONFIG, RULE), "own configuration"),
    (refers("/x", RULE, file=replace(config("/x"), real_path=KUBELET_CONFIG)), "own configuration"),
    (refers("/etc/kubernetes/manifests/a.yaml", RULE), "static pod"),
    (
        refers("/x", RULE, file=replace(config("/x"), exposed_by="/etc/agent")),
        "everybody may write /etc/agent",
    ),
    (refers("/x", RULE, file=replace(config("/x"), links=2)), "2 names"),
    (refers("/etc/munin/x", RULE, file=replace(config("/etc/munin/x"), real_path="/etc/munin-2/x")), ""),
    (
        refers("/etc/munin/x", RULE, file=replace(config("/etc/munin/x"), real_path="/srv/x")),
        "/srv/x may be other",
    ),
]


@pytest.mark.parametrize(("each", "why"), KEPT, ids=[f"{row[0].file.path}: {row[1]}" for row in KEPT])
def test_these_files_are_reported_and_not_rewritten(each: ReferringFile, why: str) -> None:
    facts = but(DOCKER, kubelet={"static_pod_path": "/etc/kubernetes/manifests/"}, references=(each,))

    assert why in kept(facts, each)
    assert bool(why) == bool(kept(facts, each))
    finding = next(found for found in run_checks(facts) if found.id == "old-paths-referenced")
    assert why in finding.detail
    assert ("--references" in finding.remediation) == (not why)


def test_the_finding_tells_each_line_what_becomes_of_it_and_what_to_restart() -> None:
    each = replace(refers("/etc/telegraf/telegraf.conf", RULE, REGEX), readers=("telegraf.service",))

    finding = next(
        found for found in run_checks(but(references=(each,))) if found.id == "old-paths-referenced"
    )

    assert "/etc/telegraf/telegraf.conf:3" == finding.subject
    assert "line 3: /kubepods → /kubepods.slice" in finding.detail
    assert f"line 9: /kubepods.*: {MEANING[Reason.PATTERN]}" in finding.detail
    assert "rewrites 1 and 1 is left to you" in finding.summary
    assert finding.remediation.endswith("by hand, then systemctl restart telegraf.service")


def planned(root: Path, facts: Facts, *, wanted: bool) -> Plan:
    reader = lay(root, {each: text for each, text in TREE.items() if not isinstance(text, Link)})
    found = search.gather_references(Look(reader), facts.kubelet, facts.runtime)
    return plan_node(reader, audit(replace(facts, references=found)), PlanOptions(references=wanted))


def test_a_node_that_is_switched_gets_a_plan_that_only_writes_files_where_asked(tmp_path: Path) -> None:
    plan = planned(tmp_path, switched(DOCKER), wanted=True)

    kinds = [step.kind for step in plan.steps]
    files = [step.params["path"] for step in plan.steps if step.kind == "write-file"]
    assert ["daemon-reload", *["write-file"] * len(files), "daemon-reload"] == kinds
    assert "/etc/cron.d/usage" in files
    assert sorted(files) == files
    assert [] == plan.document["cannot_be_undone"]
    assert {"telegraf.service", "watch.service", "prometheus-node-exporter.service"} == {
        name for step in plan.steps for name in step.params.get("restart", ())
    }
    assert () == planned(tmp_path / "again", switched(DOCKER), wanted=False).steps

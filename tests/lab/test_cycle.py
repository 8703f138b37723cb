# SPDX-License-Identifier: Apache-2.0
"""Audit, plan, apply, verify, roll back and forward again, on real nodes."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import MakeNode
from .cycle import (
    PLAN,
    SCOPE,
    assert_on_cgroupfs,
    assert_on_systemd,
    cgmigrate,
    config_files,
    document,
    files,
)
from .node import KUBELET_CONFIG, RUNTIME_CONFIG, Node


def test_a_node_is_audited(node: Node) -> None:
    """Driver and source of both sides, and every live pod and container with its translated path."""
    audit = document(node, "audit")

    assert "cgroupfs" == audit["kubelet"]["driver"]["value"]
    assert KUBELET_CONFIG in json.dumps(audit["kubelet"]["driver"])
    assert "cgroupfs" == audit["runtime"]["driver"]["value"]
    assert not [finding for finding in audit["findings"] if finding["severity"] == "blocker"]
    running = {c.id for c in node.containers()}
    rows = [row for row in audit["translations"] if row["kind"] == "container"]
    assert running | {row["container_id"] for row in rows if row["container"] == "POD"} == {
        row["container_id"] for row in rows
    }
    assert len(running) + 3 == len(rows)
    for row in rows:
        assert row["to_path"].endswith(f"/{SCOPE[node.flavour]}-{row['container_id']}.scope")
        assert row["to_path"].startswith("/kubepods.slice/")
    text = cgmigrate(node, "audit").stdout
    assert re.search(rf"kubelet +cgroupfs.*{KUBELET_CONFIG}:\d+", text)
    assert re.search(rf"{node.flavour} +cgroupfs", text)


def test_forward_and_back_and_forward_again(node: Node) -> None:
    """The whole promise: as the plan says, nothing left behind, byte-identical on the way back, and once more."""
    watch(node)
    original, before = files(node), config_files(node)

    cgmigrate(node, "plan", "--references", "-o", PLAN)
    plan = json.loads(node.read(PLAN))
    assert plan == document(node, "plan", "--references")
    cgmigrate(node, "apply", PLAN, "--yes")

    assert_on_systemd(node)
    assert_only_the_diff_changed(node, plan, before)
    assert_as_predicted(node, plan)
    assert_watching(node, "kubepods.slice/kubepods-burstable.slice")
    assert document(node, "verify")["ok"]
    node.run("systemctl daemon-reload")
    assert document(node, "verify")["ok"]
    assert "already-migrated" in cgmigrate(node, "audit").stdout
    assert_reported(node, plan, "committed", ["forward"])

    cgmigrate(node, "rollback", "--yes")

    assert_on_cgroupfs(node)
    assert_reported(node, plan, "rolled-back", ["forward", "back"])
    assert original == files(node)
    assert_watching(node, "kubepods/burstable")
    assert document(node, "verify", "--expect", "cgroupfs")["ok"]

    cgmigrate(node, "plan", "--references", "-o", PLAN)
    assert plan["steps"] == json.loads(node.read(PLAN))["steps"]
    cgmigrate(node, "apply", PLAN, "--yes")

    assert_on_systemd(node)
    assert document(node, "verify")["ok"]
    assert ["rolled-back", "committed"] == [
        run["status"] for run in json.loads(cgmigrate(node, "status", "--format", "json").stdout)
    ]


WATCHED = "/sys/fs/cgroup/memory/kubepods/burstable"
WATCHING = {
    "/etc/cron.d/usage": f"# of /kubepods\n* * * * * root cat {WATCHED}/memory.usage_in_bytes\n",
    "/etc/systemd/system/watch.service": f"[Unit]\nConditionPathIsDirectory={WATCHED}\n[Service]\nExecStart=/bin/sleep inf\n",
    "/etc/prometheus/rules.yml": 'a: x{id="/kubepods/burstable"}\nb: x{id=~"/kubepods/.*"}\n',
}


def watch(node: Node) -> None:
    """Have a cron job, a unit and a monitoring rule that name the old tree."""
    for path, text in WATCHING.items():
        node.run(["mkdir", "-p", path.rpartition("/")[0]])
        node.write(path, text)
    node.run("systemctl daemon-reload && systemctl start watch")
    assert_watching(node, "kubepods/burstable")


def assert_watching(node: Node, place: str) -> None:
    """Every sure reference names the cgroup that is there, systemd has read its own, and the unit starts by it."""
    for path, text in WATCHING.items():
        assert text.replace("kubepods/burstable", place) == node.read(path)
    node.run("systemctl restart watch")
    shown = node.run("systemctl show -P NeedDaemonReload -P ActiveState -P ConditionResult watch").stdout
    assert ["active", "no", "yes"] == sorted(shown.split())


def assert_reported(node: Node, plan: dict[str, list[dict[str, Any]]], status: str, ways: list[str]) -> None:
    """The run's own record tells its outage, what the witnesses said, and the tree that is there."""
    told = document(node, "report")
    after = {each["path"]: each["what"] for each in told["tree_after"]}
    pods = {
        row["to_path"]: f"{row['namespace']}/{row['pod']}"
        for row in plan["translations"]
        if row["kind"] == "pod"
    }

    assert (status, True, [], {}) == (told["status"], told["settled"], told["missing"], told["failed"] or {})
    assert ways == [each["direction"] for each in told["outages"]]
    assert all(0 < each["seconds"] < 300 for each in told["outages"])
    assert told["verification"]["ok"]
    assert all(each["ok"] for each in told["verification"]["checks"])
    assert pods == {path: what for path, what in after.items() if path in pods}
    if status == "committed":
        running = {each.id for each in node.containers()}
        assert running == {each for each in running if any(each in path for path in after)}
    assert cgmigrate(node, "report", "--format", "html").stdout.startswith("<!DOCTYPE html>")


def assert_only_the_diff_changed(
    node: Node, plan: dict[str, list[dict[str, Any]]], before: dict[str, str]
) -> None:
    """Comments, key order and indentation survive: the lines that differ are the lines of the diff shown."""
    shown = {
        step["params"]["path"]: step["params"]["diff"]
        for step in plan["steps"]
        if step["kind"] == "write-file"
    }
    for path, now in config_files(node).items():
        real = difflib.unified_diff(before[path].splitlines(), now.splitlines(), lineterm="")
        changed = [line for line in real if line[:1] in "+-" and not line.startswith(("+++", "---"))]
        promised = [
            line
            for line in shown[path].splitlines()
            if line[:1] in "+-" and not line.startswith(("+++", "---"))
        ]
        assert changed
        assert promised == changed


def assert_as_predicted(node: Node, plan: dict[str, list[dict[str, Any]]]) -> None:
    """Each pod is in the very slice of the table; each container in a scope there, of the form predicted."""
    slices = {row["pod_uid"]: row["to_path"] for row in plan["translations"] if row["kind"] == "pod"}
    memory = set(node.cgroups()["memory"])
    assert 3 == len(slices)
    assert set(slices.values()) <= memory
    for container in node.containers():
        scope = f"{SCOPE[node.flavour]}-{container.id}.scope"
        assert any(f"{each}/{scope}" in memory for each in slices.values()), container


def test_disagreeing_drivers_are_a_blocker_with_both_sources(node: Node) -> None:
    config = node.read(KUBELET_CONFIG)
    node.write(KUBELET_CONFIG, config.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd"))

    audit = document(node, "audit", check=3)
    found = [finding for finding in audit["findings"] if finding["id"] == "drivers-differ"]

    assert ["blocker"] == [finding["severity"] for finding in found]
    text = json.dumps(found)
    assert f"{KUBELET_CONFIG}:" in text
    assert "systemd" in text
    assert "cgroupfs" in text
    refused = cgmigrate(node, "plan", "-o", PLAN, check=3)
    assert "" == refused.stdout
    assert "" == node.run(["ls", "/root"]).stdout


CHANGES: dict[str, Callable[[Node], None]] = {
    "the kubelet's file": lambda node: node.write(KUBELET_CONFIG, node.read(KUBELET_CONFIG) + "# edited\n"),
    "the runtime's file": lambda node: node.write(
        RUNTIME_CONFIG[node.flavour], "\n" + node.read(RUNTIME_CONFIG[node.flavour])
    ),
    "another node's id": lambda node: node.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
}


def test_a_plan_that_no_longer_holds_is_refused(node: Node) -> None:
    """A planned file changed, another node, a forged step: exit 4, the difference shown, nothing touched."""
    cgmigrate(node, "plan", "-o", PLAN)
    plan = json.loads(node.read(PLAN))
    processes = node.run(["systemctl", "show", "-P", "InvocationID", "kubelet", node.flavour]).stdout

    for what, change in CHANGES.items():
        old = {
            path: node.read(path)
            for path in (KUBELET_CONFIG, RUNTIME_CONFIG[node.flavour], "/etc/machine-id")
        }
        change(node)
        state = files(node)
        refused = cgmigrate(node, "apply", PLAN, "--yes", check=4)
        assert "plan" in refused.stderr, what
        assert state == files(node), what
        for path, text in old.items():
            node.write(path, text)

    forgeries = [
        {**plan["steps"][5], "params": {**plan["steps"][5]["params"], "path": "/etc/shadow"}},
        {"id": "x", "kind": "run-shell", "why": "harmless", "params": {"command": "touch /root/pwned"}},
        {**plan["steps"][2], "params": {"units": ["dbus.service"], "needs": []}},
    ]
    for forged in forgeries:
        node.write("/root/forged.json", json.dumps({**plan, "steps": [*plan["steps"], forged]}))
        state = files(node)
        cgmigrate(node, "apply", "/root/forged.json", "--yes", check=4)
        assert state == files(node)

    assert processes == node.run(["systemctl", "show", "-P", "InvocationID", "kubelet", node.flavour]).stdout
    assert [] == json.loads(cgmigrate(node, "status", "--format", "json").stdout)
    assert "forged.json\nplan.json\n" == node.run(["ls", "/root"]).stdout


BROKEN = {
    "docker": (RUNTIME_CONFIG["docker"], '{\n  "log-driver": "json-file",\n  oops\n}\n', 3),
    "containerd": (RUNTIME_CONFIG["containerd"], "version = 2\n[plugins\n", 2),
}


def test_bad_input_is_named_with_file_and_line_and_changes_nothing(node: Node) -> None:
    """Broken JSON, TOML and YAML, a missing file, not root, a daemon that is down, a truncated plan."""
    cgmigrate(node, "plan", "-o", PLAN)
    plan = node.read(PLAN)
    path, broken, line = BROKEN[node.flavour]
    good = node.read(path)
    state = files(node)

    node.write(path, broken)
    assert f"{path}:{line}" in cgmigrate(node, "audit", check=3).stdout
    assert f"{path}:{line}" in cgmigrate(node, "plan", check=3).stderr
    cgmigrate(node, "apply", PLAN, "--yes", check=4)
    node.write(path, good)

    config = node.read(KUBELET_CONFIG)
    node.write(KUBELET_CONFIG, config.replace("authorization:", "authorization: ]["))
    assert re.search(rf"{KUBELET_CONFIG}:\d+", cgmigrate(node, "audit", check=3).stdout)
    node.run(["rm", KUBELET_CONFIG])
    assert KUBELET_CONFIG in cgmigrate(node, "audit", check=3).stdout
    node.write(KUBELET_CONFIG, config)
    assert state["sums"] == files(node)["sums"]

    node.write("/root/cut.json", plan[: len(plan) // 2])
    assert re.search(
        r"/root/cut.json:\d+: not a plan", cgmigrate(node, "apply", "/root/cut.json", "--yes", check=2).stderr
    )
    assert "/root/none.json" in cgmigrate(node, "apply", "/root/none.json", "--yes", check=2).stderr
    assert "--yes" in cgmigrate(node, "apply", PLAN, check=2).stderr

    node.run(["chmod", "-R", "a+rX", "/root"])
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for arguments, code in ((["audit"], 3), (["apply", PLAN, "--yes"], 2), (["rollback", "--yes"], 2)):
        refused = node.run([*nobody, "cgmigrate", *arguments], check=False)
        assert code == refused.returncode, refused.stderr
        assert "root" in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr

    node.run(["systemctl", "stop", *(["docker.socket"] if node.flavour == "docker" else []), node.flavour])
    down = cgmigrate(node, "audit", check=3).stdout
    assert f"{node.flavour}.service" in down
    assert "inactive" == node.run(["systemctl", "is-active", node.flavour], check=False).stdout.strip()
    cgmigrate(node, "plan", check=3)
    assert state["sums"] == files(node)["sums"]
    assert [] == json.loads(cgmigrate(node, "status", "--format", "json").stdout)


@pytest.mark.parametrize("flavour", ["docker", "containerd"])
def test_an_open_run_blocks_the_next_and_is_not_forgotten(make_node: MakeNode, flavour: str) -> None:
    node = make_node(flavour)
    cgmigrate(node, "plan", "-o", PLAN)
    process = node.popen(["cgmigrate", "apply", PLAN, "--yes"])
    while "stopping" not in (line := process.stderr.readline() if process.stderr else ""):
        assert line, "the run ended before it began"
    assert "another cgmigrate is at work" in cgmigrate(node, "rollback", "--yes", check=4).stderr
    process.terminate()
    process.communicate(timeout=120)
    assert 7 == process.returncode

    name = json.loads(cgmigrate(node, "status", "--format", "json", check=7).stdout)[0]["run"]
    assert "resume" in cgmigrate(node, "apply", PLAN, "--yes", check=4).stderr
    assert "not settled" in cgmigrate(node, "forget", name, "--yes", check=4).stderr

    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    cgmigrate(node, "forget", name, "--yes")
    assert "no runs" in cgmigrate(node, "status").stdout

# SPDX-License-Identifier: Apache-2.0
"""The way back when something else is wrong too: a dead runtime, a lost blob, pods that changed, nobody listening."""

from __future__ import annotations

import json
from pathlib import Path

from .cycle import PLAN, assert_on_cgroupfs, assert_on_systemd, cgmigrate, config_files, files
from .node import KUBELET_CONFIG, RUNTIME_CONFIG, Node

MANIFESTS = "/etc/kubernetes/manifests"


def applied(node: Node) -> Path:
    """Apply, and return the run's directory as the host sees it."""
    cgmigrate(node, "plan", "-o", PLAN)
    cgmigrate(node, "apply", PLAN, "--yes")
    return max((Path(node.root) / "var/lib/cgmigrate/runs").iterdir())


def test_a_runtime_that_is_dead_with_the_new_file_is_taken_back(node: Node) -> None:
    """Its containers may live on in the new slices; they go once the old runtime runs, before the kubelet does."""
    original = files(node)
    applied(node)
    path = RUNTIME_CONFIG[node.flavour]
    node.write(path, node.read(path) + "broken = [\n")
    node.run(["systemctl", "restart", node.flavour], check=False)

    done = cgmigrate(node, "rollback", "--yes")

    assert f"{path}.cgmigrate-saved" in done.stderr
    assert node.read(f"{path}.cgmigrate-saved").endswith("broken = [\n")
    node.run(["rm", f"{path}.cgmigrate-saved"])
    assert_on_cgroupfs(node)
    assert original == files(node)


def test_a_file_that_cannot_be_restored_keeps_the_units_down_until_it_is(node: Node) -> None:
    """Nothing is started on half of the files; mended by hand, the rollback goes on from there."""
    before, original = config_files(node), files(node)
    run = applied(node)
    path = RUNTIME_CONFIG[node.flavour]
    undo = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    blob = next(
        record["data"]["undo"]["state"]["sha256"]
        for record in undo
        if record["kind"] == "captured" and record["step"] == f"write-file:{path}"
    )
    saved = (run / "blobs" / blob).read_bytes()
    (run / "blobs" / blob).unlink()

    failed = cgmigrate(node, "rollback", "--yes", check=6)

    assert f"write-file:{path}" in failed.stderr
    assert "not tried until then" in failed.stderr
    assert node.read(KUBELET_CONFIG) == before[KUBELET_CONFIG]
    for unit in ("kubelet", node.flavour):
        assert "inactive" == node.run(["systemctl", "is-active", unit], check=False).stdout.strip()
        node.run(["systemctl", "start", unit], check=False)
        assert "inactive" == node.run(["systemctl", "is-active", unit], check=False).stdout.strip()

    (run / "blobs" / blob).write_bytes(saved)
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)


def test_static_pods_that_are_gone_or_edited_by_then_do_not_hold_the_rollback(node: Node) -> None:
    applied(node)
    names = node.run(["ls", MANIFESTS]).stdout.split()
    node.run(["mv", f"{MANIFESTS}/{names[0]}", "/root/"])
    edited = f"{MANIFESTS}/{names[1]}"
    node.write(edited, node.read(edited).replace("metadata:", "metadata:\n  labels: {edited: by-hand}", 1))

    cgmigrate(node, "rollback", "--yes")

    assert "committed" not in cgmigrate(node, "status").stdout
    node.run(["mv", f"/root/{names[0]}", f"{MANIFESTS}/"])
    assert_on_cgroupfs(node)


def test_a_power_cut_after_the_guard_was_released_leaves_a_finished_run_finished(node: Node) -> None:
    """The record of the last step is missing, and the node has booted as it should: nothing is done again."""
    original = files(node)
    run = applied(node)
    cut(run, 2)
    node.power_cut()
    node.boot()
    node.wait_pods()
    ids = {container.id for container in node.containers()}

    cgmigrate(node, "resume")
    assert ids == {container.id for container in node.containers()}
    assert_on_systemd(node)

    cgmigrate(node, "rollback", "--yes")
    cut(run, 2)
    node.power_cut()
    node.boot()
    node.wait_pods()
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)


def cut(run: Path, count: int) -> None:
    """Take the last records off a journal, as if they had not been written."""
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run / "journal.jsonl").write_bytes(b"".join(lines[:-count]))


def test_nobody_listening_does_not_decide_a_run(node: Node) -> None:
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)

    node.run(f"cgmigrate apply {PLAN} --yes 2>&1 | head -n 3", timeout=200)
    assert_on_systemd(node)
    assert "committed" in cgmigrate(node, "status").stdout
    assert 0 == node.run("cgmigrate rollback --yes 2>&- >&-", check=False, timeout=200).returncode
    assert_on_cgroupfs(node)
    assert original == files(node)


def test_an_older_run_is_not_taken_back_from_under_a_newer_one(node: Node) -> None:
    first = applied(node).name
    cgmigrate(node, "rollback", "--yes")
    second = applied(node).name
    node.run(f"cp -a /var/lib/cgmigrate/runs/{second} /var/lib/cgmigrate/runs/20990101T000000Z-00000000")

    refused = cgmigrate(node, "rollback", second, "--yes", check=4)

    assert "20990101T000000Z-00000000" in refused.stderr
    assert "nothing to do" in cgmigrate(node, "rollback", first, "--yes").stdout

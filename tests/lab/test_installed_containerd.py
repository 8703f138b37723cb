# SPDX-License-Identifier: Apache-2.0
"""The containerd that is installed is asked before a plan holds: it may be another one than the one that runs."""

from __future__ import annotations

import json
import shutil

from tests.judges.daemons import CONTAINERD, SUITES

from .cache import build
from .conftest import MakeNode
from .cycle import PLAN, assert_on_cgroupfs, cgmigrate, document, files
from .node import RUNTIME_CONFIG, Node

PROGRAM = "/usr/bin/containerd"
OWN = "/etc/containerd/conf.d/10-own.toml"
IMPORTED = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def judgements(node: Node) -> list[str]:
    return [
        each["id"] for each in document(node, "plan")["findings"] if each["id"].startswith("containerd-dump")
    ]


def replace_program(node: Node, program: str) -> None:
    """Put another program in the place of containerd's, as an upgrade without a restart does."""
    node.run(["mv", program, PROGRAM])


def test_an_upgrade_that_was_not_restarted_reads_the_files_otherwise_and_is_refused_until_it_is(
    make_node: MakeNode,
) -> None:
    """1.6 looks for `conf.d/*.toml` below /, 1.7 beside its file, where it replaces the table of CRI."""
    build([SUITES[CONTAINERD["1.7"]]], lambda: None)
    node = make_node("containerd")
    main = RUNTIME_CONFIG["containerd"]
    cgmigrate(node, "plan", "-o", PLAN)
    assert judgements(node) == []
    node.run(["mkdir", "-p", OWN.rpartition("/")[0]])
    node.write(main, node.read(main).replace("version = 2", 'version = 2\nimports = ["conf.d/*.toml"]'))
    node.write(OWN, IMPORTED)
    assert judgements(node) == []
    cgmigrate(node, "plan", "-o", PLAN)
    before = files(node)
    shutil.copy(SUITES[CONTAINERD["1.7"]].path / "containerd", node.root / "usr/bin/containerd.new")
    node.run(["cp", "--preserve", PROGRAM, "/root/containerd-1.6"])
    replace_program(node, "/usr/bin/containerd.new")

    refused = cgmigrate(node, "plan", check=3).stderr
    conflict = cgmigrate(node, "apply", PLAN, "--yes", check=4).stderr

    for said in (refused, conflict):
        assert 'sandbox_image: "registry.k8s.io/pause:3.8" → "k8s.gcr.io/pause:3.2"' in said
        assert "is it another version than the one that runs (1.6.20" in said
    assert before == files(node)
    assert json.loads(cgmigrate(node, "status", "--format", "json").stdout) == []
    assert_on_cgroupfs(node)

    node.write(PROGRAM, "#!/bin/sh\necho nothing to say >&2; exit 1\n")
    assert judgements(node) == ["containerd-dump-unknown"]
    replace_program(node, "/root/containerd-1.6")
    assert judgements(node) == []
    assert before == files(node)

# SPDX-License-Identifier: Apache-2.0
"""What kubeadm lays over a node's kubelet configuration: which files are read, and what is said of them (F18)."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.checks import run_checks
from migrator.facts.kubeadm import INSTANCE, PATCHES, gather_patches
from migrator.facts.look import Look
from migrator.facts.model import Facts
from migrator.findings import Severity
from tests.unit.facts_base import QUIET, but, switched
from tests.unit.nodes import lay

W, I = Severity.WARNING, Severity.INFO  # noqa: E741 (columns of the table)
MERGE = f"{PATCHES}/kubeletconfiguration0+merge.yaml"
JSON = f"{PATCHES}/kubeletconfiguration+json.yaml"
DRIVER = "cgroupDriver: cgroupfs\n"


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        ({MERGE: "# ours\n" + DRIVER}, [(f"{MERGE}:2", "cgroupDriver", "cgroupfs")]),
        (
            {f"{PATCHES}/kubeletconfiguration.json": '{"kubeReservedCgroup": "/k", "maxPods": 9}'},
            [(f"{PATCHES}/kubeletconfiguration.json:1", "kubeReservedCgroup", "/k")],
        ),
        (
            {INSTANCE: DRIVER, f"{PATCHES}/kubeletconfiguration1+strategic.yaml": "cgroupRoot: /pods\n"},
            [
                (f"{INSTANCE}:1", "cgroupDriver", "cgroupfs"),
                (f"{PATCHES}/kubeletconfiguration1+strategic.yaml:1", "cgroupRoot", "/pods"),
            ],
        ),
        (
            {JSON: "# ours\n- {op: add, path: /cgroupDriver, value: cgroupfs}\n"},
            [(f"{JSON}:2", "cgroupDriver", "cgroupfs")],
        ),
        (
            {
                f"{PATCHES}/kubeletconfiguration0+json.json": '[\n\t{"op": "replace", "path": "/kubeReservedCgroup",\n\t'
                '"value": "/k"},\n\t{"op": "add", "path": "/maxPods", "value": 9}\n]\n'
            },
            [(f"{PATCHES}/kubeletconfiguration0+json.json:2", "kubeReservedCgroup", "/k")],
        ),
        (
            {
                JSON: "- {op: add, path: /cgroupDriver, value: cgroupfs}\n- op: replace\n  path: /cgroupDriver\n  value: systemd\n"
            },
            [(f"{JSON}:3", "cgroupDriver", "systemd")],
        ),
        (
            {
                JSON: "- {op: remove, path: /evictionHard/cgroupDriver}\n- {op: test, path: /maxPods, value: 9}\n"
            },
            [],
        ),
        ({JSON: ""}, []),
        ({INSTANCE: "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"}, []),
        ({f"{PATCHES}/etcd0.yaml": DRIVER}, []),
        ({f"{PATCHES}/kubeletconfiguration0+merge.yaml.bak": DRIVER}, []),
        ({f"{PATCHES}/kubeletconfiguration0+odd.yaml": DRIVER}, []),
        ({}, []),
    ],
)
def test_what_patches_state_is_read_as_kubeadm_names_them(
    tmp_path: Path, files: dict[str, str], stated: list[tuple[str, str, str]]
) -> None:
    look = Look(lay(tmp_path, files))

    assert (stated, []) == (list(gather_patches(look)), look.unknowns)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (
            JSON,
            "- {op: remove, path: /cgroupDriver}\n",
            "`remove` of /cgroupDriver; what it makes is not judged",
        ),
        (JSON, "- {op: test, path: /cgroupDriver, value: x}\n", "`test` of /cgroupDriver; what"),
        (JSON, "- {op: copy, path: /cgroupRoot, from: /staticPodPath}\n", "`copy` of /cgroupRoot; what"),
        (JSON, "- {op: move, path: /x, from: /cgroupRoot}\n", "`move` of /cgroupRoot; what"),
        (JSON, "- {op: add, path: /cgroupDriver, value: [x]}\n", "`add` of /cgroupDriver; what"),
        (JSON, "- {op: replace, path: '', value: {kind: x}}\n", "`replace` of the whole document; what"),
        (
            JSON,
            "- {op: add, path: /cgroupDriver, value: x}\n- {op: remove, path: /cgroupDriver}\n",
            "`remove` of /cgroupDriver; what",
        ),
        (JSON, "cgroupDriver: cgroupfs\n", f"{JSON}:1: a patch of type `json` is a list of operations"),
        (JSON, "- [\n", f"{JSON}:"),
        (
            f"{PATCHES}/kubeletconfiguration.yaml",
            "cgroupDriver: [\n",
            f"{PATCHES}/kubeletconfiguration.yaml:",
        ),
    ],
)
def test_what_cannot_be_read_of_a_patch_is_a_fact_and_refuses_nothing(
    tmp_path: Path, path: str, text: str, said: str
) -> None:
    look = Look(lay(tmp_path, {path: text}))

    assert () == gather_patches(look)
    assert [("kubeadm.patches", True)] == [(each.subject, said in each.reason) for each in look.unknowns]


def patched(facts: Facts, *stated: tuple[str, str, str]) -> Facts:
    return but(facts, kubelet={"patches": stated})


@pytest.mark.parametrize(
    ("facts", "severities"),
    [
        (patched(QUIET, (f"{MERGE}:2", "cgroupDriver", "cgroupfs")), [W]),
        (patched(switched(), (f"{MERGE}:2", "cgroupDriver", "cgroupfs")), [W]),
        (patched(QUIET, (f"{MERGE}:2", "cgroupDriver", "systemd")), [I]),
        (patched(switched(), (f"{MERGE}:2", "cgroupDriver", "systemd")), []),
        (patched(QUIET, (f"{MERGE}:2", "kubeReservedCgroup", "/k")), [W]),
        (patched(QUIET, (f"{MERGE}:1", "cgroupDriver", "systemd"), (f"{MERGE}:2", "cgroupRoot", "/p")), [W]),
        (
            patched(
                but(switched(), kubelet={"reserved_cgroups": (("kubeReservedCgroup", "/k.slice"),)}),
                (f"{MERGE}:2", "kubeReservedCgroup", "/k.slice"),
            ),
            [],
        ),
        (
            patched(
                QUIET,
                (f"{INSTANCE}:1", "cgroupDriver", "cgroupfs"),
                (f"{MERGE}:1", "cgroupDriver", "systemd"),
            ),
            [W, I],
        ),
    ],
)
def test_a_patch_that_would_take_the_node_back_is_found(facts: Facts, severities: list[Severity]) -> None:
    found = [each for each in run_checks(facts) if each.id == "kubeadm-patches"]

    assert severities == [each.severity for each in found]
    assert all("kubeadm upgrade node" in each.detail for each in found)
    assert [bool(each.remediation) for each in found] == [severity is W for severity in severities]


def test_instance_config_is_laid_over_without_an_option() -> None:
    stated = patched(QUIET, (f"{INSTANCE}:1", "cgroupDriver", "cgroupfs"))
    (found,) = [each for each in run_checks(stated) if each.id == "kubeadm-patches"]

    assert "`kubeadm upgrade node` writes it to /var/lib/kubelet/config.yaml" in found.detail

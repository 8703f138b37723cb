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
    ("name", "text", "said"),
    [
        ("kubeletconfiguration+json.yaml", "- {op: add, path: /cgroupDriver, value: x}\n", "not judged"),
        ("kubeletconfiguration.yaml", "cgroupDriver: [\n", f"{PATCHES}/kubeletconfiguration.yaml:"),
    ],
)
def test_what_cannot_be_read_of_a_patch_is_a_fact_and_refuses_nothing(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    look = Look(lay(tmp_path, {f"{PATCHES}/{name}": text}))

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

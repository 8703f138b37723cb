# SPDX-License-Identifier: Apache-2.0
"""What dpkg's database tells of an image's programs: only of those that are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.facts.look import Look
from migrator.facts.packages import DATABASE, installed_version, package_version
from tests.unit.nodes import lay

STATUS = """Package: kubelet-doc
Status: install ok installed
Version: 9.9.9

Package: kubelet
Status: hold ok installed
Version: 1.28.9-1.1

Package: kubectl
Status: deinstall ok config-files
Version: 1.19.0-00

Package: crio
Status: install ok half-installed
Version: 1.30.0-1

Package: containerd.io
Status: install ok installed
Description: a runtime
 Version: 0.0.0
 Package: containerd
Version: 1.6.33-1

Package: runsc
Status: install ok installed
Version: 20240807.0

Package: cri-tools
Status: install ok triggers-pending
Version: 1.28.0-1.1

Package: runc
Status: hold ok triggers-awaited
Version: 1.1.5+ds1-1

Package: docker-ce
Version: 5:26.1.4-1~debian.12~bookworm
Status: install ok installed
"""


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("containerd.io", "1.6.33-1"),
        ("docker-ce", "26.1.4-1~debian.12~bookworm"),
        ("runsc", "20240807.0"),
        pytest.param("kubelet", "1.28.9-1.1", id="on hold, as the kubelet's often is"),
        pytest.param("cri-tools", "1.28.0-1.1", id="its own triggers pending"),
        pytest.param("runc", "1.1.5+ds1-1", id="waiting for another's triggers"),
        pytest.param("kubectl", "", id="removed, and its configuration left"),
        pytest.param("crio", "", id="half installed"),
        pytest.param("containerd", "", id="not there"),
    ],
)
def test_a_package_has_a_version_where_it_is_installed(tmp_path: Path, name: str, version: str) -> None:
    assert version == installed_version(Look(lay(tmp_path, {DATABASE: STATUS})), name)


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (("containerd.io", "containerd"), "1.6.33"),
        (("containerd", "containerd.io"), "1.6.33"),
        (("docker-ce",), "26.1.4"),
        (("kubectl", "kubelet"), "1.28.9"),
        (("runsc",), None),
        ((), None),
    ],
)
def test_an_image_s_packages_tell_versions(
    tmp_path: Path, names: tuple[str, ...], version: str | None
) -> None:
    assert version == package_version(Look(lay(tmp_path, {DATABASE: STATUS})), *names)

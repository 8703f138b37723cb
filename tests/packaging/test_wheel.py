# SPDX-License-Identifier: Apache-2.0
"""What a user installs works without the checkout: the wheel is complete and runs on its own dependencies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from migrator import __version__
from migrator.schemas import NAMES

ROOT = Path(__file__).resolve().parents[2]
POD = "/kubepods/besteffort/pod0798b0e6-e445-4738-87b6-91bc5cc5e57f"
SLICE = (
    "/kubepods.slice/kubepods-besteffort.slice/"
    "kubepods-besteffort-pod0798b0e6_e445_4738_87b6_91bc5cc5e57f.slice"
)


def run(words: Sequence[str | Path], cwd: Path, **more: str) -> str:
    """Run a command outside the checkout and return its stdout; a failure shows both streams."""
    ours = ("PYTHON", "VIRTUAL_ENV", "PYTEST")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more
    done = subprocess.run(words, cwd=cwd, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel, built from a copy of what git would check out."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    (source / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "cgmigrate.1", source / "docs")
    shutil.copytree(ROOT / "migrator", source / "migrator", ignore=shutil.ignore_patterns("__pycache__"))
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, source], directory)
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the bin directory of a fresh environment with the wheel and its locked dependencies, and nothing else."""
    directory = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", directory / "venv"], directory)
    programs = directory / "venv" / "bin"
    pip: list[str | Path] = [programs / "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", ROOT / "requirements.txt"], directory)
    run([*pip, "--no-deps", wheel], directory)
    return programs


def test_the_wheel_holds_the_schemas_the_type_marker_and_the_licence_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"migrator/schemas/{name}.schema.json" for name in NAMES} | {"migrator/py.typed"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "migrator").rglob("*.py")}

    assert (wanted | modules) - names == set()
    assert [name for name in names if name.endswith("licenses/LICENSE")] != []
    data = f"cgmigrate-{__version__}.data"
    assert {name.split("/")[0] for name in names} == {"migrator", data, f"cgmigrate-{__version__}.dist-info"}
    assert [name for name in names if name.startswith(data)] == [f"{data}/data/share/man/man1/cgmigrate.1"]


def test_the_dependencies_agree_with_each_other(installed: Path, tmp_path: Path) -> None:
    assert run([installed / "pip", "check"], tmp_path).strip() == "No broken requirements found."


def test_the_command_runs_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    command = installed / "cgmigrate"

    assert run([command, "--version"], tmp_path) == f"cgmigrate {__version__}\n"
    assert run([command, "translate", POD], tmp_path) == f"{SLICE}\n"
    assert "Usage: cgmigrate" in run([command, "--help"], tmp_path)
    assert (installed.parent / "share/man/man1/cgmigrate.1").read_text() == (
        ROOT / "docs/cgmigrate.1"
    ).read_text()
    assert '"$id": "plan-1.schema.json"' in run([command, "schema", "plan-1"], tmp_path)


def test_every_module_can_be_imported_without_the_developers_tools(installed: Path, tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "migrator").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    code = f"import importlib\nfor name in {modules}: importlib.import_module(name)\nprint(len({modules}))"

    assert run([installed / "python", "-c", code], tmp_path) == f"{len(modules)}\n"


def test_an_audit_of_an_empty_directory_ends_with_findings_and_not_with_a_traceback(
    installed: Path, tmp_path: Path
) -> None:
    words: list[str | Path] = [installed / "cgmigrate", "--root", tmp_path, "audit"]
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, check=False)

    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (3, False)
    assert "kubelet-missing" in done.stdout


def test_pipx_installs_it(wheel: Path, tmp_path: Path) -> None:
    pipx = shutil.which("pipx")
    if pipx is None:
        pytest.skip("pipx is not installed here")
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    run([pipx, "install", str(wheel)], tmp_path, **places)

    assert run([tmp_path / "bin" / "cgmigrate", "--version"], tmp_path) == f"cgmigrate {__version__}\n"

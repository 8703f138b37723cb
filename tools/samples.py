# SPDX-License-Identifier: Apache-2.0
"""The sample nodes of `tests/nodes`: each a folder with what is special about it, laid over another one.

    tools/samples.py                 the list
    tools/samples.py lay NAME DIR    the node's files, as an image for `cgmigrate --root DIR`

`tests/nodes/README.md` tells what a folder holds.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from migrator.configs.secrets import mask_words  # noqa: E402 - a script beside the package
from migrator.facts.gather import gather, settle_driver  # noqa: E402 - a script beside the package
from migrator.facts.kubelet import KubeletLook, gather_kubelet  # noqa: E402 - a script beside the package
from migrator.facts.look import Look  # noqa: E402 - a script beside the package
from migrator.facts.model import Driver, Facts, Runtime, Source, Unit  # noqa: E402 - a script beside the package
from migrator.facts.runtime import RuntimeLook  # noqa: E402 - a script beside the package
from migrator.facts.store import from_json, load, to_json  # noqa: E402 - a script beside the package
from migrator.facts.units import read_command  # noqa: E402 - a script beside the package
from migrator.host import Reader  # noqa: E402 - a script beside the package
from migrator.plan_options import PlanOptions  # noqa: E402 - a script beside the package

NODES = ROOT / "tests/nodes"
PACKAGES = {
    "kubelet": "kubelet",
    "docker": "docker-ce",
    "containerd": "containerd.io",
    "crio": "cri-o",
    "runsc": "runsc",
}
"""Versions are laid down as an image has them, in the package database, so that what depends on them is found by the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One folder's `node.toml`, with what it takes over from its base."""

    name: str
    special: str
    """One sentence: what makes this node worth a folder."""
    group: str
    """Heading under which plans/README.md has it."""
    folders: tuple[Path, ...]
    """From the first base to the node's own."""
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Paths that a folder takes away from what lies below it, by the folder's name."""
    runs: Mapping[str, Any] = field(default_factory=dict)
    """What the running node tells beyond its files: versions (`kubelet`, `docker`, `containerd`, `crio`), `tells` (the
    driver in its answer to RuntimeConfig), `cri`; `live = false`: nothing, it is an image."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that only the running node tells, in the shape of facts-1."""
    options: PlanOptions = field(default_factory=PlanOptions)

    @property
    def captured(self) -> Path | None:
        """The file with the facts of a real node, where the first folder is one."""
        path = self.folders[0] / "facts.json"
        return path if path.exists() else None

    @property
    def is_captured(self) -> bool:
        """Whether it is that real node itself."""
        return self.captured is not None and len(self.folders) == 1


def names() -> list[str]:
    """Return the sample nodes."""
    return sorted(path.parent.name for path in NODES.glob("*/node.toml"))


@functools.cache
def sample(name: str) -> Sample:
    """Return a sample node's description."""
    folder = NODES / name
    said = tomllib.loads((folder / "node.toml").read_text("utf-8"))
    wrong = set(said) - {"special", "group", "base", "removes", "runs", "facts", "options"}
    if wrong:
        raise ValueError(f"{folder}/node.toml: {', '.join(sorted(wrong))}: no such key")
    base = sample(said["base"]) if "base" in said else None
    removed = {name: tuple(said.get("removes", ()))}
    runs = {**(base.runs if base else _versions(folder)), **said.get("runs", {})}
    return Sample(
        name=name,
        special=said["special"],
        group=said["group"],
        folders=(*(base.folders if base else ()), folder),
        removed={**base.removed, **removed} if base else removed,
        runs=runs,
        facts=over(base.facts if base else {}, said.get("facts", {})),
        options=replace(base.options if base else PlanOptions(), **said.get("options", {})),
    )


def _versions(folder: Path) -> dict[str, Any]:
    """Return what a captured node runs."""
    if not (folder / "facts.json").exists():
        return {}
    real = load((folder / "facts.json").read_bytes())
    return {
        "kubelet": real.kubelet.version,
        real.runtime.kind: real.runtime.version,
        "cri": real.runtime.cri_version,
    }


def over(below: Any, above: Any) -> Any:
    """Lay JSON data over other data: objects key by key, everything else as a whole."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: over(below.get(key), value) for key, value in above.items()}}
    return above


def lay(each: Sample, root: Path) -> None:
    """Write a node's files below `root`, which is made."""
    root.mkdir(parents=True)
    for folder in each.folders:
        for path in each.removed.get(folder.name, ()):
            place = root / path.removeprefix("/")
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        if (folder / "root").is_dir():
            shutil.copytree(folder / "root", root, symlinks=True, dirs_exist_ok=True)
    packages = {
        PACKAGES[name]: version for name, version in each.runs.items() if version and name in PACKAGES
    }
    if packages:
        database = root / "var/lib/dpkg/status"
        database.parent.mkdir(parents=True, exist_ok=True)
        database.write_text(
            "\n".join(
                f"Package: {name}\nStatus: install ok installed\nVersion: {version}-1\n"
                for name, version in packages.items()
            )
        )


@functools.cache
def _shelf() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cgmigrate-samples-")


@functools.cache
def reader(name: str) -> Reader:
    """Return a reader of a node's files; a captured node's own folder holds them all."""
    each = sample(name)
    if each.is_captured:
        return Reader(each.folders[0] / "root")
    root = Path(_shelf().name) / name
    lay(each, root)
    return Reader(root)


@functools.cache
def facts(name: str) -> Facts:
    """Return the facts of a node: those that were captured, or `look_at`'s."""
    each = sample(name)
    if each.is_captured and each.captured:
        return load(each.captured.read_bytes())
    return look_at(each, reader(name))


def look_at(each: Sample, image: Reader) -> Facts:
    """Return what a look at the running node would give: what its files say, and what it tells beyond them."""
    found = gather(image)
    if each.captured:
        found = _as_captured(found, load(each.captured.read_bytes()))
    if each.runs.get("live", True):
        found = _running(found, image, each.runs)
    return from_json(over(to_json(found), each.facts))


def _as_captured(found: Facts, real: Facts) -> Facts:
    """Take from the real node what its files do not tell."""
    node = replace(
        real.node,
        distribution=found.node.distribution,
        distribution_evidence=found.node.distribution_evidence,
        distribution_files=found.node.distribution_files,
        agents=found.node.agents,
    )
    return replace(
        found,
        node=node,
        kubelet=replace(found.kubelet, checkpoints=real.kubelet.checkpoints, places=real.kubelet.places),
        cgroups=replace(real.cgroups, slice_drop_ins=found.cgroups.slice_drop_ins),
        runtime=replace(found.runtime, oci=real.runtime.oci),
        manager=real.manager,
        pods=real.pods,
        other_containers=real.other_containers,
        unknowns=tuple(each for each in found.unknowns if each.subject.startswith("/")),
    )


def _running(found: Facts, image: Reader, runs: Mapping[str, Any]) -> Facts:
    """Return the facts as they are once the node runs with its files: started after their last change, and in force."""
    look = Look(image)
    kubelet, runtime = found.kubelet, _runtime(found.runtime, runs)
    if told := runs.get("tells"):
        asks = gather_kubelet(look, None).asks_runtime
        kubelet = settle_driver(look, KubeletLook(kubelet, asks), RuntimeLook(runtime, (), told))
    if kubelet.unit:
        argv = mask_words(word.text for word in read_command(look, kubelet.unit))
        kubelet = replace(kubelet, unit=_active(kubelet.unit), argv=argv)
    return replace(
        found,
        node=replace(found.node, live=True, uid=0, architecture="x86_64"),
        kubelet=replace(kubelet, driver_running=kubelet.driver),
        runtime=runtime,
        unknowns=tuple(each for each in found.unknowns if each.subject != "kubelet.decides"),
    )


def _runtime(runtime: Runtime, runs: Mapping[str, Any]) -> Runtime:
    told = runs.get("tells", runtime.driver.value)
    kind = "runtime" if "tells" in runs else "daemon"
    reported = Driver(value=told, chain=(Source(kind=kind, value=told, path=runtime.socket),))
    return replace(
        runtime,
        units=tuple(map(_active, runtime.units)),
        version=runs.get(runtime.kind, runtime.version),
        cri_version=runs.get("cri", "v1"),
        driver_reported=reported if told else Driver(value=None),
    )


def _active(unit: Unit) -> Unit:
    return replace(unit, active_state="active", sub_state="running", unit_file_state="enabled")


def main(words: list[str]) -> int:
    """List the nodes, or lay one out."""
    match words:
        case []:
            for name in names():
                print(f"{name}: {sample(name).special}")
        case ["lay", name, target] if name in names() and not Path(target).exists():
            lay(sample(name), Path(target))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""Nodes to crash, what a run on them is, and what is compared at its end."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migrator.audit import audit
from migrator.engine import Engine, fail_back
from migrator.errors import (
    CgmigrateError,
    ConflictError,
    DirtyError,
    InterruptedRunError,
    LeftToDoError,
    RolledBackError,
)
from migrator.facts.gather import gather
from migrator.facts.model import Cgroups, Facts, KubeletConfigMap
from migrator.facts.store import digest, dump, load
from migrator.host import Host, Reader
from migrator.interrupt import Interrupt
from migrator.journal import Run, Runs
from migrator.plan import Plan, make_plan, plan_digest, render
from migrator.plan_options import PlanOptions
from migrator.session import Voice, engine_of
from tests.crash.disk import Crash, Fate
from tests.crash.simulator import Api, Machine, SimPod, doors
from tests.unit.cluster_base import ADMIN, cluster, cluster_node, cluster_pod

NODES = Path(__file__).resolve().parent.parent / "nodes"
CONFIG_MAP = "kubelet-config-1.20"
SETTINGS = b"apiVersion: kubelet.config.k8s.io/v1beta1\ncgroupDriver: cgroupfs\nkind: KubeletConfiguration\n"
WITH_FLAG = (
    "/etc/systemd/system/kubelet.service.d/20-flag.conf",
    "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --cgroup-driver=cgroupfs $KUBELET_CONFIG_ARGS\n",
)
HANDLER = (
    '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nSystemdCgroup = false\n'
)
WITH_IMPORT = (
    ("/etc/containerd/config.toml", 'imports = ["/etc/containerd/conf.d/*.toml"]\nversion = 2\n' + HANDLER),
    ("/etc/containerd/conf.d/10-runc.toml", "version = 2\n" + HANDLER),
)
QUIET = Voice(say=lambda _: None, tell=lambda _: None)


@dataclass(frozen=True)
class Variant:
    """A kind of node: which sample it is made of, and what is added."""

    sample: str
    runtime: str
    files: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Symbolic link → target as written."""
    without: tuple[str, ...] = ()
    """Directories of the sample that this node does not have."""
    in_cluster: bool = False
    control_plane: bool = False
    cordoned: bool = False
    """Somebody cordoned it before."""


VARIANTS = {
    "docker": Variant("docker-20.10-kubelet-1.20", "docker"),
    "containerd": Variant("containerd-1.6-kubelet-1.20", "containerd"),
    "docker-flag": Variant("docker-20.10-kubelet-1.20", "docker", files=(WITH_FLAG,)),
    "worker": Variant("docker-20.10-kubelet-1.20", "docker", in_cluster=True),
    "control-plane": Variant(
        "containerd-1.6-kubelet-1.20", "containerd", in_cluster=True, control_plane=True
    ),
    "cordoned": Variant("docker-20.10-kubelet-1.20", "docker", in_cluster=True, cordoned=True),
    "two-names": Variant(
        "containerd-1.6-kubelet-1.20",
        "containerd",
        files=WITH_IMPORT,
        links=(("/etc/containerd/conf.d/90-current.toml", "10-runc.toml"),),
    ),
    "no-directory": Variant("docker-20.10-kubelet-1.20", "docker", without=("/etc/docker",)),
}


@functools.cache
def planned(name: str) -> tuple[Plan, Facts]:
    """Plan a variant, from the facts of its sample and what is added to them."""
    variant = VARIANTS[name]
    sample = NODES / variant.sample
    facts = load((sample / "facts.json").read_bytes())
    if variant.in_cluster:
        facts = _in_cluster(facts, variant)
    options = PlanOptions(cluster_config=variant.in_cluster)
    settings = SETTINGS if variant.in_cluster else None
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder) / "root")
        lay(reader.root, variant)
        if variant.files or variant.without:
            facts = _with_files(facts, gather(reader))

        def read(path: str) -> bytes | None:
            return reader.read(path) if reader.exists(path) else None

        return make_plan(audit(facts), digest(facts), read, options, settings), facts


def _with_files(facts: Facts, seen: Facts) -> Facts:
    """Take what the files of a variant decide from a look at them, as at an image."""
    kubelet = replace(
        seen.kubelet,
        unit=replace(
            seen.kubelet.unit or facts.kubelet.unit, active_state="active", unit_file_state="enabled"
        ),  # type: ignore[type-var]
        version=facts.kubelet.version,
        driver_running=facts.kubelet.driver_running,
    )
    runtime = replace(facts.runtime, imports=seen.runtime.imports)
    return replace(facts, kubelet=kubelet, runtime=runtime, files=seen.files)


def _in_cluster(facts: Facts, variant: Variant) -> Facts:
    here = cluster_node(
        "worker-1",
        machine_id=facts.node.machine_id,
        control_plane=variant.control_plane,
        unschedulable=variant.cordoned,
    )
    own = [
        cluster_pod(
            pod.name,
            namespace=pod.namespace,
            uid=pod.uid,
            mirror=True,
            owner_kind="Node",
            owner_name="worker-1",
        )
        for pod in facts.pods
        if pod.static
    ]
    web = [cluster_pod(f"web-{n}", uid=f"0000000{n}-1111-2222-3333-444444444444") for n in (1, 2)]
    settings = KubeletConfigMap(
        name=CONFIG_MAP, present=True, driver="cgroupfs", sha256=hashlib.sha256(SETTINGS).hexdigest()
    )
    known = cluster(
        kubeconfig=ADMIN,
        node=here,
        pods=(*own, *web),
        control_plane=(here,) if variant.control_plane else (cluster_node("cp1", control_plane=True),),
        config_map=settings,
    )
    return replace(facts, cluster=known)


def lay(root: Path, variant: Variant) -> None:
    """Put the files of a variant below `root`: those of the sample that a disk holds."""
    for top in ("etc", "var", "usr"):
        source = NODES / variant.sample / "root" / top
        if source.is_dir():
            shutil.copytree(source, root / top, symlinks=True)
    # Tens of thousands of scenarios read them: short ones, and one is enough to be waited for.
    for manifest in sorted((root / "etc/kubernetes/manifests").glob("*.yaml"))[1:]:
        manifest.unlink()
    for manifest in (root / "etc/kubernetes/manifests").glob("*.yaml"):
        names = re.findall(r"^  - name: (\w+)$", manifest.read_text(), re.MULTILINE)
        kept = {
            "kind": "Pod",
            "metadata": {"name": manifest.stem},
            "spec": {"containers": [{"name": n} for n in names]},
        }
        manifest.write_text(json.dumps(kept))
    for path, text in variant.files:
        real = root / path.removeprefix("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(text)
    for path, target in variant.links:
        (root / path.removeprefix("/")).symlink_to(target)
    for path in variant.without:
        shutil.rmtree(root / path.removeprefix("/"))


def machine_of(name: str, root: Path) -> Machine:
    """Make the node of a variant and let it run as it did before anybody came."""
    lay(root, VARIANTS[name])
    return machine_from(root, *planned(name))


def machine_from(root: Path, plan: Plan, facts: Facts) -> Machine:
    """Make the node that a plan and its facts are of; its files are below `root` already."""
    table = next(step.params["pods"] for step in plan.steps if step.kind == "verify")
    containers = {
        pod.uid: tuple(sorted({each.name for each in pod.containers if each.name})) for pod in facts.pods
    }
    pods = [
        SimPod(
            namespace=row["namespace"],
            name=row["pod"],
            uid=row["pod_uid"],
            slice=row["cgroup"],
            containers=containers[row["pod_uid"]] or ("app",),
        )
        for row in table
    ]
    api = None
    if facts.cluster and facts.cluster.node:
        for pod in facts.cluster.pods:
            if pod.owner_kind == "ReplicaSet":
                place = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{pod.uid.replace('-', '_')}.slice"
                pods.append(
                    SimPod(
                        namespace=pod.namespace,
                        name=pod.name,
                        uid=pod.uid,
                        slice=place,
                        containers=("app",),
                        static=False,
                        owner="ReplicaSet",
                    )
                )
        metadata = {
            "name": facts.cluster.node_name,
            "uid": facts.cluster.node.uid,
            "annotations": {},
            "labels": {},
        }
        config_map = {
            "metadata": {"name": CONFIG_MAP, "uid": "map-uid", "resourceVersion": "7"},
            "data": {"kubelet": SETTINGS.decode()},
        }
        spec = {"unschedulable": True} if facts.cluster.node.unschedulable else {}
        api = Api(node={"metadata": metadata, "spec": spec}, config_map=config_map)
    machine = Machine(root, facts.runtime.kind, pods, api)
    if facts.cluster and facts.cluster.node and facts.cluster.node.control_plane:
        machine.api_pod = pods[0].name
    return machine


def begin(machine: Machine, name: str) -> Run:
    """Make a run of the variant's plan; of the facts it keeps what steps ask for, because each reading costs 20 ms."""
    plan, facts = planned(name)
    return begin_with(machine, plan, replace(facts, pods=(), files=(), cgroups=Cgroups(), unknowns=()))


def begin_with(machine: Machine, plan: Plan, facts: Facts) -> Run:
    """Make a run of a plan."""
    runs = Runs(Host(machine.root))
    with machine.disk.watched():
        return runs.create(
            plan_digest(plan.document), render(plan.document), dump(facts).encode(), plan.contents
        )


@contextmanager
def at_work(machine: Machine, run: Run, fate: Fate) -> Iterator[Engine]:
    """Have an engine on the node, under a fate."""
    machine.disk.fate = fate
    with machine.clock.ticking(), machine.disk.watched():
        try:
            with engine_of(doors(machine), run, QUIET, Interrupt()) as engine:
                yield engine
        finally:
            machine.disk.fate = Fate()


def forward(machine: Machine, run: Run, fate: Fate | None = None) -> str:
    """Take a run forward as `apply` and `resume` do, back on failure; return how it ended."""
    with suppress(Crash), at_work(machine, run, fate or Fate()) as engine:
        try:
            engine.forward()
        except InterruptedRunError:
            return "interrupted"
        except LeftToDoError:
            return "left"
        except CgmigrateError as error:
            try:
                raise fail_back(engine, error)
            except RolledBackError:
                return "rolled back"
            except DirtyError:
                return "dirty"
            except InterruptedRunError:
                return "interrupted"
        return "done"
    return "crashed"


def back(machine: Machine, run: Run, fate: Fate | None = None) -> str:
    """Take a run back as `rollback` does; return how it ended."""
    with suppress(Crash), at_work(machine, run, fate or Fate()) as engine:
        try:
            engine.back("test")
        except DirtyError:
            return "dirty"
        except InterruptedRunError:
            return "interrupted"
        except ConflictError:
            return "refused"
        except LeftToDoError:
            return "left"
        return "rolled back"
    return "crashed"


def snapshot(machine: Machine) -> dict[str, Any]:
    """Return all that must be equal: files, units and what they run with, pods and their places, the API's objects."""
    with machine.clock.ticking():
        machine.live()
    return {
        "files": dict(_files(machine.root)),
        "units": {name: (unit.active, unit.driver) for name, unit in machine.units.items()},
        "guarded": [
            name for name, unit in machine.units.items() if unit.read and "cgmigrate" in "".join(unit.read)
        ],
        "pods": sorted(
            (
                each.pod.namespace,
                each.pod.name,
                each.name,
                each.driver,
                each.state,
                each.cgroup.rpartition("/")[0],
            )
            for each in machine.containers.values()
            if each.pod.owner != "ReplicaSet"
        ),
        "cgroups": sorted(_cgroups(machine)),
        "run": sorted(path.name for path in (machine.root / "run").iterdir()),
        "node": copy.deepcopy(machine.api.node) if machine.api else None,
        "config map": machine.api.config_map["data"] if machine.api else None,
    }


def stale_units(machine: Machine) -> list[str]:
    """Return the units that run with a configuration that is not the one on disk."""
    runtime = f"{machine.runtime}.service"
    return [
        name
        for name, which in (("kubelet.service", "kubelet"), (runtime, "runtime"))
        if machine.units[name].active == "active" and machine.units[name].config != machine.on_disk(which)[0]
    ]


def difference(expected: dict[str, Any], actual: dict[str, Any]) -> str:
    """Say in a few words what is not equal; empty when all is."""
    told = []
    for key, value in expected.items():
        if value != actual[key]:
            if isinstance(value, dict) and isinstance(actual[key], dict):
                names = [n for n in {**value, **actual[key]} if value.get(n) != actual[key].get(n)]
                told.append(f"{key}: {[(n, value.get(n), actual[key].get(n)) for n in names][:4]}")
            elif isinstance(value, list):
                less = [each for each in value if each not in actual[key]]
                more = [each for each in actual[key] if each not in value]
                told.append(f"{key}: without {less[:3]}, with {more[:3]}")
            else:
                told.append(f"{key}: {value} != {actual[key]}")
    return "; ".join(told)


def _files(root: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(("run", "proc", "sys", "var/lib/cgmigrate")):
            continue
        mode = stat.S_IMODE(path.lstat().st_mode)
        held = os.readlink(path) if path.is_symlink() else "" if path.is_dir() else path.read_bytes()
        yield name, (mode, held if isinstance(held, str) else hashlib.sha256(held).hexdigest())


def _cgroups(machine: Machine) -> Iterator[str]:
    """Yield the places of pods and classes: containers' own have random names, and who was evicted does not return."""
    gone = {pod.uid for pod in machine.pods if pod.owner == "ReplicaSet"}
    for path in (machine.root / "sys/fs/cgroup").rglob("*"):
        known = path.name.replace("_", "-")
        if path.is_dir() and not (path / "cgroup.procs").exists() and not any(uid in known for uid in gone):
            yield str(path.relative_to(machine.root / "sys/fs/cgroup"))


def obey(machine: Machine, commands: Sequence[str]) -> None:
    """Do what a run left to the operator, once the API server is back."""
    for command in commands:
        assert machine.api is not None
        words = command.split()
        if "uncordon" in words:
            machine.api.node["spec"].pop("unschedulable", None)
        elif "annotate" in words:
            machine.api.node["metadata"]["annotations"].clear()
        elif "edit" in words:
            machine.api.config_map["data"]["kubelet"] = SETTINGS.decode()
        else:
            assert "wait" in words, command

# SPDX-License-Identifier: Apache-2.0
"""Every parser of something that we did not write ourselves, as a function of bytes, and what it may answer.

A target ends without a word, or raises what it documents; anything else is a defect. Where it is cheap it also holds
the parser to what it promises: an edit is idempotent, its way back gives the same bytes, two ways of translating agree.
"""

from __future__ import annotations

import atexit
import functools
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError

from migrator import answers, audit, cgroups, cri, drain, kube, limits, references, translate
from migrator.cgroups import CgroupNameError, Driver, QoS, Runtime, RuntimeUnknownError
from migrator.configs import containerd, crio, docker, flags, gvisor, kubelet, units
from migrator.configs.diff import unified_diff
from migrator.configs.secrets import mask_secrets, mask_shapes, mask_words
from migrator.configs.text import ConfigSyntaxError, Edited
from migrator.containers import grace
from migrator.cri_messages import messages
from migrator.docker import Docker, DockerControl
from migrator.errors import BlockedError, ConflictError, HostError, UsageError
from migrator.facts import api, cluster, node, store, workloads
from migrator.facts.look import Look
from migrator.facts.model import Cluster
from migrator.host import Host, Output, Reader
from migrator.kubectl import KubeError, _check_content
from migrator.plan import drift, parse_plan, plan_digest, planned_steps, render
from migrator.plan_options import PlanOptions
from migrator.questions import NODE_NAME, QUESTIONS
from migrator.records import Kind, Record, _checksum, decode, encode, fold
from migrator.session import look, plan_node
from migrator.systemd import parse_show
from migrator.witness import PROPERTIES, read_manifests

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / "tests" / "nodes"
RECORDED = ROOT / "tests" / "unit" / "data" / "kubectl-1.20"
T = TypeVar("T")

UID = "0798b0e6-e445-4738-87b6-91bc5cc5e57f"
ID = "33dff8e5" * 8
FLAGS = (flags.KUBELET_DRIVER, flags.DOCKER_DRIVER, flags.CRIO_DRIVER)


_IN_PLACE = re.compile(r"(?i:\s*native\.cgroupdriver\s*=) *cgroupfs *|cgroupfs *")
"""What an edit replaced, where the way back must give the same bytes."""


class BrokenError(Exception):
    """A target did not raise, and did not keep its promise either; the text begins with which one."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parser: `words` are what its format is made of, `json_like` lets inputs be changed as documents too."""

    name: str
    run: Callable[[bytes], None]
    may_raise: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    json_like: bool = False


def _hold(promise: str, kept: object) -> None:
    if not kept:
        raise BrokenError(promise)


# -- configuration files -------------------------------------------------------------------------------------------


def _edited(edit: Callable[[bytes, Driver], Edited], data: bytes, *, back: bool = True) -> None:
    """Hold an editor to its promises: once is enough, nothing is said to change that does not, and the way back."""
    edited = edit(data, Driver.SYSTEMD)
    again = edit(edited.text, Driver.SYSTEMD)
    _hold("an edit is idempotent", (again.text, again.edits) == (edited.text, ()))
    _hold("no edit, no change", edited.edits or edited.text == data)
    lines = edited.text.count(b"\n") + 1
    _hold("an edit stands in a line of the file", all(1 <= each.line <= lines for each in edited.edits))
    _hold("an edit shows in the diff", not edited.edits or unified_diff("f", data, edited.text))
    if back and edited.edits and all(_IN_PLACE.fullmatch(each.before or "") for each in edited.edits):
        _hold("the way back gives the same bytes", edit(edited.text, Driver.CGROUPFS).text == data)


def _docker_config(data: bytes) -> None:
    docker.read(data)
    _edited(docker.set_driver, data, back=b"\\" not in data)
    _hold("the driver is set", docker.read(docker.set_driver(data, Driver.SYSTEMD).text).driver == "systemd")


def _kubelet_config(data: bytes) -> None:
    kubelet.read(data)
    _edited(kubelet.set_driver, data, back=b"\\" not in data)
    new = kubelet.set_driver(data, Driver.SYSTEMD).text
    _hold("the driver is set", kubelet.read(new).cgroup_driver == "systemd")


def _containerd_config(data: bytes) -> None:
    containerd.read(data)
    _edited(_set_handlers, data)


def _set_handlers(data: bytes, driver: Driver) -> Edited:
    handlers = containerd.read(data).handlers.values()
    return containerd.set_driver(
        data, driver, [each.name for each in handlers if containerd.is_runc(each)] or ["runc"]
    )


def _runsc_config(data: bytes) -> None:
    gvisor.read(data)
    _edited(gvisor.set_driver, data)


def _crio_config(data: bytes) -> None:
    crio.read(data)
    _edited(crio.set_driver, data, back=False)
    _hold(
        "the driver is set", crio.read(crio.set_driver(data, Driver.SYSTEMD).text).cgroup_manager == "systemd"
    )


def _unit_file(data: bytes) -> None:
    env = {
        "/etc/default/kubelet": data,
        "/var/lib/kubelet/kubeadm-flags.env": b"A='b c'\nKUBELET_EXTRA_ARGS=--v=2\n",
    }
    unit = units.parse_unit(
        (("/lib/systemd/system/kubelet.service", data), ("/etc/d.conf", b"[Service]\nDelegate=yes\n"))
    )
    try:
        units.effective_argv(unit, env)
        units.unset_variables(unit, env)
    except ConfigSyntaxError:
        pass  # the same bytes are no environment file
    flag = FLAGS[len(data) % 3]
    _edited(lambda text, driver: units.set_driver(text, driver, flag), data)


def _env_file(data: bytes) -> None:
    for assignment in flags.parse_env_file(data):
        _ = assignment.value
    flag = FLAGS[len(data) % 3]
    _edited(lambda text, driver: flags.set_driver(text, driver, flag), data)


def _argv(data: bytes) -> None:
    argv = data.decode("utf-8", "surrogateescape").split("\0")
    for flag in (*FLAGS, flags.Flag("--config")):
        flags.driver_from_args(argv, flag)


def _secrets(data: bytes) -> None:
    text = data.decode("utf-8", "backslashreplace")
    _hold("lines stay lines", mask_secrets(text).count("\n") == text.count("\n"))
    _hold("lines of prose stay lines", mask_shapes(text).count("\n") == text.count("\n"))
    words = text.split(" ")
    _hold("words stay words", len(mask_words(words)) == len(words))
    unified_diff("/etc/x", data[: len(data) // 2], data)


def _kubeconfig(data: bytes) -> None:
    _check_content("/etc/kubernetes/admin.conf", data)


def _cluster_configuration(data: bytes) -> None:
    noted = Look(Reader())
    api.config_map_names(cluster._cluster_configuration(noted, data.decode("utf-8", "replace")), "1.20.2")


@dataclass
class _OneManifest(Reader):
    """A node with one static pod file, whose bytes these are."""

    data: bytes
    root: Path = Path("/")
    live: bool = True

    def names(self, path: str) -> list[str]:  # noqa: ARG002 the node has one directory
        return ["pod.yaml"]

    def resolve(self, path: str) -> Path:  # noqa: ARG002
        return Path(__file__)

    def read(self, path: str, limit: int = 0) -> bytes:  # noqa: ARG002
        return self.data


def _manifest(data: bytes) -> None:
    found, unread = read_manifests(_OneManifest(data), "/etc/kubernetes/manifests")
    for manifest in found:
        json.dumps([manifest.name, manifest.namespace, manifest.containers]).encode()
    _hold("why it is unread is one line", all(len(why) < 2000 for _, why in unread))


# -- what the kernel and systemd print -----------------------------------------------------------------------------


def _mountinfo(data: bytes) -> None:
    found = node.parse_mountinfo(data.decode("utf-8", "surrogateescape"))
    _hold("a mount is a line", len(found) <= data.count(b"\n") + 1)
    own, extra = node.own_hierarchies(found)
    node.cgroup_mode(own)
    _hold("each mount point is told once", len(extra) == len(set(extra)))


def _proc_cgroup(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    named = tuple(workloads._named(text))
    _hold("a path lies in its line", not any("\n" in path for _, path in named))
    lines = [line.partition(":")[2].partition(":")[2] for line in text.split("\n")]
    _hold("only a newline ends a line", all(path in lines for _, path in named))
    pods: dict[str, set[str]] = {}
    workloads._note_pods(pods, named, "")
    workloads._note_pods(pods, named, "/kubelet")


def _show(data: bytes) -> None:
    for unit, values in parse_show(data.decode("utf-8", "replace")).items():
        _hold("a unit is filed under its id", values["Id"] == unit)
        for name in PROPERTIES:
            limits.parse_count(values.get(name, ""))
            limits.parse_memory(values.get(name, ""))
            limits.parse_time_span(values.get(name, ""))


def _limits(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    quota = limits.parse_cpu_max(text)
    for value in (
        limits.parse_count(text),
        limits.parse_memory(text),
        limits.parse_time_span(text),
        *(quota or ()),
    ):
        _hold("a limit fits into 64 bits", value is None or 0 <= value <= limits.UNLIMITED)
    if quota:
        limits.quota_per_second(*quota)
    if (weight := limits.parse_count(text)) is not None:
        limits.weight_agrees(weight, 100)
        limits.weights(weight)


# -- a node as a whole ---------------------------------------------------------------------------------------------


@functools.cache
def _image(name: str) -> Path:
    """Return a copy of a bundled node, in memory where there is such a place; it goes with the process."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="cgmigrate-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return shutil.copytree(NODES / name / "root", directory / "root", symlinks=True)


def _node(data: bytes) -> None:
    """Audit and plan a bundled node of which one file holds something else; the first line names node and file."""
    place, _, content = data.partition(b"\n")
    if place not in _PLACES:
        return
    name, _, path = place.decode().partition("/")
    image = _image(name)
    kept = (image / path).read_bytes()
    (image / path).write_bytes(content)
    try:
        _audited(Reader(image))
    finally:
        (image / path).write_bytes(kept)


def _audited(reader: Reader) -> None:
    found = look(reader)
    json.dumps(audit.to_json(found)).encode()
    _hold("facts are read back as they were written", store.load(store.dump(found.facts)) == found.facts)
    plan = plan_node(reader, found)
    _hold("a plan that was made can be read", parse_plan(render(plan.document), "plan.json"))


# -- our own files, when somebody else wrote them ------------------------------------------------------------------


def _plan(data: bytes) -> None:
    document = parse_plan(data, "plan.json")
    planned_steps(document)
    PlanOptions.from_json(document["options"])
    plan_digest(document)
    drift(document, _GOLDEN_PLAN)


def _answers(data: bytes) -> None:
    given = answers.read_answers(data, "answers.yaml")
    known = {question.key: question for question in QUESTIONS}
    for key, answer in given.items():
        named = known[key].confirms and NODE_NAME.fullmatch(answer)
        _hold("what is read is an answer to its question", known[key].accepts(answer) or named)
    PlanOptions.answered(given)


def _facts(data: bytes) -> None:
    facts = store.load(data)
    text = store.dump(facts)
    _hold("facts are read back as they were written", store.load(text) == facts)
    store.digest(facts)


def _journal(data: bytes) -> None:
    records, whole = decode(data, "/var/lib/cgmigrate/runs/x/journal.jsonl")
    _hold("what is whole is a prefix of whole lines", data[:whole].count(b"\n") == len(records))
    fold(records)


def _signed_journal(data: bytes) -> None:
    """Take a list of bodies, give each its checksum, and read that: past the checksum, whoever wrote it."""
    try:
        bodies = json.loads(data)
        lines = [json.dumps({**body, "sum": _checksum(body)}).encode() for body in bodies]
    except (ValueError, TypeError, RecursionError):
        return
    _journal(b"".join(line + b"\n" for line in lines))


# -- what other programs answer ------------------------------------------------------------------------------------


def _drain_lines(data: bytes) -> None:
    for line in data.decode("utf-8", "replace").split("\n"):
        event = drain.read_line(line)
        _hold("an event is one line", event is None or "\n" not in event.text)


def _kubernetes_objects(data: bytes) -> None:
    """Read objects as `gather_cluster` does, which takes these errors for an answer of unknown form."""
    documents = kube._documents(data.decode("utf-8", "replace"))
    noted = Look(Reader())
    pods, budgets = [], []
    for raw in documents:
        kind = raw.get("kind")
        if kind == "Node":
            api.to_node(raw)
        elif kind == "PodDisruptionBudget":
            budgets.append(raw)
        elif kind == "ConfigMap":
            api.to_config_map(noted, raw)
        else:
            pods.append(raw)
    found = tuple(api.to_pod(pod, budgets) for pod in pods)
    whole = Cluster(
        kubeconfig="",
        origin="",
        node_name="",
        pods=found,
        budgets=tuple(map(api.to_budget, budgets)),
        version="1.20",
    )
    drain.preview(whole, drain.DrainOptions())


class _AnsweringDocker(Host):
    """A node whose every program answers with these bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.answer = data.decode("utf-8", "replace")

    def run(self, argv: Sequence[str], timeout: float = 30, *, keep: Sequence[int] = ()) -> Output:  # noqa: ARG002
        answer = ID if "--quiet" in argv else self.answer
        return Output(tuple(argv), 0, answer, "")


def _docker_answers(data: bytes) -> None:
    host = _AnsweringDocker(data)
    found: list[str] = []
    for ask in (
        lambda: Docker(host, running=_yes).info(),
        lambda: [each.static for each in Docker(host, running=_yes).containers()],
        lambda: [grace(each, 30) for each in DockerControl(host, running=_yes)._listed()],
    ):
        try:
            ask()
        except HostError as error:
            found.append(error.message)
    _hold("an odd answer is told in one short text", all(len(message) < 2000 for message in found))


def _yes() -> bool:
    return True


def _cri_answers(data: bytes) -> None:
    for name in (
        "ListPodSandboxResponse",
        "ListContainersResponse",
        "ContainerStatusResponse",
        "StatusResponse",
    ):
        try:
            answer = messages()[name].FromString(data)
        except DecodeError:
            continue  # grpc makes a failed call of it
        detail = answer if name.endswith("StatusResponse") else None
        info = cri._info(detail)
        for sandbox in getattr(answer, "items", ()):
            _ = cri._sandbox(sandbox, info).static
        for container in getattr(answer, "containers", ()):
            grace(cri._container(container, info), 30)


def _cri_info(data: bytes) -> None:
    """Read the JSON under `info`, which holds the runtime's own spec of a container."""
    new = messages()
    status = new["ContainerStatusResponse"]()
    status.info.add(key="info", value=data.decode("utf-8", "replace"))
    info = cri._info(status)
    cri._container(new["Container"](id=ID), info)
    cri._sandbox(new["PodSandbox"](id=ID), info)


# -- names ---------------------------------------------------------------------------------------------------------


def _cgroup_names(data: bytes) -> None:
    path = data.decode("utf-8", "surrogateescape")
    for root in (None, "/", "/kubelet", path[:20]):
        cgroups.parse(path, root)
    for spelled in (path, path.strip("/")):
        _round_trip(spelled)
    for to in Driver:
        _there_and_back(path, to)
    for qos in QoS:
        _quietly(
            partial(cgroups.container_place, path, qos, ID, Runtime.DOCKER, Driver.SYSTEMD, cgroup_root=path)
        )


def _round_trip(path: str) -> None:
    name = _quietly(lambda: cgroups.from_cgroupfs(path))
    if name is None or any("_" in each for each in name.components):
        return
    spelled = _quietly(name.to_systemd)
    if spelled is not None:
        _hold("a name comes back from systemd's spelling", cgroups.from_systemd(spelled) == name)


def _there_and_back(path: str, to: Driver) -> None:
    there = _quietly(lambda: cgroups.translate_path(path, to, Runtime.DOCKER))
    if there is None or not path.isprintable() or not path.startswith("/") or "//" in path:
        return
    place = cgroups.parse(path)
    if place:  # outside kubepods a name that ends in .slice reads either way
        again = _quietly(lambda: cgroups.translate_path(there, to, Runtime.DOCKER))
        _hold("a translation is idempotent", again in {there, None})
    if (
        place
        and place.pod_uid
        and place.driver is not to
        and "_" not in path
        and place.runtime in {None, Runtime.DOCKER}
    ):
        back = cgroups.translate_path(there, place.driver, Runtime.DOCKER)
        _hold("a pod's path comes back", cgroups.parse(back) == place)


def _quietly(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except CgroupNameError:
        return None


def _translate(data: bytes) -> None:
    for to, runtime in (
        (Driver.SYSTEMD, Runtime.CONTAINERD),
        (Driver.CGROUPFS, None),
        (Driver.SYSTEMD, None),
    ):
        translator = translate.Translator(to, runtime)
        try:
            translated = translator.translate_bytes(data)
        except RuntimeUnknownError:
            continue
        target = io.BytesIO()
        translator.translate_stream(io.BytesIO(data), target)
        _hold("both ways through a text agree", target.getvalue() == translated.text)
        _hold("lines stay lines", translated.text.count(b"\n") == data.count(b"\n"))
        _hold("nothing is changed that is not counted", translated.replaced or translated.text == data)
        again = translator.translate_bytes(translated.text)
        _hold("a translated text is left alone", again.text == translated.text)


def _references(data: bytes) -> None:
    for runtime in ("docker", "unknown"):
        translator = references.translator_of(runtime, "")
        if translator is None:
            raise BrokenError("the root of the tree can be named")
        edited = references.rewrite(data, translator)
        _hold("lines stay lines", edited.text.count(b"\n") == data.count(b"\n"))
        _hold("nothing is changed that is not listed", edited.edits or edited.text == data)
        _hold("a rewritten text is left alone", not references.rewrite(edited.text, translator).edits)
        told = list(references.references(data, translator))
        _hold("what is told is what is done", len(edited.edits) == sum(bool(each.new) for each in told))


# -- seeds ---------------------------------------------------------------------------------------------------------


_WITH_A_BROKEN_FILE = ("containerd-misspelt", "docker-daemon-json-comment")


def _files(*names: str) -> tuple[bytes, ...]:
    """Return the distinct texts of these files of the bundled nodes, but for nodes that are there for a file that is refused."""
    found = (
        path.read_bytes()
        for name in names
        for path in sorted(NODES.glob(f"*/root/{name}"))
        if path.relative_to(NODES).parts[0] not in _WITH_A_BROKEN_FILE
    )
    return tuple(dict.fromkeys(found))


def _objects() -> tuple[bytes, ...]:
    found: dict[bytes, None] = {}
    for path in sorted(RECORDED.glob("*.json")):
        for document in (answer["stdout"] for answer in json.loads(path.read_bytes())):
            if isinstance(document, dict) and ("items" in document or "metadata" in document):
                found[json.dumps(document).encode()] = None
    return tuple(data for data in found if len(data) < 6000)


_PLACES = frozenset(
    f"{path.name}/{name}".encode()
    for path in NODES.iterdir()
    if (path / "facts.json").exists()  # the others are laid over one of these
    for name in (
        "etc/containerd/config.toml",
        "etc/default/kubelet",
        "etc/docker/daemon.json",
        "etc/hostname",
        "etc/kubernetes/manifests/burstable.yaml",
        "etc/machine-id",
        "etc/os-release",
        "etc/systemd/system/kubelet.service",
        "etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        "lib/systemd/system/containerd.service",
        "lib/systemd/system/docker.service",
        "proc/self/mountinfo",
        "proc/swaps",
        "var/lib/kubelet/config.yaml",
        "var/lib/kubelet/kubeadm-flags.env",
    )
    if (path / "root" / name).is_file()
)


def _node_seeds() -> tuple[bytes, ...]:
    places = (place.decode().partition("/") for place in sorted(_PLACES))
    return tuple(
        f"{name}/{path}\n".encode() + (NODES / name / "root" / path).read_bytes() for name, _, path in places
    )


_GOLDEN_PLAN = json.loads((ROOT / "plans" / "docker-20.10-kubelet-1.20.json").read_bytes())
_ANSWERS = b"format: cgmigrate-answers\nversion: 1\n\n# Evict?\nforce: no\ndrain-timeout: 60\napply: cp-1\n"

_SMALL_PLAN = json.dumps(
    {**_GOLDEN_PLAN, "findings": [], "translations": [], "steps": _GOLDEN_PLAN["steps"][:3]}
).encode()

_RECORDS = (
    Record(number=1, time="2026-01-01T00:00:00Z", boot="b1", kind=Kind.BEGIN, data={"plan": "0" * 64}),
    Record(
        number=2, time="t", boot="b1", kind=Kind.CAPTURED, step="write-1", data={"undo": {"kind": "absent"}}
    ),
    *(
        Record(
            number=at,
            time="t",
            boot="b1",
            kind=kind,
            step="write-1",
            data={"error": "e", "reason": "r", "command": "c"},
        )
        for at, kind in enumerate(list(Kind)[2:], start=3)
    ),
)

_KUBELET = (
    (
        b"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: cgroupfs  # why\n"
        b"evictionHard: {memory.available: 100Mi}\nfeatureGates:\n  A: true\n"
    ),
    b'{"kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs", "enforceNodeAllocatable": ["pods"]}',
    b"---\na: &x 1\nkind: KubeletConfiguration\ncgroupDriver: 'cgroupfs'\nb: *x\nc: |\n  text\n...\n",
    b'a: &a {b: 1, <<: {c: 2}}\nd: *a\ne: !!str 1\ncgroupDriver: "cgroup\\x66s"\n',
)
_CONTAINERD = (
    (
        b'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'
        b'  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n    SystemdCgroup = false\n'
    ),
    (
        b'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n[plugins."io.containerd.cri.v1.runtime".containerd]\n'
        b"runtimes.runc = {runtime_type = 'io.containerd.runc.v2', options = {SystemdCgroup = false}}\n"
    ),
    (
        b'[plugins.cri]\nsystemd_cgroup = false\nstream = """a\nb"""\n[plugins.cri.containerd.default_runtime]\n'
        b'runtime_type = "io.containerd.runc.v1"\n[[a.b]]\nc = 1979-05-27T07:32:00Z\n[[a.b]]\nd = [1, 2.5, inf, nan]\n'
    ),
    b"version = 4\n",
    b'disabled_plugins = ["cri"]\n',
)
_CRIO = (
    (
        b'[crio.runtime]\ncgroup_manager = "cgroupfs"\nconmon_cgroup = "system.slice"\ndefault_runtime = "runc"\n'
        b'[crio.runtime.runtimes.runc]\nruntime_path = ""\nmonitor_cgroup = "pod"\n[crio.api]\nlisten = "/run/crio.sock"\n'
    ),
    b"[crio]\nruntime.cgroup_manager = 'cgroupfs'\nimage = {pause_image = \"x\"}\n",
)
_UNITS = (
    (
        b"[Service]\nEnvironment=\"A=--cgroup-driver=cgroupfs\" 'B=c d'\nEnvironmentFile=-/etc/default/kubelet\n"
        b"ExecStart=\nExecStart=@-/usr/bin/kubelet kubelet $A ${B} --cgroup-driver cgroupfs \\\n  # note\n --v=2 ; /bin/true\n"
    ),
    (
        b'[Unit]\nDescription=x\n[Service]\nExecStart=/usr/bin/dockerd -H fd:// --exec-opt "native.cgroupdriver=cgroupfs" %%i\\x20\n'
        b"UnsetEnvironment=A B=1\nDelegate=yes\n"
    ),
    b"[Service]\nExecStart=:/usr/bin/crio -cgroup-manager=cgroupfs '\\u0041' \"\\101\"\n",
)
_ENVS = (
    b'KUBELET_KUBEADM_ARGS="--cgroup-driver=cgroupfs --network-plugin=cni --pod-infra-container-image=k8s.gcr.io/pause:3.2"\n',
    b"# c\nexport X=1\nA='--cgroup-driver' \"cgroupfs\"\\\n  more\nDOCKER_OPTS=--exec-opt native.cgroupdriver=cgroupfs\n",
    b'CRIO="--cgroup-manager=cgroupfs" ; x\nB=\\"a\\\\b$C`d`\n',
)
_DAEMON = (
    b'{\n  "exec-opts": ["native.cgroupdriver=cgroupfs"],\n  "log-driver": "json-file"\n}\n',
    b'{"exec-opts":["a=b","Native.CgroupDriver = cgroupfs"],"live-restore":true,"cgroup-parent":"x.slice"}',
    b"\xef\xbb\xbf{}\r\n",
    b'{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}, "exec-opts": null}',
)
_POD = (
    b"apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec:\n  containers: [{name: app}, {name: b}]\n",
    b'{"kind": "Pod", "metadata": {"name": "b"}, "spec": {"restartPolicy": "Never", "containers": []}}',
    b"kind: Pod\nmetadata: &m\n  name: 0x10\n  at: 2001-12-14t21:59:43.10-05:00\nspec:\n  <<: {a: 1}\n  containers:\n  - *m\n  b: !!binary YQ==\n",
)
_SHOW = (
    b"Id=kubepods.slice\nLoadState=loaded\nActiveState=active\nControlGroup=/kubepods.slice\nMemoryLimit=infinity\n"
    b"CPUShares=[not set]\nCPUQuotaPerSecUSec=1.240000s\nTasksMax=4915\n\n"
    + f"Id=docker-{ID}.scope\nMemoryMax=104857600\nCPUWeight=100\nCPUQuotaPerSecUSec=1min 250ms\n".encode(),
)
_PATHS = (
    f"/sys/fs/cgroup/memory/kubepods/besteffort/pod{UID}/{ID}".encode(),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/docker-{ID}.scope".encode(),
    f"4:memory:/kubelet/kubepods/pod{UID}/crio-{ID}/child/memory.max".encode(),
    f"/system.slice/kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}".encode(),
    b"/a.slice/a-kubepods.slice/a-kubepods-besteffort.slice",
    b"/system/kubelet",
    b"kube-reserved.slice",
)
_LINES = (
    b"\n".join(
        b'{"t":1,"cgroup":"' + path.replace(b"/", b"\\/") + b'"} ' + path + b" x\n" for path in _PATHS[:4]
    ),
    b"a /kubepods/ b kubepods /kubepods/.* pod*/ $ROOT/kubepods/burstable\n"
    + _PATHS[0]
    + b"\n"
    + _PATHS[1]
    + b"\n",
    b"/sys/fs/cgroup/cpu,cpuacct/kubepods/pod" + UID.encode() + b"/" + ID.encode() + b"/cpu.shares\r\n",
)
_DRAIN = (
    (
        b"node/w1 already cordoned\nWARNING: ignoring DaemonSet-managed Pods: kube-system/p\nevicting pod shop/web-1\n"
        b'evicting pod "web-2"\npod/web-1 evicted\nerror when evicting pods/"web-3" -n "shop" (will retry after 5s): '
        b'Cannot evict pod as it would violate the pod\'s disruption budget.\npod "web-2" deleted\nnode/w1 drained\n'
    ),
)
_DOCKER = (
    json.dumps(
        {
            "id": ID,
            "name": "/k8s_app",
            "labels": {
                "io.kubernetes.pod.uid": UID,
                "io.kubernetes.docker.type": "container",
                "annotation.io.kubernetes.container.restartCount": "3",
                "annotation.io.kubernetes.pod.terminationGracePeriod": "30",
            },
            "state": "running",
            "pid": 71,
            "parent": f"/kubepods/pod{UID}",
            "policy": "no",
            "memory": 1 << 27,
            "quota": 0,
            "period": 0,
            "cpus": 1500000000,
            "shares": 2,
            "kind": "container",
            "grace": "30",
            "ServerVersion": "20.10.24",
            "CgroupDriver": "cgroupfs",
        }
    ).encode(),
)
_INFO = (
    json.dumps(
        {
            "pid": 71,
            "runtimeSpec": {
                "linux": {
                    "cgroupsPath": f"kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}",
                    "resources": {
                        "memory": {"limit": 1},
                        "cpu": {"quota": -1, "period": 100000, "shares": 2},
                    },
                }
            },
        }
    ).encode(),
)


def _cri_seeds() -> tuple[bytes, ...]:
    new = messages()
    pair = {"key": "io.kubernetes.pod.uid", "value": UID}
    meta = {"name": "web", "uid": UID, "namespace": "shop", "attempt": 1}
    info = {"key": "info", "value": _INFO[0].decode()}
    sandboxes = new["ListPodSandboxResponse"](
        items=[{"id": ID, "metadata": meta, "state": 0, "labels": [pair]}]
    )
    containers = new["ListContainersResponse"](
        containers=[{"id": ID, "metadata": {"name": "c"}, "annotations": [pair]}]
    )
    return tuple(
        message.SerializeToString()
        for message in (sandboxes, containers, new["ContainerStatusResponse"](info=[info]))
    )


_YAML_WORDS = (
    *(
        b"&a ",
        b"*a",
        b"<<: *a\n",
        b"!!python/object:os.system ",
        b"!!binary ",
        b"!!timestamp 2001-99-99",
        b"!<tag:x> ",
    ),
    *(
        b"? ",
        b"- ",
        b": ",
        b"|\n",
        b">-\n",
        b"---\n",
        b"...\n",
        b"%YAML 1.2\n---\n",
        b"%TAG ! tag:x,2000:\n---\n",
    ),
    *(
        b'"\\ud800"',
        b'"\\U00110000"',
        b'"\\x0"',
        b".inf",
        b"0o17",
        b"1:2:3",
        b"2001-01-01",
        b"1_000",
        b"~",
        b"yes",
    ),
)
_KUBELET_WORDS = (
    *_YAML_WORDS,
    b"cgroupDriver: ",
    b'"cgroupDriver": ',
    b"kind: KubeletConfiguration\n",
    b"staticPodPath: ",
)
_TOML_WORDS = (
    *(
        b"[[a]]\n",
        b"[a.b]\n",
        b"a = 1\n",
        b'"""',
        b"'''",
        b"{ a = 1 }",
        b"[1, 2]",
        b"inf",
        b"-nan",
        b"0x_f",
        b"1e5_0",
    ),
    *(
        b"1979-05-27T07:32:00Z",
        b"25:61:61",
        b"2001-02-30",
        b'"\\ud800"',
        b'"\\U00110000"',
        b"\\\n",
        b"SystemdCgroup",
    ),
    *(
        b"systemd_cgroup",
        b'[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.x]\n',
        b"options",
        b"runtime_type",
    ),
    *(b"version = 2\n", b"cgroup_manager", b"conmon_cgroup", b"[crio.runtime]\n", b"a.b.c"),
)
_UNIT_WORDS = (
    *(
        b"[Service]\n",
        b"ExecStart=",
        b"Environment=",
        b"EnvironmentFile=-",
        b"UnsetEnvironment=",
        b"\\\n",
        b"${A}",
        b"$A",
    ),
    *(b" ; ", b"\\;", b"%%", b"\\x41", b"\\101", b"\\u0041", b"\\U0010ffff", b"\\ud800", b"@-:+!!", b"\\s"),
    *(
        b"--cgroup-driver=",
        b"--cgroup_driver ",
        b"--exec-opt ",
        b"native.cgroupdriver=",
        b"-cgroup-manager=",
        b" -- ",
    ),
)
_JSON_WORDS = (
    b'{"a": 1}',
    b"[1]",
    b'"\\ud800"',
    b'"\\u0000"',
    b"NaN",
    b"-Infinity",
    b"1E400",
    b'"exec-opts": ',
    b"\\u",
    b'\\"',
)
_SECRET_WORDS = (
    *(
        b"password = ",
        b"token: ",
        b'"auth": "',
        b"--token ",
        b"Bearer ",
        b"-----BEGIN KEY-----",
        b"-----END KEY-----",
    ),
    *(
        b"https://u:p@h/",
        b"key=[",
        b"key: {",
        b"[auths]\n",
        b"eyJhbGciOiJI.",
        b'key = """',
        b"authorization:\n",
    ),
)
_PATH_WORDS = (
    *(
        b"/kubepods",
        b"kubepods.slice",
        b"/kubepods-burstable.slice",
        b"burstable",
        b"besteffort",
        b".slice",
        b".scope",
    ),
    *(
        b"docker-",
        b"cri-containerd-",
        b"crio-conmon-",
        b":cri-containerd:",
        b"/sys/fs/cgroup/",
        b"memory/",
        b"cpu,cpuacct/",
    ),
    *(
        f"pod{UID}".encode(),
        f"pod{UID.replace('-', '_')}".encode(),
        ID.encode(),
        ID[:12].encode(),
        b"\\/",
        b"..",
        b"//",
        b"a-",
    ),
)
_CONFIG_ERRORS = (ConfigSyntaxError,)
_API_ERRORS = (LookupError, TypeError, AttributeError, ValueError, KubeError)

TARGETS: dict[str, Target] = {
    each.name: each
    for each in (
        Target(
            "daemon-json",
            _docker_config,
            _CONFIG_ERRORS,
            (*_files("etc/docker/daemon.json"), *_DAEMON),
            _JSON_WORDS,
        ),
        Target(
            "kubelet-yaml",
            _kubelet_config,
            _CONFIG_ERRORS,
            (*_KUBELET, *_files("var/lib/kubelet/config.yaml")),
            _KUBELET_WORDS,
        ),
        Target(
            "containerd-toml",
            _containerd_config,
            _CONFIG_ERRORS,
            (*_CONTAINERD, *_files("etc/containerd/config.toml")),
            _TOML_WORDS,
        ),
        Target("runsc-toml", _runsc_config, _CONFIG_ERRORS, _files("etc/containerd/runsc.toml"), _TOML_WORDS),
        Target("crio-toml", _crio_config, _CONFIG_ERRORS, _CRIO, _TOML_WORDS),
        Target(
            "unit-file",
            _unit_file,
            _CONFIG_ERRORS,
            (
                *_UNITS,
                *_files("etc/systemd/system/kubelet.service", "etc/systemd/system/kubelet.service.d/*.conf"),
            ),
            _UNIT_WORDS,
        ),
        Target(
            "env-file",
            _env_file,
            _CONFIG_ERRORS,
            (*_ENVS, *_files("var/lib/kubelet/kubeadm-flags.env", "etc/default/docker")),
            _UNIT_WORDS,
        ),
        Target(
            "argv",
            _argv,
            (),
            (*_files("proc/[0-9]*/cmdline"), b"kubelet\0--cgroup-driver\0cgroupfs\0--config=/x\0"),
            _UNIT_WORDS,
        ),
        Target(
            "secrets",
            _secrets,
            (),
            (*_DAEMON, *_CONTAINERD, *_KUBELET, *_UNITS),
            (*_SECRET_WORDS, *_TOML_WORDS),
        ),
        Target(
            "kubeconfig",
            _kubeconfig,
            (KubeError,),
            (
                b"apiVersion: v1\nkind: Config\nclusters:\n- name: dev\n  cluster: {server: 'https://u:p@h:6443'}\n",
            ),
            _YAML_WORDS,
        ),
        Target(
            "cluster-configuration",
            _cluster_configuration,
            _API_ERRORS,
            (b"kubernetesVersion: v1.20.2\nfeatureGates:\n  UnversionedKubeletConfigMap: true\n",),
            _YAML_WORDS,
        ),
        Target(
            "static-pod",
            _manifest,
            (),
            (*_POD, *_files("etc/kubernetes/manifests/burstable.yaml")),
            (*_YAML_WORDS, b"containers: ", b"name: "),
        ),
        Target(
            "mountinfo",
            _mountinfo,
            (),
            _files("proc/self/mountinfo"),
            (b" - cgroup2 cgroup2 rw", b"cgroup", b"\\040", b"\\777", b"name=", b" - "),
        ),
        Target(
            "proc-cgroup",
            _proc_cgroup,
            (),
            (_files("proc/[0-9]*/cgroup")[:4]),
            (*_PATH_WORDS, b"0::", b"4:memory:"),
        ),
        Target(
            "systemctl-show",
            _show,
            (),
            _SHOW,
            (b"Id=", b"infinity", b"[not set]", b"1min 4s", b"1.5", b"MemoryMax=", b"us", b"y "),
        ),
        Target(
            "limits",
            _limits,
            (),
            (b"max 100000\n", b"9223372036854771712\n", b"1min 250ms", b"1.240000s", b"25000 100000"),
            (b"us", b"ms", b"min", b"month", b"max", b"infinity"),
        ),
        Target("plan", _plan, (UsageError, ConflictError), (_SMALL_PLAN,), _JSON_WORDS, json_like=True),
        Target(
            "answers",
            _answers,
            (UsageError,),
            (_ANSWERS, json.dumps({"format": answers.FORMAT, "version": 1, "force": True}).encode()),
            (*_YAML_WORDS, *(f"\n{question.key}: {question.default}".encode() for question in QUESTIONS)),
        ),
        Target(
            "facts",
            _facts,
            (UsageError,),
            tuple(path.read_bytes() for path in sorted(NODES.glob("*/facts.json"))),
            _JSON_WORDS,
            json_like=True,
        ),
        Target(
            "journal",
            _journal,
            (ConflictError,),
            (b"".join(map(encode, _RECORDS)), b"".join(map(encode, _RECORDS[:3]))),
            (*_JSON_WORDS, b"\n{}\n"),
        ),
        Target(
            "journal-signed",
            _signed_journal,
            (ConflictError,),
            (
                json.dumps(
                    [
                        {key: value for key, value in json.loads(encode(each)).items() if key != "sum"}
                        for each in _RECORDS
                    ]
                ).encode(),
            ),
            tuple(kind.value.encode() for kind in Kind),
            json_like=True,
        ),
        Target(
            "node",
            _node,
            (BlockedError, ConflictError, HostError),
            _node_seeds(),
            (*_UNIT_WORDS, *_KUBELET_WORDS, *_TOML_WORDS, *_JSON_WORDS),
        ),
        Target(
            "drain-lines",
            _drain_lines,
            (),
            _DRAIN,
            (
                b"evicting pod ",
                b"pod/",
                b" evicted",
                b" (will retry after 5s): ",
                b'error when evicting pods/"',
            ),
        ),
        Target("kubernetes-json", _kubernetes_objects, _API_ERRORS, _objects(), _JSON_WORDS, json_like=True),
        Target("docker-json", _docker_answers, (), _DOCKER, _JSON_WORDS, json_like=True),
        Target(
            "cri-messages",
            _cri_answers,
            (),
            _cri_seeds(),
            (b"\x0a", b"\x12\x00", b"\x08\x80\x80\x80\x80\x10", b"\x12\xff\xff\xff\x07", b"\x1a\x02"),
        ),
        Target("cri-info", _cri_info, (), _INFO, _JSON_WORDS, json_like=True),
        Target("cgroup-names", _cgroup_names, (), _PATHS, _PATH_WORDS),
        Target("translate", _translate, (), _LINES, _PATH_WORDS),
        Target(
            "references",
            _references,
            (),
            (*_LINES, b'B=/sys/fs/cgroup/kubepods\ncat "$B/tasks"\n', b'x{id=~"/kubepods/(.*)"}\n'),
            (*_PATH_WORDS, b"|", b"$B", b"B=", b"# ", b'"', b"(", b")", b"password: "),
        ),
    )
}
"""Every target by name."""

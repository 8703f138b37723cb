# SPDX-License-Identifier: Apache-2.0
"""Names of Kubernetes cgroups in the spelling of both drivers: parse one, write the other, say where a pod must be.

The kubelet thinks in a neutral list of components and renders it twice: `/kubepods/burstable/pod1-2` for cgroupfs,
`/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice` for systemd (failure-modes.md 1.7). It forbids
`_` in a component so that the second can be reversed. Everything here is pure; `translate.py` finds such paths in text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum


class CgroupNameError(ValueError):
    """A name that no driver, or not the one asked for, can hold; the message says which part and why."""


class RuntimeUnknownError(CgroupNameError):
    """A container whose scope prefix depends on the runtime, which nobody named; `line` of the text, counted from 1."""

    line: int = 0


class Driver(StrEnum):
    """Who owns the names of the tree."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


class Runtime(StrEnum):
    """Who makes a container's cgroup, and so names it."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    CRIO = "crio"


class QoS(StrEnum):
    """A pod's quality-of-service class; guaranteed pods stand directly in kubepods."""

    GUARANTEED = "guaranteed"
    BURSTABLE = "burstable"
    BESTEFFORT = "besteffort"


class Kind(StrEnum):
    """What a cgroup below the kubelet's root is."""

    KUBEPODS = "kubepods"
    QOS = "qos"
    POD = "pod"
    CONTAINER = "container"
    CONMON = "conmon"
    """CRI-O's monitor process of one container, beside that container."""
    CHILD = "child"
    """Anything deeper, made by a process of a container, or not by Kubernetes at all (then without a container)."""
    LITERAL = "literal"
    """A directory really called `…slice:cri-containerd:ID`: kubelet on systemd, runtime on cgroupfs (F06)."""


SLICE = ".slice"
_LONGEST_UNIT = 255
"""Characters of a unit's name, systemd.unit(5)."""

KUBEPODS = "kubepods"
_SCOPE_PREFIX = {Runtime.DOCKER: "docker", Runtime.CONTAINERD: "cri-containerd", Runtime.CRIO: "crio"}
_RUNTIME_OF = {prefix: runtime for runtime, prefix in _SCOPE_PREFIX.items()} | {"crio-conmon": Runtime.CRIO}
_QOS_OF = {str(qos): qos for qos in (QoS.BURSTABLE, QoS.BESTEFFORT)}

_UUID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
# A shortened id (33dff8e5…70a6) is how documents print one; nothing else about it is uncertain.
_ID = r"(?P<id>[0-9a-f]{12,64}|[0-9a-f]+(?:…|\.\.\.)[0-9a-f]+)"
_POD = re.compile(rf"pod(?P<uid>{_UUID}|[0-9A-Za-z][0-9A-Za-z.-]*)")
_POD_UNDERSCORES = re.compile(rf"pod{_UUID}")
_CONTAINER_DIRECTORY = re.compile(rf"(?:(?P<prefix>crio-conmon|crio)-)?{_ID}")
_CONTAINER_SCOPE = re.compile(rf"(?P<prefix>docker|cri-containerd|crio-conmon|crio)-{_ID}\.scope")
_LITERAL = re.compile(rf"(?P<slice>[^:]+\.slice):(?P<prefix>docker|cri-containerd|crio):{_ID}")
_KUBEPODS_SLICE = re.compile(r"(?:[^-]+-)*?kubepods\.slice")
_OWN_SLICES = frozenset({"/system.slice", "/user.slice", "/machine.slice", "/-.slice"})
_PROC_LINE = re.compile(r"[0-9]+:[^:]*:")
_CONTROLLER = re.compile(
    r"(?:name=)?systemd|unified|"
    r"(?:,?(?:blkio|cpu|cpuacct|cpuset|devices|freezer|hugetlb|memory|misc|net_cls|net_prio|perf_event|pids|rdma)\b)+"
)
MOUNTS = frozenset({"cgroup", "cgroup2", "cgroupv2"})
"""Last components of a mount point of cgroups, below /sys/fs, /host/sys/fs, /run/cilium and wherever agents put it."""
# What a kubelet's root cannot hold, so that all up to it lies outside: a mount point, cAdvisor's URLs, a step up, an
# outer node's container or unit.
_OUTSIDE = re.compile(r"cgroup(?:v?2)?|(?:sub)?containers|\.{1,2}|[0-9a-f]{64}|.+\.(?:slice|scope|service)")
_UNIT = re.compile(r".+\.(?:slice|scope|service)")
_INTERFACE_FILE = re.compile(
    r"tasks|notify_on_release|release_agent|"
    r"(?:blkio|cgroup|cpu|cpuacct|cpuset|devices|freezer|hugetlb|io|irq|memory|misc|net_cls|net_prio|perf_event|pids|rdma)"
    r"\.[a-z0-9_.A-Z]*[a-z0-9_A-Z]"
)


@dataclass(frozen=True, slots=True)
class CgroupName:
    """A cgroup as the kubelet thinks of it: `components` from the hierarchy's root down, none of them escaped.

    A `_` is allowed, since a configured root may hold one, but does not survive `from_systemd(to_systemd())`.
    Raises CgroupNameError for a component that is empty, `.`, `..`, or holds a slash or a control character.
    """

    components: tuple[str, ...]

    def __post_init__(self) -> None:
        for component in self.components:
            if component in {"", ".", ".."} or "/" in component or not component.isprintable():
                raise CgroupNameError(
                    f"{component!r} cannot be a component of a cgroup name, in {self.components}"
                )

    def to_cgroupfs(self) -> str:
        """Write the path below the hierarchy's root as the cgroupfs driver does."""
        return "/" + "/".join(self.components)

    def to_systemd(self) -> str:
        """Write the path below the hierarchy's root as the systemd driver does.

        Raises CgroupNameError when a component already is a systemd unit: it would become `x.slice.slice` (F43).
        """
        for component in self.components:
            if _UNIT.fullmatch(component):
                raise CgroupNameError(
                    f"{component!r} already is the name of a systemd unit, it has no slice of its own"
                )
        return expand_slice("-".join(map(_escape, self.components)) + SLICE) if self.components else "/"


def expand_slice(name: str) -> str:
    """Write the directory of a slice unit: `a-b.slice` is `/a.slice/a-b.slice`, `-.slice` is `/` (systemd.slice(5)).

    Raises CgroupNameError for an empty component, a slash, another suffix, or a name that no unit can have: it is longer.
    """
    if len(name) > _LONGEST_UNIT:
        raise CgroupNameError(
            f"invalid slice name {name[:40]!r}…: {len(name)} characters, at most {_LONGEST_UNIT}"
        )
    if name == "-.slice":
        return "/"
    stem = name.removesuffix(SLICE)
    if stem == name or "/" in name:
        raise CgroupNameError(f"invalid slice name {name!r}: it must end in .slice and hold no slash")
    first, *others = stem.split("-")
    if not first or "" in others:
        raise CgroupNameError(f"invalid slice name {name!r}: nothing may be empty between dashes")
    path = f"/{first}{SLICE}"
    for part in others:
        first += f"-{part}"
        path += f"/{first}{SLICE}"
    return path


def from_cgroupfs(path: str) -> CgroupName:
    """Read a path below the hierarchy's root; a pod uid written with `_` is the same pod.

    Raises CgroupNameError.
    """
    stripped = path.strip("/")
    return CgroupName(tuple(_dashed(part) for part in stripped.split("/")) if stripped else ())


def from_systemd(path: str) -> CgroupName:
    """Read a slice unit's name, or its whole directory below the hierarchy's root.

    Raises CgroupNameError when it is neither, for example a directory whose parents are not those of its unit.
    """
    stripped = path.strip("/")
    base = stripped.rpartition("/")[2]
    if not stripped or base == "-.slice":
        return CgroupName(())
    expanded = expand_slice(base)
    if "/" in stripped and expanded != f"/{stripped}":
        raise CgroupNameError(f"{path!r} is not where systemd keeps {base}, which is {expanded}")
    return CgroupName(tuple(_unescape(part) for part in base.removesuffix(SLICE).split("-")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path says: whose cgroup it is, in which spelling, and what stands around it.

    `prefix` is the text before the kubelet's tree (mount point, controller, `4:memory:`), without a slash at its end;
    `root` the components of the kubelet's `cgroupRoot`; `tail` the text behind what is understood, from its slash on.
    `runtime` is None where the path does not tell it.
    """

    prefix: str
    driver: Driver
    root: tuple[str, ...]
    kind: Kind
    qos: QoS | None = None
    pod_uid: str | None = None
    """With dashes, as the API writes it."""
    container_id: str | None = None
    runtime: Runtime | None = None
    conmon: bool = False
    tail: str = ""
    relative: bool = False
    """The path starts with the tree's first component, not with a slash."""

    def spelled(self, driver: Driver, runtime: Runtime | None = None) -> str:
        """Write the path in the spelling of a driver; of a LITERAL, the place where it belongs.

        Raises RuntimeUnknownError where only `runtime` could tell the container's scope, and CgroupNameError.
        """
        name = _name(self.root, self.qos, self.pod_uid)
        body = name.to_systemd() if driver is Driver.SYSTEMD else name.to_cgroupfs()
        if self.container_id is not None:
            body += "/" + _container(self.container_id, self.runtime or runtime, driver, conmon=self.conmon)
        return self.prefix + (body[1:] if self.relative else body) + self.tail


def pod_slice(uid: str, qos: QoS, driver: Driver, *, cgroup_root: str = "/") -> str:
    """Write where a pod's cgroup must be, below the hierarchy's root. Raises CgroupNameError."""
    name = _name(from_cgroupfs(cgroup_root).components, qos, uid)
    return name.to_systemd() if driver is Driver.SYSTEMD else name.to_cgroupfs()


def container_place(
    uid: str, qos: QoS, container_id: str, runtime: Runtime, driver: Driver, *, cgroup_root: str = "/"
) -> str:
    """Write where a container's cgroup must be, below the hierarchy's root. Raises CgroupNameError."""
    return (
        f"{pod_slice(uid, qos, driver, cgroup_root=cgroup_root)}/{_container(container_id, runtime, driver)}"
    )


def parse(path: str, cgroup_root: str | None = None) -> Place | None:
    """Say what a path names; None when it is not in a kubelet's tree.

    `path` may be a `/proc/PID/cgroup` line or start at a mount point. The outermost `kubepods` counts: what a kubelet
    inside a container has made is that container's tail. What stands between the mount point and `kubepods` is the
    kubelet's root; give `cgroup_root` ("/" for none) where that is known: then all before it is prefix.
    Never raises.
    """
    if KUBEPODS not in path:
        return None
    parts = path.split("/")
    root = None if cgroup_root is None else tuple(filter(None, cgroup_root.split("/")))
    try:
        return (_parse_literal(parts, root) if f"{SLICE}:" in path else None) or _parse_tree(parts, root)
    except CgroupNameError:
        return None


def translate_path(
    path: str, to: Driver, runtime: Runtime | None = None, cgroup_root: str | None = None
) -> str:
    """Write a cgroup path in the spelling of a driver; what has that spelling already comes back unchanged.

    A path outside kubepods is taken as a reserved cgroup (`/system/kubelet`) and renamed by the same rule. A literal
    directory (F06) comes back unchanged: it is neither spelling, and names where a process really was.

    Raises RuntimeUnknownError for a container that needs `runtime`, CgroupNameError for what has no other spelling.
    """
    place = parse(path, cgroup_root)
    if place is None:
        return _translate_reserved(path, to)
    if place.kind is Kind.LITERAL or place.driver is to:
        return path
    if place.kind is Kind.CHILD and place.container_id is None:
        raise CgroupNameError(
            f"cannot translate {path!r}: neither the kubelet nor a runtime makes {place.tail!r} there"
        )
    return place.spelled(to, runtime)


def _parse_literal(parts: list[str], root: tuple[str, ...] | None) -> Place | None:
    for at, part in enumerate(parts):
        found = _LITERAL.fullmatch(part)
        if found and KUBEPODS in found["slice"]:
            inner = _parse_tree(expand_slice(found["slice"]).split("/"), root)
            if inner is None or inner.kind is not Kind.POD:
                return None
            return replace(
                inner,
                prefix="/".join(parts[: _outside(parts[:at], mounts_only=True)]),
                kind=Kind.LITERAL,
                container_id=found["id"],
                runtime=_RUNTIME_OF[found["prefix"]],
                tail=_tail(parts, at + 1),
                relative=False,
            )
    return None


def _parse_tree(parts: list[str], root: tuple[str, ...] | None) -> Place | None:
    wanted = None if root is None else "-".join((*map(_escape, root), KUBEPODS)) + SLICE
    for at, part in enumerate(parts):
        if part == KUBEPODS:
            start = _outside(parts[:at]) if root is None else at - len(root)
            found = tuple(parts[max(0, start) : at])
            if root is None or root == found:
                return _place(parts, start, at, Driver.CGROUPFS, found)
        elif part == wanted or (root is None and _KUBEPODS_SLICE.fullmatch(part)):
            expanded = expand_slice(part).split("/")[1:]
            start = at + 1 - len(expanded)
            if start < 0 or parts[start : at + 1] != expanded:
                return None
            named = part.removesuffix(SLICE).split("-")[:-1]
            return _place(
                parts, start, at, Driver.SYSTEMD, tuple(map(_unescape, named)) if root is None else root
            )
    return None


def _place(parts: list[str], start: int, at: int, driver: Driver, root: tuple[str, ...]) -> Place:
    """Read on from `kubepods`, which is parts[at]; the kubelet's tree starts at parts[start]."""
    end = at + 1
    uid = container_id = runtime = None
    conmon = False
    kind = Kind.KUBEPODS
    if qos := _QOS_OF.get(_component(parts, end, driver)):
        kind, end = Kind.QOS, end + 1
    if pod := _POD.fullmatch(_component(parts, end, driver)):
        kind, qos, uid, end = Kind.POD, qos or QoS.GUARANTEED, pod["uid"].replace("_", "-"), end + 1
        # Either spelling below either parent: a runtime on the other driver is what a verifier looks for.
        child = parts[end] if end < len(parts) else ""
        if container := _CONTAINER_SCOPE.fullmatch(child) or _CONTAINER_DIRECTORY.fullmatch(child):
            prefix = container["prefix"] or ""
            conmon, runtime = prefix == "crio-conmon", _RUNTIME_OF.get(prefix)
            kind, container_id, end = Kind.CONMON if conmon else Kind.CONTAINER, container["id"], end + 1
    tail = _tail(parts, end)
    if (below := tail.strip("/")) and not _INTERFACE_FILE.fullmatch(below):
        kind = Kind.CHILD
    if root:
        CgroupName(root)  # raises for what cannot be one
    return Place(
        prefix="/".join(parts[:start]),
        driver=driver,
        root=root,
        kind=kind,
        qos=qos,
        pod_uid=uid,
        container_id=container_id,
        runtime=runtime,
        conmon=conmon,
        tail=tail,
        relative=start == 0,
    )


def _component(parts: list[str], at: int, driver: Driver) -> str:
    """Read parts[at] as one neutral component below parts[at - 1]; empty when it is none."""
    if at >= len(parts):
        return ""
    if driver is Driver.CGROUPFS:
        return parts[at]
    stem = parts[at - 1].removesuffix(SLICE) + "-"
    if not (parts[at].startswith(stem) and parts[at].endswith(SLICE)):
        return ""
    last = parts[at][len(stem) : -len(SLICE)]
    return "" if "-" in last else _unescape(last)


def _outside(before: list[str], *, mounts_only: bool = False) -> int:
    """Count the components that lie outside the kubelet's tree: mount point, controller, an outer node's cgroup."""
    cut = 0
    for index, part in enumerate(before):
        leads = cut == index and (not part or (not index and _PROC_LINE.fullmatch(part)))
        if leads or part in MOUNTS or (not mounts_only and _OUTSIDE.fullmatch(part)):
            cut = index + 1
    # `memory/kubepods` too: what is relative to the directory of a controller has no root of that name.
    bare = not mounts_only and (not cut or before[cut - 1] in {"", "."})
    if bare or (cut and before[cut - 1] in MOUNTS):
        cut += cut < len(before) and _CONTROLLER.fullmatch(before[cut]) is not None
    while cut < len(before) and not before[cut]:
        cut += 1
    return cut


def _translate_reserved(path: str, to: Driver) -> str:
    parts = path.split("/")
    cut = _outside(parts, mounts_only=True)
    inner = list(filter(None, parts[cut:]))
    file = [inner.pop()] if inner and _INTERFACE_FILE.fullmatch(inner[-1]) else []
    if any(_CONTAINER_DIRECTORY.fullmatch(part) for part in inner):
        raise CgroupNameError(
            f"cannot translate {path!r}: its runtime places a container outside Kubernetes (F64)"
        )
    name = "/" + "/".join(inner)
    slices = [part.endswith(SLICE) for part in inner]
    if to is Driver.SYSTEMD and not any(map(_UNIT.fullmatch, inner)):
        new = from_cgroupfs(name).to_systemd()
    elif to is Driver.SYSTEMD and slices == [True]:
        # The kubelet looks for `/kube-reserved.slice` below kube.slice (F40).
        new = expand_slice(inner[0])
    elif to is Driver.CGROUPFS and all(slices) and name not in _OWN_SLICES:
        new = from_systemd(name).to_cgroupfs()
    else:
        return path  # a unit is systemd's under either driver
    return path if new == name else "/".join(parts[:cut]) + "/".join((new, *file))


def _name(root: tuple[str, ...], qos: QoS | None, uid: str | None) -> CgroupName:
    level = () if qos in {None, QoS.GUARANTEED} else (str(qos),)
    return CgroupName((*root, KUBEPODS, *level, *(() if uid is None else (_dashed(f"pod{uid}"),))))


def _container(container_id: str, runtime: Runtime | None, driver: Driver, *, conmon: bool = False) -> str:
    prefix = "crio-conmon" if conmon else _SCOPE_PREFIX.get(runtime) if runtime else None
    if driver is Driver.CGROUPFS:
        return f"{prefix}-{container_id}" if runtime is Runtime.CRIO else container_id
    if prefix is None:
        raise RuntimeUnknownError(f"the scope of container {container_id} depends on the runtime: name it")
    return f"{prefix}-{container_id}.scope"


def _tail(parts: list[str], at: int) -> str:
    return "".join(f"/{part}" for part in parts[at:])


def _escape(component: str) -> str:
    return component.replace("-", "_")


def _unescape(component: str) -> str:
    return component.replace("_", "-")


def _dashed(component: str) -> str:
    return _unescape(component) if _POD_UNDERSCORES.fullmatch(component) else component

# SPDX-License-Identifier: Apache-2.0
"""Objects of the API, as kubectl gives them in JSON, to facts. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from migrator.configs import kubelet as kubelet_config
from migrator.configs.text import ConfigSyntaxError
from migrator.facts.kubelet import release_of
from migrator.facts.kubelet_state import renamed
from migrator.facts.look import Look
from migrator.facts.model import Budget, ClusterNode, ClusterPod, KubeletConfigMap
from migrator.kube import ANNOTATION

SYSTEM = "kube-system"
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

UNVERSIONED = "kubelet-config"
_UNVERSIONED_SINCE = (1, 24)  # KEP-2915; the gate decides in the versions around it
_UNVERSIONED_GATE = "UnversionedKubeletConfigMap"

_MIRROR = "kubernetes.io/config.mirror"
_HASH = "kubernetes.io/config.hash"

Json: TypeAlias = Mapping[str, Any]


def config_map_names(configuration: Json, kubelet_version: str | None) -> tuple[str, ...]:
    """Return the names of the kubelet's ConfigMap, the one that kubeadm looks for first; empty: nothing tells (F20).

    A kubeadm that looks for the name without a version falls back to the one with it.
    """
    release = release_of(str(configuration.get("kubernetesVersion") or "")) or release_of(kubelet_version)
    if release is None:
        return ()
    gates = configuration.get("featureGates")
    given = gates.get(_UNVERSIONED_GATE) if isinstance(gates, dict) else None
    unversioned = given if isinstance(given, bool) else release >= _UNVERSIONED_SINCE
    versioned = f"{UNVERSIONED}-{release[0]}.{release[1]}"
    return (UNVERSIONED, versioned) if unversioned else (versioned,)


def to_config_map(look: Look, raw: Json) -> KubeletConfigMap:
    """Return a ConfigMap of the kubelet; a text in it that cannot be parsed is noted."""
    name = str(meta_of(raw)["name"])
    text = str((raw.get("data") or {}).get("kubelet", "")).encode()
    config = kubelet_config.KubeletConfig()
    try:
        config = kubelet_config.read(text)
    except ConfigSyntaxError as error:
        look.unknown("cluster.config_map", f"{SYSTEM}/{name}: {error.message}", error.line)
    return KubeletConfigMap(
        name=name,
        present=True,
        driver=config.cgroup_driver or "",
        sha256=hashlib.sha256(text).hexdigest(),
        renamed=renamed(config),
    )


def to_node(raw: Json) -> ClusterNode:
    """Return a Node of the API."""
    status = raw.get("status") or {}
    info = status.get("nodeInfo") or {}
    return ClusterNode(
        name=str(meta_of(raw)["name"]),
        uid=str(meta_of(raw).get("uid", "")),
        machine_id=str(info.get("machineID", "")),
        unschedulable=bool(spec_of(raw).get("unschedulable")),
        ready={"True": True, "False": False}.get(_condition(status, "Ready")),
        control_plane=any(label in labels_of(raw) for label in CONTROL_PLANE),
        kubelet_version=str(info.get("kubeletVersion", "")).removeprefix("v"),
        run=str(annotations_of(raw).get(ANNOTATION, "")),
    )


def to_pod(
    raw: Json, budgets: Sequence[Json] = (), daemon_sets: Collection[tuple[str, str]] | None = None
) -> ClusterPod:
    """Return a pod of the API, with the names of the budgets that cover it; `daemon_sets` None: taken as there."""
    meta, status = meta_of(raw), raw.get("status") or {}
    kind, owner = owner_of(raw)
    namespace = str(meta.get("namespace", ""))
    gone = kind == "DaemonSet" and daemon_sets is not None and (namespace, owner) not in daemon_sets
    return ClusterPod(
        namespace=namespace,
        name=str(meta["name"]),
        uid=uid_of(raw),
        phase=str(status.get("phase", "")),
        ready=is_ready(raw),
        terminating=bool(meta.get("deletionTimestamp")),
        mirror=is_mirror(raw),
        owner_kind=kind,
        owner_name=owner,
        owner_exists=not gone,
        local_data=any(volume.get("emptyDir") is not None for volume in spec_of(raw).get("volumes") or ()),
        budgets=tuple(
            sorted(
                str(meta_of(budget)["name"])
                for budget in budgets
                if meta_of(budget).get("namespace") == namespace
                and covers(spec_of(budget).get("selector"), labels_of(raw), str(budget.get("apiVersion", "")))
            )
        ),
    )


def to_budget(raw: Json) -> Budget:
    """Return a PodDisruptionBudget of the API."""
    status = raw.get("status") or {}
    return Budget(
        namespace=str(meta_of(raw).get("namespace", "")),
        name=str(meta_of(raw)["name"]),
        allowed=max(0, _count(status.get("disruptionsAllowed"))),
        healthy=_count(status.get("currentHealthy")),
        desired=_count(status.get("desiredHealthy")),
        expected=_count(status.get("expectedPods")),
    )


def _count(value: object) -> int:
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{value!r:.40} is no count")
    return value or 0


def covers(selector: Json | None, labels: Mapping[str, str], api_version: str) -> bool:
    """Tell whether a budget's selector meets a pod's labels.

    No selector meets nothing. An empty one meets every pod of the namespace in policy/v1, and none in v1beta1. An
    operator that is not known makes a selector that the API server does not apply either.
    """
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    if not wanted and not expressions:
        return not re.fullmatch(r"policy/v1(?:alpha|beta)\d+", api_version)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _meets(each, labels) for each in expressions
    )


def _meets(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key", "")), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


def owner_of(raw: Json) -> tuple[str, str]:
    """Return kind and name of a pod's controller, empty where it has none."""
    owners = meta_of(raw).get("ownerReferences") or ()
    return next(
        ((str(each.get("kind", "")), str(each.get("name", ""))) for each in owners if each.get("controller")),
        ("", ""),
    )


def uid_of(raw: Json) -> str:
    """Return the uid under which the kubelet knows a pod: of a static pod its hash, see `ClusterPod.uid`."""
    return str(annotations_of(raw).get(_HASH) or meta_of(raw).get("uid", ""))


def is_mirror(raw: Json) -> bool:
    """Tell whether a pod is the API's image of a static pod."""
    return _MIRROR in annotations_of(raw)


def is_ready(raw: Json) -> bool:
    """Tell whether a pod says that it is ready."""
    return _condition(raw.get("status") or {}, "Ready") == "True"


def _condition(status: Json, kind: str) -> str:
    return next(
        (str(each.get("status")) for each in status.get("conditions") or () if each.get("type") == kind), ""
    )


def items_of(raw: Json) -> Sequence[Json]:
    """Return the objects of a list."""
    found: Sequence[Json] = raw.get("items") or ()
    return found


def meta_of(raw: Json) -> Json:
    """Return an object's metadata."""
    found: Json = raw["metadata"]
    return found


def spec_of(raw: Json) -> Json:
    """Return an object's spec."""
    found: Json = raw.get("spec") or {}
    return found


def labels_of(raw: Json) -> Mapping[str, str]:
    """Return an object's labels."""
    found: Mapping[str, str] = meta_of(raw).get("labels") or {}
    return found


def annotations_of(raw: Json) -> Mapping[str, str]:
    """Return an object's annotations."""
    found: Mapping[str, str] = meta_of(raw).get("annotations") or {}
    return found

# SPDX-License-Identifier: Apache-2.0
"""What the API server says about this node: its Node, its pods and their budgets, etcd, the kubelet's ConfigMap.

An API server that cannot be asked, or does not tell everything to everybody, is a fact too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrator.configs import yamltext
from migrator.configs.flags import Origin
from migrator.configs.text import ConfigSyntaxError
from migrator.configs.words import plain_words
from migrator.facts.api import (
    CONTROL_PLANE,
    SYSTEM,
    Json,
    config_map_names,
    is_mirror,
    is_ready,
    items_of,
    meta_of,
    owner_of,
    spec_of,
    to_budget,
    to_config_map,
    to_node,
    to_pod,
)
from migrator.facts.look import Look
from migrator.facts.model import Cluster, ClusterNode, ClusterPod, Kubelet, KubeletConfigMap, Node
from migrator.facts.units import flag_value
from migrator.kube import Kube, KubeError, Right

ADMIN = "/etc/kubernetes/admin.conf"
_AWAY = frozenset({"unreachable", "unauthorized"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """How to ask the API server; empty: as the node itself would."""

    kubeconfig: str = ""
    node_name: str = ""
    timeout: float = 10
    """Seconds for each request."""
    program: str | None = None
    """kubectl; None: where it usually is."""


def is_asked(kubelet: Kubelet, node: Node, ask: Ask) -> bool:
    """Tell whether there is an API server to ask: not for an image, nor for a standalone kubelet."""
    return node.live and bool(ask.kubeconfig or kubelet.kubeconfig)


def gather_cluster(look: Look, kubelet: Kubelet, node: Node, ask: Ask) -> Cluster | None:
    """Return what the API server says about this node; None when there is none to ask."""
    if not is_asked(kubelet, node, ask):
        return None
    path, origin = kubeconfig_of(look, kubelet, ask)
    blank = Cluster(kubeconfig=path, origin=origin, node_name=node_name(kubelet, node, ask))
    kube = Kube(look.reader, path, ask.timeout, ask.program)
    asker = _Asker(look, kube)
    try:
        blank = replace(blank, kubectl=kube.client_version)
        blank = replace(blank, server=kube.server())
        blank = replace(blank, version=kube.server_version())
        # Before the rest, which an API server without its etcd answers with silence.
        blank = replace(blank, etcd_healthy=asker.etcd_healthy())
        return _gather(asker, look, kubelet, blank)
    except KubeError as error:
        reason = error.message
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = f"{blank.server or path} gave an answer of unknown form ({error!r})"
    etcd = "its etcd is not healthy: " if blank.etcd_healthy is False else ""
    return replace(blank, reason=etcd + " ".join(reason.split()))


def kubeconfig_of(look: Look, kubelet: Kubelet, ask: Ask) -> tuple[str, str]:
    """Return the kubeconfig to use and who named it: the option, else the admin's, else the kubelet's own."""
    if ask.kubeconfig:
        return ask.kubeconfig, "option"
    return (ADMIN, "admin") if look.reader.exists(ADMIN) else (kubelet.kubeconfig, "kubelet")


def node_name(kubelet: Kubelet, node: Node, ask: Ask) -> str:
    """Return the name that the kubelet registers: given, by its flag, or else the hostname; in lower case, as it does."""
    words = plain_words(kubelet.argv, Origin("", 0))
    name = ask.node_name or flag_value(words, "--hostname-override", underscores=True) or node.hostname
    return name.strip().lower()


def look_at_pods(kube: Kube, name: str) -> Cluster:
    """Return the pods of a node and the budgets that cover them; all else of the result is empty.

    Raises:
        KubeError: the API server did not say.
    """
    version = kube.server_version()  # first: an API server that hangs costs one request's time
    pods = items_of(kube.get("pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}"))
    known = True
    raw: Sequence[Json] = ()
    try:
        raw = items_of(kube.get("poddisruptionbudgets", "--all-namespaces")) if pods else []
    except KubeError as error:
        if error.kind in _AWAY:
            raise
        known = False
    daemon_sets = _daemon_sets(kube) if any(owner_of(pod)[0] == "DaemonSet" for pod in pods) else None
    found = tuple(
        sorted((to_pod(each, raw, daemon_sets) for each in pods), key=lambda pod: (pod.namespace, pod.name))
    )
    covering = {(pod.namespace, name) for pod in found for name in pod.budgets}
    budgets = (to_budget(each) for each in raw)
    return Cluster(
        reached=True,
        node_name=name,
        version=version,
        pods=found,
        budgets=tuple(
            sorted(
                (each for each in budgets if (each.namespace, each.name) in covering),
                key=lambda budget: (budget.namespace, budget.name),
            )
        ),
        budgets_known=known,
    )


def _daemon_sets(kube: Kube) -> frozenset[tuple[str, str]] | None:
    """Return namespace and name of all DaemonSets; None when that is not told."""
    try:
        found = items_of(kube.get("daemonsets.apps", "--all-namespaces"))
    except KubeError as error:
        if error.kind in _AWAY:
            raise
        return None
    return frozenset((meta_of(each)["namespace"], meta_of(each)["name"]) for each in found)


def _gather(asker: _Asker, look: Look, kubelet: Kubelet, blank: Cluster) -> Cluster:
    """Return everything that can be asked.

    Raises:
        KubeError: the API server went away meanwhile.
    """
    name = blank.node_name
    own = asker.one("node", "node", name)
    node = to_node(own) if own else None
    pods: Cluster | None = None
    try:
        pods = look_at_pods(asker.kube, name)
    except KubeError as error:
        if error.kind != "forbidden":
            raise  # nobody may take it for a node without pods
        asker.failed("pods", error)
    config_map, map_rights = _config_map(asker, look, kubelet)
    rights = _drain_rights(name, pods.pods if pods else ())
    lacking = asker.missing((*rights, *map_rights))
    of_map = [each for each in lacking if "configmaps" in each]
    refused = [text for subject, text in _SHOWN_BY_A_LOOK.items() if subject in asker.forbidden]
    masters = {each.name: each for label in CONTROL_PLANE for each in asker.nodes(label)}
    is_master = node is not None and node.control_plane
    etcd = [
        pod
        for pod in asker.many("etcd", "pods", f"--namespace={SYSTEM}", "--selector=component=etcd")
        if is_mirror(pod)
    ]
    if is_master:
        asker.admit_forbidden("control_plane", "etcd", "etcd_healthy")
    return replace(
        blank,
        reached=True,
        missing_rights=(*refused, *(each for each in lacking if each not in of_map)),
        config_map_rights=((f"get configmaps in {SYSTEM}",) if "config_map" in asker.forbidden else ())
        + tuple(of_map),
        node=node,
        control_plane=tuple(masters[each] for each in sorted(masters)),
        pods=pods.pods if pods else (),
        budgets=pods.budgets if pods else (),
        budgets_known=pods.budgets_known if pods else False,
        etcd_unready=tuple(
            sorted(str(spec_of(pod).get("nodeName", "")) for pod in etcd if not is_ready(pod))
        ),
        etcd_members=len(etcd),
        config_map=config_map,
    )


_SHOWN_BY_A_LOOK = {"node": "get nodes", "pods": "list pods"}
"""Rights that need no question: the look itself was refused, or was not."""


def _drain_rights(name: str, pods: Sequence[ClusterPod]) -> tuple[Right, ...]:
    """Return what else `kubectl drain` needs. A kubelet's own user may get its pods only one by one (from 1.32 on)."""
    pod = next(((each.namespace, each.name) for each in pods), None)
    one_pod: tuple[Right, ...] = (("get", "", "pods", *pod),) if pod else (("get", "", "pods", ""),)
    return (
        ("patch", "", "nodes", "", name),
        *one_pod,
        ("create", "", "pods/eviction", ""),
        ("get", "apps", "daemonsets", ""),
    )


class _Asker:
    """Asks one thing after the other; what is refused or odd does not end the look, an API server that is away does."""

    def __init__(self, look: Look, kube: Kube) -> None:
        self.kube = kube
        self.forbidden: dict[str, KubeError] = {}
        self._look = look

    def one(self, subject: str, *argv: str) -> Json | None:
        """Return an object, None when there is none or it is not told."""
        try:
            found: Json = self.kube.get(*argv)
        except KubeError as error:
            self.failed(subject, error)
            return None
        return found

    def many(self, subject: str, *argv: str) -> Sequence[Json]:
        """Return the objects of a list."""
        return items_of(self.one(subject, *argv) or {})

    def nodes(self, label: str) -> Sequence[ClusterNode]:
        """Return the nodes with a label."""
        return [to_node(each) for each in self.many("control_plane", "nodes", f"--selector={label}")]

    def missing(self, rights: Sequence[Right]) -> tuple[str, ...]:
        """Return the rights that are missing; none when that is not told."""
        try:
            return self.kube.missing(rights)
        except KubeError as error:
            self.failed("missing_rights", error)
            self.admit_forbidden("missing_rights")
            return ()

    def etcd_healthy(self) -> bool | None:
        """Return what the API server thinks of its etcd."""
        try:
            return self.kube.raw("/readyz/etcd").strip() == "ok"
        except KubeError as error:
            if "(InternalError)" in error.message:  # how kubectl calls any 500, which is this check's no
                return False
            self.failed("etcd_healthy", error)
            return None

    def failed(self, subject: str, error: KubeError) -> None:
        """Note why something is not known.

        Raises:
            KubeError: nothing else would be known either.
        """
        if error.kind in _AWAY:
            raise error
        if error.kind == "forbidden":
            self.forbidden[subject] = error
        elif error.kind != "not-found":
            self._look.unknown(f"cluster.{subject}", error)

    def admit_forbidden(self, *subjects: str) -> None:
        """Note that something matters and may not be looked at."""
        for subject in subjects:
            if subject in self.forbidden:
                self._look.unknown(f"cluster.{subject}", self.forbidden[subject])


def _config_map(
    asker: _Asker, look: Look, kubelet: Kubelet
) -> tuple[KubeletConfigMap | None, tuple[Right, ...]]:
    """Return the kubelet's ConfigMap, and the right that a change of it needs (F18, F20)."""
    asked = asker.one("kubeadm_config", "configmap", "kubeadm-config", f"--namespace={SYSTEM}")
    text = str((asked.get("data") or {}).get("ClusterConfiguration", "")) if asked else ""
    names = config_map_names(_cluster_configuration(look, text), kubelet.version)
    found = None
    for name in names:
        found = found or asker.one("config_map", "configmap", name, f"--namespace={SYSTEM}")
    if found is None:
        known = asked is not None and bool(names) and "config_map" not in asker.forbidden
        return (KubeletConfigMap(name=names[0], present=False) if known else None), ()
    config_map = to_config_map(look, found)
    return config_map, (("update", "", "configmaps", SYSTEM, config_map.name),)


def _cluster_configuration(look: Look, text: str) -> Json:
    try:
        mapping = yamltext.parse_mapping(text)
        return yamltext.to_plain(mapping) if mapping else {}
    except ConfigSyntaxError as error:
        look.unknown("cluster.kubeadm_config", error, error.line)
        return {}

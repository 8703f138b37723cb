# SPDX-License-Identifier: Apache-2.0
"""Everything that is asked of an operator, as data: the same keys on a terminal, in a file of answers, and in the wizard.

Pure. Each question knows when it matters, from an audit alone; its default is the answer that loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from migrator.audit import Audit
from migrator.checks.kubeadm import renamed_by_driver
from migrator.checks.recommend import Verdict
from migrator.checks.workloads import control_plane
from migrator.drain import DELETE_DATA, FORCE, DrainOptions, Move, preview
from migrator.plan_cluster import in_cluster
from migrator.reference_changes import kept

NODE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SECONDS = re.compile(r"[1-9][0-9]{0,5}")
_UNCHANGED = "Nothing is changed."
_LIKE_YES_OR_NO = frozenset({"yes", "no", "y", "n", "true", "false", "on", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question; `concerns` gives what on the node it is about, and nothing where it does not matter."""

    key: str
    text: str
    choices: Mapping[str, str]
    """Answer → what follows from it, in one sentence. A single one has to be typed as it stands. None: seconds."""
    default: str
    """What Enter gives; empty: nothing."""
    gone: str = ""
    """The answer of a terminal that is gone, and of Ctrl-C; empty: they end the command."""
    means: str = ""
    """What is counted, where there are no choices."""
    concerns: Callable[[Audit], tuple[str, ...]] = lambda _: ()
    confirms: bool = False
    """It lets a change begin: its first choice agrees, and a file may name the node in its place."""

    def accepts(self, answer: str) -> bool:
        """Tell whether this is an answer to it."""
        if self.choices:
            return answer in self.choices
        return _SECONDS.fullmatch(answer) is not None

    def agreed(self, answer: str) -> bool:
        """Tell whether the answer lets begin what the question is about."""
        return answer == next(iter(self.choices), None)


def like_yes_or_no(answer: str) -> bool:
    """Tell whether an answer would be read as yes or no by a person, and so must not be taken for a node's name."""
    return answer.casefold() in _LIKE_YES_OR_NO


def _moves(found: Audit) -> tuple[Move, ...]:
    """Return what a drain from here would do to each pod; none where there is none to do."""
    cluster = found.facts.cluster
    if not _switches(found) or cluster is None or not cluster.reached:
        return ()
    if cluster.missing_rights or cluster.node is None:
        return ()
    return preview(cluster, DrainOptions())


def _switches(found: Audit) -> bool:
    return found.recommendation.verdict in (Verdict.MIGRATE, Verdict.OPTIONAL, Verdict.STAY)


def _needing(option: str) -> Callable[[Audit], tuple[str, ...]]:
    return lambda found: tuple(f"{m.namespace}/{m.name}" for m in _moves(found) if option in m.overrides)


def _going(found: Audit) -> tuple[str, ...]:
    return tuple(f"{move.namespace}/{move.name}" for move in _moves(found) if move.goes or move.needs)


def _drained_elsewhere(found: Audit) -> tuple[str, ...]:
    cluster = found.facts.cluster
    if not _switches(found) or not in_cluster(found.facts):
        return ()
    if cluster is None or not cluster.reached:
        return (f"the API server: {cluster.reason if cluster else 'nobody asked it'}",)
    if cluster.missing_rights:
        return (f"rights that {cluster.kubeconfig} lacks: {', '.join(cluster.missing_rights)}",)
    return () if cluster.node else (f"the Node {cluster.node_name}, which the API server does not give",)


def _server(found: Audit) -> tuple[str, ...]:
    cluster = found.facts.cluster
    if cluster is None or not cluster.reached or not _switches(found) or _drained_elsewhere(found):
        return ()
    return (cluster.server,)


def _config_map(found: Audit) -> tuple[str, ...]:
    cluster = found.facts.cluster
    if not _switches(found) or cluster is None or not cluster.reached or cluster.config_map_rights:
        return ()
    here = cluster.config_map
    if here is None or not here.present or here.driver == "systemd" or renamed_by_driver(found.facts):
        return ()
    return (f"kube-system/{here.name}, cgroupDriver {here.driver or 'not stated'}",)


def _references(found: Audit) -> tuple[str, ...]:
    facts = found.facts
    if not _switches(found) and found.recommendation.verdict is not Verdict.ALREADY_MIGRATED:
        return ()
    return tuple(
        each.file.path
        for each in facts.references
        if any(reference.new for reference in each.references) and not kept(facts, each)
    )


def _node(found: Audit) -> tuple[str, ...]:
    name = found.facts.node.hostname or "this node"
    return (name,) if _switches(found) or _references(found) else ()


ALREADY_DRAINED = Question(
    key="already-drained",
    text="Was this node drained elsewhere?",
    choices={
        "no": "There is no plan until the node can be drained from here.",
        "yes": "It is looked whether that is so, and uncordoning it afterwards is left to you.",
    },
    default="no",
    concerns=_drained_elsewhere,
)
FORCE_PODS = Question(
    key="force",
    text="Evict pods that nothing makes anew?",
    choices={
        "no": "There is no plan while such pods are on the node.",
        "yes": "They are gone for good; a rollback does not bring them back.",
    },
    default="no",
    concerns=_needing(FORCE),
)
EMPTYDIR = Question(
    key="delete-emptydir-data",
    text="Evict pods that keep data in an emptyDir?",
    choices={
        "no": "There is no plan while such pods are on the node.",
        "yes": "They are made anew elsewhere, and what they keep there is deleted.",
    },
    default="no",
    concerns=_needing(DELETE_DATA),
)
DRAIN_TIMEOUT = Question(
    key="drain-timeout",
    text="How long may the drain take?",
    choices={},
    default="300",
    means="seconds; pods that are not gone by then: the run is taken back",
    concerns=_going,
)
API_TIMEOUT = Question(
    key="api-timeout",
    text="How long to wait for an API server that is away after the switch?",
    choices={},
    default="120",
    means="seconds; after them the run ends, and names the commands that are left",
    concerns=_server,
)
CLUSTER_CONFIG = Question(
    key="cluster-config",
    text="Change kubeadm's ConfigMap of the kubelets too?",
    choices={
        "no": "`kubeadm upgrade node` may put this node back on cgroupfs.",
        "yes": "kubeadm writes systemd on every node that it upgrades or adds from then on.",
    },
    default="no",
    concerns=_config_map,
)
REFERENCES = Question(
    key="references",
    text="Rewrite the files of this host that name old cgroups?",
    choices={
        "no": "They go on looking for cgroups that are no longer there.",
        "yes": "They name the new cgroups; a rollback puts the old bytes back.",
    },
    default="no",
    concerns=_references,
)
ON_FAILURE = Question(
    key="on-failure",
    text="What if a step fails?",
    choices={
        "rollback": "The node is taken back to what it was, at once.",
        "stop": "The run stays open as it is, until `resume` or `rollback`.",
        "ask": "You are asked then; without a terminal it is taken back.",
    },
    default="rollback",
    concerns=_node,
)
BUDGET = Question(
    key="budget",
    text="What while a budget keeps a pod from being evicted?",
    choices={
        "wait": "go on trying until the drain's deadline",
        "skip": "leave this node as it is: take the run back",
        "abort": "stop here; `resume` or `rollback` later",
    },
    default="wait",
    gone="abort",
    concerns=_going,
)
APPLY = Question(
    key="apply",
    text="Carry out the plan?",
    choices={
        "yes": "Every pod container on the node is stopped and made anew. `cgmigrate rollback` takes it back.",
        "no": _UNCHANGED,
    },
    default="no",
    gone="no",
    concerns=_node,
    confirms=True,
)
ROLLBACK = Question(
    key="rollback",
    text="Roll the run back?",
    choices={
        "yes": "Every pod container on the node is stopped and made anew under the old driver.",
        "no": _UNCHANGED,
    },
    default="no",
    gone="no",
    confirms=True,
)
FORGET = Question(
    key="forget",
    text="Delete the run and its saved files?",
    choices={"yes": "It cannot be rolled back afterwards.", "no": _UNCHANGED},
    default="no",
    gone="no",
    confirms=True,
)
FAILED = Question(
    key="on-failure",
    text="Roll back now? No leaves the run open.",
    choices={"yes": "The node is taken back to what it was.", "no": "`resume` or `rollback` later."},
    default="yes",
    gone="no",
)
"""What `on-failure: ask` asks when a step has failed."""

PLANNING = (
    ALREADY_DRAINED,
    FORCE_PODS,
    EMPTYDIR,
    DRAIN_TIMEOUT,
    API_TIMEOUT,
    CLUSTER_CONFIG,
    REFERENCES,
)
"""What a plan is made of; the keys are the options of `cgmigrate plan`."""

QUESTIONS = (*PLANNING, ON_FAILURE, BUDGET, APPLY, ROLLBACK, FORGET)
"""Every key that a file of answers may hold."""


def matter(found: Audit) -> tuple[Question, ...]:
    """Return the questions that matter on an audited node; those of a way back come when there is something to take back."""
    return tuple(question for question in QUESTIONS if question.concerns(found))


def is_control_plane(found: Audit) -> bool:
    """Tell whether the last question has to be answered in words."""
    return any(control_plane(found.facts))


def of_plan(document: Mapping[str, Any], name: str) -> tuple[Question, ...]:
    """Return what is asked before a plan is carried out: to agree first, then what the run may have to decide.

    On a control-plane node the answer that agrees is its name.
    """
    steps, node = document["steps"], document["node"]
    of_cluster = document["scope"] == "cluster"
    stops = any(step["kind"] == "stop-unit" and step["id"] not in document["deferred"] for step in steps)
    if of_cluster:
        follows = "The ConfigMap is changed; no node is touched. `cgmigrate rollback` takes it back."
    elif stops:
        follows = APPLY.choices["yes"]
    else:
        follows = "Files are written; no pod is touched. `cgmigrate rollback` takes it back."
    text = f"Apply the {len(steps)} steps of {name} to {'the cluster' if of_cluster else node} now?"
    agree = replace(APPLY, text=text, choices={"yes": follows, "no": _UNCHANGED})
    findings = {finding["id"] for finding in document["findings"]}
    if stops and "control-plane" in findings and NODE_NAME.fullmatch(node) and not like_yes_or_no(node):
        agree = replace(agree, choices={node: follows}, default="")
    evicts = any(move["goes"] for move in document["moves"])
    return (agree, ON_FAILURE, *([BUDGET] if evicts else []))

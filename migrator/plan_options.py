# SPDX-License-Identifier: Apache-2.0
"""What the operator chose when a plan was made; part of the plan, so that `apply` plans again with the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrator.drain import DrainOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The operator's choices; each default is the one that loses nothing."""

    kubeconfig: str = ""
    """Empty: the admin's or the kubelet's own, where there is one."""
    node_name: str = ""
    """Empty: the name that the kubelet registers."""
    already_drained: bool = False
    force: bool = False
    delete_emptydir_data: bool = False
    drain_timeout_seconds: int = 300
    api_timeout_seconds: int = 120
    """How long to wait for an API server that is away after the switch."""
    cluster_config: bool = False
    references: bool = False
    """Rewrite host files that name the old tree."""

    @classmethod
    def answered(
        cls, answers: Mapping[str, str], *, kubeconfig: str = "", node_name: str = ""
    ) -> PlanOptions:
        """Return the options that answers to `questions.PLANNING` make; what is not answered is as by default."""

        def yes(key: str) -> bool:
            return answers.get(key) == "yes"

        return cls(
            kubeconfig=kubeconfig,
            node_name=node_name,
            already_drained=yes("already-drained"),
            force=yes("force"),
            delete_emptydir_data=yes("delete-emptydir-data"),
            drain_timeout_seconds=int(answers.get("drain-timeout", cls().drain_timeout_seconds)),
            api_timeout_seconds=int(answers.get("api-timeout", cls().api_timeout_seconds)),
            cluster_config=yes("cluster-config"),
            references=yes("references"),
        )

    @property
    def drain(self) -> DrainOptions:
        """What the drain is told."""
        return DrainOptions(
            force=self.force,
            delete_emptydir_data=self.delete_emptydir_data,
            timeout_seconds=self.drain_timeout_seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Return them as a plan holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PlanOptions:
        """Return the options of a validated plan."""
        return cls(**document)

# SPDX-License-Identifier: Apache-2.0
"""The commands about the cluster as a whole: its ConfigMap, from which kubeadm writes each node's kubelet file (F18)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migrator.commands_change import apply as apply_plan
from migrator.commands_look import give
from migrator.errors import BlockedError
from migrator.options import (
    AnswersOption,
    FormatOption,
    KubeconfigOption,
    OnFailureOption,
    VerboseOption,
    YesOption,
    be_verbose,
    is_json,
    kubeconfig_of,
    progress,
)

cluster = typer.Typer(
    name="cluster",
    no_args_is_help=True,
    help="Look at and change kubeadm's ConfigMap of the kubelets. From it kubeadm writes each node's kubelet configuration.\n\n"
    "Example: cgmigrate cluster plan",
)


@cluster.command()
def plan(
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the plan here, for review and apply."),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    output: FormatOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Show the change of the ConfigMap. And what kubeadm makes of each node before and after it.

    Changes nothing. Change it once, best when the first node is migrated and before anybody runs `kubeadm upgrade node`.

    Example: cgmigrate cluster plan -o cluster.json
    """
    from migrator import show  # noqa: PLC0415 - late
    from migrator.checks.kubeadm import consequences, unstated  # noqa: PLC0415
    from migrator.facts.cluster import Ask  # noqa: PLC0415
    from migrator.facts.gather import gather  # noqa: PLC0415
    from migrator.facts.kubelets import ask_kubelets  # noqa: PLC0415
    from migrator.host import Reader  # noqa: PLC0415
    from migrator.kube import Kube  # noqa: PLC0415
    from migrator.plan_options import PlanOptions  # noqa: PLC0415
    from migrator.session import plan_cluster  # noqa: PLC0415

    be_verbose(verbose)
    reader = Reader()
    options = PlanOptions(kubeconfig=kubeconfig_of(kubeconfig), cluster_config=True)
    facts = gather(reader, progress, Ask(kubeconfig=options.kubeconfig))
    made = plan_cluster(reader, facts, options)
    found = facts.cluster
    if found is None or found.config_map is None:  # plan_cluster has refused it already
        raise BlockedError("there is no ConfigMap to look at")
    if not is_json(output):
        nodes = ask_kubelets(Kube(reader, found.kubeconfig), progress)
        now = found.config_map.driver or unstated(facts)
        show.cluster_view(found.config_map, now, consequences, nodes)
    give(made, target, output, "cgmigrate cluster apply")


@cluster.command()
def apply(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan made by `cluster plan -o`.")],
    yes: YesOption = False,
    on_failure: OnFailureOption = None,
    answers: AnswersOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Carry out a reviewed change of the ConfigMap. Refuses (exit 4) unless it still is what the cluster needs.

    It is a run like any other: `rollback` puts the old text back.

    Example: cgmigrate cluster apply cluster.json --yes
    """
    apply_plan(plan_file, yes=yes, on_failure=on_failure, answers=answers, root=None, verbose=verbose)

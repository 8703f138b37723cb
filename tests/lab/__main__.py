# SPDX-License-Identifier: Apache-2.0
"""The lab by hand: python -m tests.lab build|up|cluster-up|shell|exec|down|cluster-down|list|prune."""

import argparse
import os
import signal
import sys
import time

from . import cache, cluster, golden, recipes
from .cache import LabError, progress
from .cluster import Cluster, clusters
from .machine import ENVIRONMENT, remove_unused_networks
from .node import Node, abandoned, build, nodes, owner_of


def _one(name: str | None) -> Node:
    """Return the node of that name, or the only one made by hand."""
    found = [node for node in nodes() if node.name == name or (name is None and owner_of(node) is None)]
    if len(found) != 1:
        raise LabError(f"which node? there are: {' '.join(node.name for node in nodes()) or 'none'}")
    return found[0]


def _up(arguments: argparse.Namespace) -> int:
    build()
    begin = time.monotonic()
    node = Node.create(arguments.flavour, arguments.name, keep=True)
    try:
        node.boot()
        progress(f"{node.name}: systemd is up after {time.monotonic() - begin:.1f} s, waiting for the pods")
        node.wait_pods()
    except BaseException:
        if not arguments.keep_failed:
            node.destroy()
        raise
    progress(f"{node.name}: pods run after {time.monotonic() - begin:.1f} s")
    print(node.name)
    return 0


def _cluster_up(arguments: argparse.Namespace) -> int:
    cluster.build()
    begin = time.monotonic()
    made = Cluster.create(arguments.name, keep=True)
    try:
        progress(
            f"{made.name}: three nodes are up after {time.monotonic() - begin:.1f} s, waiting for the pods"
        )
        made.wait()
    except BaseException:
        if not arguments.keep_failed:
            made.destroy()
        raise
    progress(
        f"{made.name}: usable after {time.monotonic() - begin:.1f} s; nodes {' '.join(node.name for node in made.nodes.values())}"
    )
    print(made.name)
    return 0


def _cluster_down(arguments: argparse.Namespace) -> int:
    found = [each for each in clusters() if arguments.name in (None, each.name)]
    if arguments.name and not found:
        raise LabError(f"there is no cluster {arguments.name!r}")
    for each in found:
        if arguments.name or owner_of(each.control_plane) is None:
            each.destroy()
            progress(f"{each.name}: gone")
    return 0


def _enter(arguments: argparse.Namespace) -> int:
    node = _one(arguments.name)
    argv = getattr(arguments, "argv", None) or ["bash", "-l"]
    words = node.enter(argv)
    os.execvpe(words[0], words, ENVIRONMENT)  # noqa: S606 -- the shell of `shell` runs in the node


def _down(arguments: argparse.Namespace) -> int:
    by_hand = [node for node in nodes() if owner_of(node) is None]
    for node in [_one(arguments.name)] if arguments.name else by_hand:
        node.destroy()
        progress(f"{node.name}: gone")
    return 0


def _list(_: argparse.Namespace) -> int:
    for node in nodes():
        owner = owner_of(node)
        whose = f"pid={owner[0]}" if owner else "by-hand"
        print(node.name, "on" if node.init else "off", whose, node.root)
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    for machine in list(nodes()) if arguments.all else abandoned():
        machine.destroy()
        progress(f"{machine.name}: gone")
    for name in remove_unused_networks():
        progress(f"network of {name}: gone")
    for path in cache.drop_stale(golden.artefacts()):
        progress(f"{path}: gone")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    (cluster.build if arguments.cluster else build)()
    return 0


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    adding = commands.add_parser("build", help="make what nodes are made from (cached)")
    adding.add_argument("--cluster", action="store_true", help="what clusters are made from too")
    adding.set_defaults(run=_build)
    adding = commands.add_parser("up", help="create and boot a node, wait for its pods")
    adding.add_argument("--flavour", choices=recipes.FLAVOURS, default="docker")
    adding.add_argument("--name")
    adding.add_argument("--keep-failed", action="store_true", help="leave a node that does not come up")
    adding.set_defaults(run=_up)
    adding = commands.add_parser("cluster-up", help="create and boot a cluster of three nodes, wait for it")
    adding.add_argument("--name")
    adding.add_argument("--keep-failed", action="store_true", help="leave a cluster that does not come up")
    adding.set_defaults(run=_cluster_up)
    adding = commands.add_parser("cluster-down", help="destroy a cluster, or all made by hand")
    adding.add_argument("name", nargs="?")
    adding.set_defaults(run=_cluster_down)
    adding = commands.add_parser("shell", help="open a shell in a node")
    adding.add_argument("name", nargs="?")
    adding.set_defaults(run=_enter)
    adding = commands.add_parser("exec", help="run a command in a node: exec NAME COMMAND...")
    adding.add_argument("name")
    adding.add_argument("argv", nargs=argparse.REMAINDER)
    adding.set_defaults(run=_enter)
    adding = commands.add_parser("down", help="destroy a node, or all made by hand")
    adding.add_argument("name", nargs="?")
    adding.set_defaults(run=_down)
    adding = commands.add_parser("list", help="list the nodes")
    adding.set_defaults(run=_list)
    adding = commands.add_parser(
        "prune", help="destroy abandoned nodes and artefacts no recipe makes any more"
    )
    adding.add_argument("--all", action="store_true", help="nodes made by hand too")
    adding.set_defaults(run=_prune)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell began us in its background
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        arguments = parser.parse_args()
        return int(arguments.run(arguments))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

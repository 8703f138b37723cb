# SPDX-License-Identifier: Apache-2.0
"""Checks of the files themselves: who else can change them, and what replacing one would do to its other names."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from migrator.checks.base import BLOCKER, WARNING, Check, command, on_disk, plural
from migrator.facts.model import Facts, File
from migrator.findings import Finding

_KERNEL = ("/proc/", "/sys/")


def writable_by_all(facts: Facts) -> Iterator[Finding]:
    """Find files that decide what root runs and that everybody may change, themselves or by way of a directory."""
    ways: dict[str, list[str]] = {}
    for each in _real(facts):
        if each.exposed_by:
            ways.setdefault(each.exposed_by, []).append(each.path)
    for way, paths in ways.items():
        others = [each for each in paths if each != way]
        yield Finding(
            id="file-writable-by-all",
            severity=BLOCKER if facts.node.live else WARNING,
            subject=way,
            summary=f"everybody may write {way}"
            + (f", and so decide {plural(len(others), 'file')} in it" if others else ""),
            detail=(f"{', '.join(others)}. " if others else "")
            + "Whoever can change what kubelet and runtime are started with is root on this node; and what can be "
            "swapped while root writes it is not written.",
            remediation=command("chmod", "o-w", on_disk(facts, way)),
        )


def owned_by_others(facts: Facts) -> Iterator[Finding]:
    """Find files that a user or group other than root's may change; an image's owners tell nothing."""
    if not facts.node.live:
        return
    found = [each for each in _real(facts) if not each.exposed_by and (each.uid or _group_may_write(each))]
    if found:
        said = "; ".join(
            f"{each.path} (user {each.uid}, group {each.gid}, mode {each.mode:04o})" for each in found
        )
        yield Finding(
            id="file-owned-by-others",
            severity=WARNING,
            subject=found[0].path,
            summary=f"others than root may change {plural(len(found), 'file')} that decide what root runs",
            detail=f"{said}. Owner and mode are kept as they are by the change and by the way back.",
            remediation=command("chown", "root:root", *(each.path for each in found)),
        )


def hard_linked(facts: Facts) -> Iterator[Finding]:
    """Find configuration files with several names: the change gives one name a file of its own."""
    chains = (*facts.kubelet.driver.chain, *facts.runtime.driver.chain)
    deciding = {each.path for each in chains} | {
        facts.kubelet.config_file,
        facts.runtime.config_file,
        *facts.runtime.imports,
    }
    for each in _real(facts):
        if each.links > 1 and each.path in deciding:
            yield Finding(
                id="file-hard-linked",
                severity=WARNING,
                subject=each.path,
                summary=f"{each.path} has {each.links} names (hard links); a change of it gives this name a file of its own",
                detail="Files are replaced as a whole, so that a crash leaves the old or the new one. "
                "The other names keep the old content, and the way back does not tie them together again.",
                remediation=command(
                    "find", on_disk(facts, "/"), "-xdev", "-samefile", on_disk(facts, each.path)
                ),
            )


def _real(facts: Facts) -> Iterator[File]:
    return (each for each in facts.files if not each.path.startswith(_KERNEL))


def _group_may_write(file: File) -> bool:
    return bool(file.gid and file.mode & stat.S_IWGRP)


CHECKS = (
    Check(
        "file-writable-by-all",
        (BLOCKER, WARNING),
        (),
        "Everybody may change a file that decides what root runs; on an image only a warning.",
        writable_by_all,
    ),
    Check(
        "file-owned-by-others",
        (WARNING,),
        (),
        "A user or group other than root's may change a file that decides what root runs.",
        owned_by_others,
    ),
    Check(
        "file-hard-linked",
        (WARNING,),
        (),
        "A configuration file has several names, which a change would part.",
        hard_linked,
    ),
)

# SPDX-License-Identifier: Apache-2.0
"""Which host files are rewritten so that they name the new tree, where the operator asks for it (F65).

Pure but for the texts, which come through `read`. Ordinary changes: each is a `write-file` step with its own undo.
"""

from __future__ import annotations

from collections.abc import Callable

from migrator.changes import Change, and_names, digest
from migrator.errors import ConflictError
from migrator.facts.model import Facts, ReferringFile
from migrator.references import rewrite, translator_of

_OWN = ("/etc/", "/usr/local/", "/var/spool/cron/")
"""Above all places that are searched."""


def kept(facts: Facts, each: ReferringFile) -> str:
    """Return why a file is not rewritten although what it names could be; empty: it is."""
    paths = {each.file.path, each.file.real_path}
    if paths & {path for file in facts.files for path in (file.path, file.real_path)}:
        return "it is the kubelet's or the runtime's own configuration"
    manifests = facts.kubelet.static_pod_path.rstrip("/")
    if manifests and any(path.startswith(f"{manifests}/") for path in paths):
        return "it is the manifest of a static pod, and another manifest is another pod"
    if each.file.real_path != each.file.path and not each.file.real_path.startswith(_OWN):
        return f"a link leads to it, out of the folders that are searched: {each.file.real_path} may be other nodes' too"
    if each.file.exposed_by:
        return f"everybody may write {each.file.exposed_by}"
    if each.file.links > 1:
        return f"it has {each.file.links} names (hard links), and a change would part them"
    return ""


def reference_changes(facts: Facts, read: Callable[[str], bytes | None]) -> tuple[Change, ...]:
    """Return the changes, by path.

    Raises:
        ConflictError: a file is no longer as the facts have it.
    """
    translator = translator_of(facts.runtime.kind, facts.kubelet.cgroup_root)
    names: dict[str, list[str]] = {}
    for each in facts.references:
        names.setdefault(each.file.real_path, []).append(each.file.path)
    changes: list[Change] = []
    for each in facts.references:
        first, *others = names[each.file.real_path]
        if each.file.path != first:
            continue
        if translator is None or kept(facts, each) or not any(found.new for found in each.references):
            continue
        before = read(each.file.path)
        if before is None or digest(before) != each.file.sha256:
            raise ConflictError(
                f"{each.file.path} changed while the node was being looked at", hint="run the command again"
            )
        edited = rewrite(before, translator, each.kind)
        if edited.edits:
            changes.append(
                Change(
                    path=each.file.path,
                    before=before,
                    after=edited.text,
                    edits=edited.edits,
                    why=and_names("it names cgroups of the old tree (F65)", others),
                    unit_file=each.kind == "unit",
                    file=each.file,
                    restart=each.readers,
                    context=0,
                )
            )
    return tuple(changes)

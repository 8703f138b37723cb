# SPDX-License-Identifier: Apache-2.0
"""Bugs that somebody could really write, each as a change of the product that the suite must not let pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """In `file` below `migrator/`, `old` (there exactly once) becomes `new`."""

    file: str
    old: str
    new: str


BUGS = {
    "half a path that a script puts together is rewritten": Bug(
        "references.py",
        "if pieces.is_one(before, after):",
        "if False:",
    ),
    "the manifest of a static pod is rewritten": Bug(
        "reference_changes.py",
        'if manifests and any(path.startswith(f"{manifests}/") for path in paths):',
        "if False:",
    ),
    "a plan is made although containerd makes something else of its edit": Bug(
        "containerd_dump.py", "    if wrong:\n", "    if False:\n"
    ),
    "an edit that has no effect passes because no other key changes": Bug(
        "containerd_dump.py", "if handler.systemd_cgroup is not True and not unseen", "if False"
    ),
    "the undo is written after the change": Bug(
        "engine.py",
        """            self.journal.write(Kind.CAPTURED, planned.id, undo=step.capture(self.hands))
        again =""",
        """            kept = step.capture(self.hands)
        again =""",
    ),
    "a resume captures again": Bug(
        "records.py",
        'state.undo.setdefault(record.step, record.data.get("undo"))',
        'state.undo[record.step] = record.data.get("undo")',
    ),
    "a torn line is kept": Bug(
        "journal.py",
        "os.ftruncate(self._descriptor, whole)",
        "os.ftruncate(self._descriptor, len(data))",
    ),
    "the journal is not flushed": Bug(
        "journal.py",
        """                raise OSError(28, "short write")
            os.fsync(self._descriptor)
""",
        """                raise OSError(28, "short write")
""",
    ),
    "the mode of a file is lost": Bug(
        "host.py",
        'like.mode if like and like.kind == "file" else mode)',
        "mode)",
    ),
    "a file is renamed before it is flushed": Bug(
        "host.py",
        """                stream.flush()
                os.fsync(stream.fileno())
""",
        """                stream.flush()
""",
    ),
    "a directory is not flushed after a rename": Bug(
        "host.py",
        """            temporary.rename(real)
            sync_directory(real.parent)
""",
        """            temporary.rename(real)
""",
    ),
    "the state directory's own name is not flushed": Bug(
        "statedir.py",
        "sync_directory(each.parent)",
        "sync_directory(each)",
    ),
    "a file is written in place": Bug(
        "host.py",
        "            temporary.rename(real)\n",
        "            real.write_bytes(data)\n            temporary.unlink()\n",
    ),
    "active is taken for started": Bug(
        "steps/unit.py",
        """            if state.active_state != "active" or (state.invocation_id and state.invocation_id == before):
                return Where.BEFORE
        return Where.AFTER""",
        """            if state.active_state != "active":
                return Where.BEFORE
        return Where.AFTER""",
    ),
    "undoing a stop is a start": Bug(
        "steps/unit.py",
        "            hands.control.restart(unit)\n\n",
        "            hands.control.start(unit)\n\n",
    ),
    "a node is uncordoned whoever cordoned it": Bug(
        "steps/cluster.py",
        'if mark == f"{hands.run}:ours":',
        "if mark.startswith(hands.run):",
    ),
    "the cordon comes before its mark": Bug(
        "steps/cluster.py",
        """        control.mark(self.node, f"{hands.run}:{'kept' if before else 'ours'}")
        if before:
            hands.say(f"{self.node} is cordoned already, and will stay so")
            return
        control.cordon(self.node)
""",
        """        if before:
            control.mark(self.node, f"{hands.run}:kept")
            return
        control.cordon(self.node)
        control.mark(self.node, f"{hands.run}:ours")
""",
    ),
    "the guard is removed before the kubelet is healthy": Bug(
        "steps/unit.py",
        """            if state.invocation_id == before.invocation_id and not unit.endswith(".socket"):
""",
        """            hands.host.remove("/var/lib/cgmigrate/active")
            if state.invocation_id == before.invocation_id and not unit.endswith(".socket"):
""",
    ),
    "the guard does not hold on the boot after": Bug(
        "steps/guard.py",
        """ALLOW = "/run/cgmigrate/allow\"""",
        """ALLOW = "/var/cgmigrate/allow\"""",
    ),
    "the guard is for the kubelet alone": Bug(
        "steps/guard.py",
        """    for unit in units:
        _put(hands, drop_in(unit), text(unit))
""",
        """    for unit in units[:1]:
        _put(hands, drop_in(unit), text(unit))
""",
    ),
    "a reboot is not noticed": Bug(
        "engine.py",
        "return boot is not None and (not step.volatile or boot == self.journal.boot or released)\n\n    def _is_applied",
        "return boot is not None\n\n    def _is_applied",
    ),
    "a reboot is not noticed on the way forward": Bug(
        "engine.py",
        "return boot is not None and (not step.volatile or boot == self.journal.boot or released)\n\n    def _revert",
        "return boot is not None\n\n    def _revert",
    ),
    "the first failing revert ends the rollback": Bug(
        "engine.py",
        """                failures.append((planned, error))
                self._note(Kind.REVERT_FAILED, planned.id, error=error.message)
""",
        """                failures.append((planned, error))
                self._note(Kind.REVERT_FAILED, planned.id, error=error.message)
                break
""",
    ),
    "units are started although a file is not back": Bug(
        "engine.py",
        """    if any(each.kind in ("write-file", "daemon-reload", "start-unit") for each in failed):
        return planned.kind != "write-file"
""",
        "",
    ),
    "units are started although systemd has not read their files": Bug(
        "engine.py", '("write-file", "daemon-reload", "start-unit")', '("write-file", "start-unit")'
    ),
    "the kubelet runs on while the runtime goes back": Bug(
        "engine.py", '("write-file", "daemon-reload", "start-unit")', '("write-file", "daemon-reload")'
    ),
    "a rollback needs its journal": Bug(
        "engine.py",
        """        except HostError as error:
            if not self._mute:
""",
        """        except HostError as error:
            raise
            if not self._mute:
""",
    ),
    "absent files come back empty": Bug(
        "steps/file.py",
        """            hands.host.remove(old.path)
""",
        """            hands.host.write(old.path, b"")
""",
    ),
    "an edited file is lost": Bug(
        "steps/file.py",
        'if now.kind == "file" and now.sha256 not in (self.after, old.sha256):',
        'if now.kind == "elsewhere":',
    ),
    "the new slices stay": Bug(
        "steps/cgroup.py",
        """            if trees:
                self._remove(hands, trees)
""",
        "",
    ),
    "old sandboxes stay on the way back": Bug(
        "steps/sandboxes.py",
        """            self._remove(hands)
            return
        ensure_active""",
        """            return
        ensure_active""",
    ),
    "another's sandboxes are not recognised": Bug(
        "steps/sandboxes.py",
        '        return is_slice == (self.foreign_parent == "systemd") and "kubepods" in parent',
        '        return not is_slice and "kubepods" in parent',
    ),
    "a cgroup that was there in part goes on the way back": Bug(
        "reserved.py",
        "and len(absent(facts, each.place)) == mounts",
        "and mounts",
    ),
    "the kubelet stays outside its reserved cgroup": Bug(
        "reserved.py",
        "if setting in _FOLLOW and path",
        "if setting not in _FOLLOW and path",
    ),
    "with a root of its own a tree at the top stays": Bug(
        "plan_steps.py",
        "for above in dict.fromkeys((root, ()))]",
        "for above in (root,)]",
    ),
}

# SPDX-License-Identifier: Apache-2.0
"""The real command, as a process under strace, on a copy of a sample node; and how what it left is settled and compared.

What is killed or failed is counted from a good run: `effects` reads every call that changes something below the node's
directory from strace's log, with the number by which `inject=…:when=N` finds it again. What settles a run afterwards is the same
command in this process, because a process start costs more than the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.cli import run

HERE = Path(__file__).resolve().parents[2]
NODE = HERE / "tests/nodes/docker-20.10-kubelet-1.20/root"
CGMIGRATE = Path(sys.executable).parent / "cgmigrate"
STATE = "var/lib/cgmigrate"
_BYTECODE = tempfile.TemporaryDirectory(prefix="cgmigrate-bytecode-")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(HERE),  # the command of this checkout, also in a clone that shares another's .venv
    "PYTHONHASHSEED": "0",
    # So that the same run makes the same calls: whoever tests beside this one writes compiled modules too.
    "PYTHONPYCACHEPREFIX": _BYTECODE.name,
    "PYTHONDONTWRITEBYTECODE": "1",
}
CHANGING = (
    "fsync,rename,renameat,renameat2,mkdir,rmdir,unlink,openat,write,pwrite64,ftruncate,chmod,fchmod,fchown"
)
RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?")
_LINE = re.compile(r"\d+ +(?P<call>\w+)\((?P<rest>.*)")

Tree = Mapping[str, tuple[int, int, int, str]]


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def crashed(self) -> bool:
        """Tell whether it met something that it had not thought of."""
        return "Traceback" in self.err + self.out or "internal error" in self.err or self.code == 1


@dataclass(frozen=True)
class Effect:
    """One call of a good run that changes something: the `when`-th of its kind, on `path` (the run's name is RUN)."""

    call: str
    when: int
    path: str

    def __str__(self) -> str:
        return f"{self.call} {self.when} of {self.path}"


@dataclass(frozen=True)
class Report:
    """One run as `status --format json` tells it."""

    run: str
    status: str
    settled: bool


def here(*words: str | Path) -> Done:
    """Run the command in this process, as `__main__` does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(word) for word in words])
    return Done(code, _said(out), _said(err))


def _said(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def process(
    *words: str | Path,
    inject: Sequence[str] = (),
    trace: str = CHANGING,
    log: Path | None = None,
    bpf: bool = True,
    shell: str = "",
    by: Sequence[str] = (),
) -> Done:
    """Run the command as a process under strace; `shell` has redirections, `by` is a program that starts it.

    Signals are not ignored, even if whoever runs these tests has them ignored.
    """
    command = [
        *("env", "--default-signal"),
        *("strace", "-f", *(["--seccomp-bpf"] if bpf else []), "-y", "-o", str(log or os.devnull)),
        *("-e", f"trace={trace}"),
        *(word for each in inject for word in ("-e", f"inject={each}")),
        *map(str, (*by, CGMIGRATE, *words)),
    ]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    done = subprocess.run(
        command, env=ENVIRONMENT, check=False, capture_output=True, stdin=subprocess.DEVNULL
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def effects(log: Path, root: Path) -> list[Effect]:
    """Return every call below `root` that changes something, in order, from strace's log of a good run."""
    found, count = [], Counter[str]()
    for line in log.read_text(errors="replace").splitlines():
        if match := _LINE.fullmatch(line):
            call, rest = match["call"], match["rest"]
            count[call] += 1
            if f"{root}/" in rest and not (call == "openat" and re.search(r"O_RDONLY|O_PATH", rest)):
                found.append(Effect(call, count[call], _path(rest, root)))
    if not found:
        raise AssertionError(f"nothing was traced below {root}: {log.read_text(errors='replace')[-2000:]}")
    return found


def injected(log: Path, root: Path) -> list[tuple[str, str]]:
    """Return call and path of everything that strace failed or killed."""
    return [
        (match["call"], _path(match["rest"], root))
        for line in log.read_text(errors="replace").splitlines()
        if "(INJECTED)" in line and (match := _LINE.fullmatch(line))
    ]


def _path(rest: str, root: Path) -> str:
    paths = re.findall(rf"{re.escape(str(root))}(/[^\">]*)", rest)
    return RUN_NAME.sub("RUN", paths[0]) if paths else ""


def snapshot(root: Path) -> Tree:
    """Return mode, owner and content of everything but our own state directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name == STATE or name.startswith(f"{STATE}/"):
            continue
        stat = path.lstat()
        content = (
            os.readlink(path)
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else ""
        )
        found[name] = (stat.st_mode, stat.st_uid, stat.st_gid, content)
    return found


def reports(root: Path) -> list[Report]:
    """Return what `status` says of every run.

    Its exit code must say the same: 7 while one is open, else 0.
    """
    done = here("status", "--root", root, "--format", "json")
    rows: list[dict[str, Any]] = json.loads(done.out)
    found = [Report(row["run"], row["status"], row["settled"]) for row in rows]
    expected = 0 if all(each.settled for each in found) else 7
    if done.code != expected:
        raise AssertionError(f"status exits with {done.code} over {found}")
    return found


def copy(tree: Path, to: Path) -> Path:
    """Copy a node with its state directory, owners and modes."""
    shutil.copytree(tree, to, symlinks=True)
    return to


@dataclass(frozen=True)
class Prepared:
    """A sample node, its plan, and what it looks like before and after."""

    node: Path
    plan: Path
    committed: Path
    """The node after a good `apply`."""
    begun: Path
    """The node after an `apply` that was killed at the first record of its journal."""
    first: Tree
    last: Tree
    forward: list[Effect]
    back: list[Effect]
    again: list[Effect]
    """What `resume` does on `begun`."""

    def tree(self, standing: str) -> Tree:
        """Return what the node's files are when its newest run is `committed`, or `rolled-back`, or there is `none`."""
        return self.last if standing == "committed" else self.first

    def effects(self, direction: str) -> list[Effect]:
        """Return what apply, rollback or resume does."""
        return {"apply": self.forward, "rollback": self.back, "resume": self.again}[direction]

    def begin(self, direction: str, place: Path) -> tuple[Path, tuple[str | Path, ...]]:
        """Return a copy of the node where apply, rollback or resume begins, and the command's words."""
        match direction:
            case "apply":
                node = copy(self.node, place)
                return node, ("apply", "--root", node, self.plan, "--yes")
            case "rollback":
                node = copy(self.committed, place)
                return node, ("rollback", "--root", node, "--yes")
            case _:
                node = copy(self.begun, place)
                return node, ("resume", "--root", node)


def prepare(place: Path) -> Prepared:
    """Make a node and run it once forward, back and on, to learn what there is to fail."""
    node, plan, log = copy(NODE, place / "node"), place / "plan.json", place / "log"
    _good(here("plan", "--root", node, "-o", plan))
    compiled = copy(node, place / "compiled")
    for words in (["apply", plan], ["rollback"]):
        subprocess.run(
            [CGMIGRATE, *words, "--root", compiled, "--yes"],
            env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": ""},
            check=True,
            capture_output=True,
        )
    committed = copy(node, place / "committed")
    _good(process("apply", "--root", committed, plan, "--yes", log=log))
    forward = effects(log, committed)
    taken = copy(committed, place / "taken")
    _good(process("rollback", "--root", taken, "--yes", log=log))
    back = effects(log, taken)
    first_record = next(each for each in forward if each.call == "write" and "journal" in each.path)
    begun = copy(node, place / "begun")
    kill(first_record, "apply", "--root", begun, plan, "--yes")
    resumed = copy(begun, place / "resumed")
    _good(process("resume", "--root", resumed, log=log))
    return Prepared(
        node=node,
        plan=plan,
        committed=committed,
        begun=begun,
        first=snapshot(node),
        last=snapshot(committed),
        forward=forward,
        back=back,
        again=effects(log, resumed),
    )


def _good(done: Done) -> None:
    if done.code:
        raise AssertionError(done)


def kill(effect: Effect, *words: str | Path) -> Done:
    """Run the command and kill it at a call, before that is made."""
    return signalled(effect, "KILL", *words)


def signalled(
    effect: Effect, name: str, *words: str | Path, more: str = "", shell: str = "", by: Sequence[str] = ()
) -> Done:
    """Run the command and send it a signal when it makes a call; `more` are further calls of its kind, as strace counts."""
    inject = f"{effect.call}:signal={name}:when={effect.when}{more}"
    # strace 6.1 loses signals when the kernel filters the calls for it.
    return process(*words, trace=effect.call, inject=[inject], bpf=False, shell=shell, by=by)


def settle(prepared: Prepared, left: Path, place: Path, *, journalled: bool = True) -> list[str]:
    """Settle what a crash left, one copy by `resume` and one by `rollback`; return what is not as it should be.

    Of a way back that could not be written down (`journalled`) `status` knows nothing, and `resume` must find out.
    """
    wrong = []
    told = standing(left)
    if told in SETTLED and journalled and snapshot(left) != prepared.tree(told):
        wrong.append(f"status says {told}, and the files are others")
    resumed = copy(left, place)
    done = here("resume", "--root", resumed)
    ends = FORWARD.get(told, "rolled-back")
    went = (done.code, standing(resumed), snapshot(resumed) == prepared.tree(standing(resumed)))
    allowed = [(0, ends, True)]
    if not journalled:
        allowed += [(5, "rolled-back", True), (0, told, snapshot(resumed) == prepared.tree(told))]
    if went not in allowed:
        wrong.append(f"resume of {told} ended {went}: {done.err}")
    done = here("rollback", "--root", left, "--yes")
    ends, code = ("none", 2) if told == "none" else ("rolled-back", 0)
    if (done.code, standing(left), snapshot(left)) != (code, ends, prepared.first):
        wrong.append(f"rollback of {told} ended {done.code}, {standing(left)}: {done.err}")
    if told == "none":
        again = here("apply", "--root", left, prepared.plan, "--yes")
        beside = [path.name for path in (left / STATE / "runs").iterdir() if path.name.startswith(".")]
        if (again.code, snapshot(left), beside) != (0, prepared.last, []):
            wrong.append(f"apply again: {again}, beside it {beside}")
    shutil.rmtree(resumed)
    shutil.rmtree(left)
    return wrong


SETTLED = ("none", "committed", "rolled-back")
FORWARD = {"none": "none", "planned": "committed", "applying": "committed", "committed": "committed"}
"""Where `resume` ends from where a run stands; from all else it goes back."""


def standing(root: Path) -> str:
    """Return where the newest run stands, or `none`."""
    found = reports(root)
    return found[-1].status if found else "none"

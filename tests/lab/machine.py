# SPDX-License-Identifier: Apache-2.0
"""One nspawn machine: copy-on-write root, private cgroups, boot, commands inside, power cut, removal.

All state is on disk, so that a machine can be torn down by another process than the one that made it.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from . import network
from .cache import LabError, cache_dir, copy_tree, remove_tree
from .process import NodeProcess, children, start_time

HERE = Path(__file__).resolve().parent
CGROUP = Path("/sys/fs/cgroup")
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024  # the kernel's default of 128 is one for all nodes: five of them use it up
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": os.environ.get("TERM", "dumb"),
}
PATIENCE = 3
"""How many times as long as on an idle machine everything is waited for: waiting costs only what fails."""
_booted: dict[int, subprocess.Popen[bytes]] = {}


def nodes_dir() -> Path:
    """Return the folder that holds one folder per machine."""
    return cache_dir() / "nodes"


def until(what: str, ready: Callable[[], bool], timeout: float, pause: float = 0.1) -> None:
    """Wait for a condition; say what did not come when it did not."""
    deadline = time.monotonic() + PATIENCE * timeout
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {PATIENCE * timeout:g} s")
        time.sleep(pause)


class Machine:
    """One machine by its name, whoever made it."""

    def __init__(self, name: str) -> None:
        if not name.replace("-", "").isalnum() or len(name) > 40:  # it becomes a host name
            raise LabError(f"{name!r}: a name has letters, digits and dashes only, at most 40")
        self.name = name
        self.dir = nodes_dir() / name
        self.root = self.dir / "root"

    # --- on disk ---------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, object]:
        """Return what is recorded: flavour, owner and its start time, pids of the present boot."""
        try:
            return dict(json.loads((self.dir / "state.json").read_text()))
        except FileNotFoundError:
            raise LabError(f"there is no node {self.name!r}") from None

    @property
    def recorded(self) -> dict[str, object]:
        """Return `state`, and an empty one of a machine that is not there."""
        try:
            return self.state
        except LabError:  # none, or its creation or removal was cut short
            return {}

    def record(self, **changes: object) -> None:
        """Change the recorded state, atomically."""
        path = self.dir / "state.json"
        state = {**self.recorded, **changes}
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(state))
        temporary.replace(path)

    def make(
        self,
        layers: Sequence[Path],
        data: Mapping[str, Path | None],
        *,
        upper: Path | None = None,
        **state: object,
    ) -> None:
        """Mount a root over read-only layers, ready to boot.

        Args:
            layers: folders, the uppermost first.
            data: folders of the root that are on the real disk, not in the overlay (Docker's overlay2 and
                containerd's snapshotter do not sit on an overlayfs) → what they begin as a copy of.
            upper: what the writable layer begins as a copy of; then it also says who the machine is.
            state: what to record, at least the owner. `hostname` is what the machine calls itself (else its
                name), `network` the cluster network it is plugged into (else none), with `address` and `routes`.
        """
        making = nodes_dir() / f".{self.name}-{os.getpid()}"
        making.mkdir(parents=True)
        (making / "state.json").write_text(json.dumps(state))
        try:
            making.rename(self.dir)  # a node is never seen without its owner
        except OSError:
            remove_tree(making)
            raise LabError(f"there is a node {self.name!r} already") from None
        for part in ("work", "root", "data"):
            (self.dir / part).mkdir()
        if upper is None:
            (self.dir / "upper").mkdir()
        else:
            copy_tree(upper, self.dir / "upper")
        lower = ":".join(map(str, layers))
        options = f"lowerdir={lower},upperdir={self.dir}/upper,workdir={self.dir}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        for place, seed in data.items():
            own = self.dir / "data" / Path(place).name
            if seed is None:
                own.mkdir(mode=0o711)
            else:
                copy_tree(seed, own)
            (self.root / place).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", own, self.root / place], check=True)
        if upper is None:
            (self.root / "etc/machine-id").write_text(os.urandom(16).hex() + "\n")
            (self.root / "etc/hostname").write_text(f"{self.hostname}\n")
            (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n10.99.0.2 {self.hostname}\n")

    def destroy(self) -> None:
        """Remove the machine and every trace of it: processes, cgroups, mounts, files, a network only it had."""
        self.power_cut()
        remove_tree(self.dir)
        remove_unused_networks()

    @property
    def hostname(self) -> str:
        """Return what the machine calls itself."""
        return str(self.recorded.get("hostname", self.name))

    # --- power -----------------------------------------------------------------------------------

    @property
    def init(self) -> int | None:
        """Return the pid of the machine's PID 1 as the host sees it; None when the machine is off."""
        state = self.recorded
        supervisor, init = state.get("supervisor"), state.get("init")
        if not isinstance(supervisor, list) or not isinstance(init, list):
            return None
        alive = [pid for pid, begin in (supervisor, init) if start_time(pid) == begin]
        return int(init[0]) if len(alive) == len((supervisor, init)) else None

    def boot(self, *options: str, timeout: float = 120) -> None:
        """Switch on and wait until systemd has done its first work (state running or degraded)."""
        if self.init is not None:
            raise LabError(f"node {self.name!r} is on already")
        if int(INOTIFY.read_text()) < INOTIFY_INSTANCES:
            INOTIFY.write_text(str(INOTIFY_INSTANCES))
        argv: list[str | Path] = [
            "sh",
            HERE / "boot.sh",
            self.root,
            self.name,
            nodes_dir(),
            f"--hostname={self.hostname}",
        ]
        state = self.state
        if isinstance(cluster := state.get("network"), str):
            cable = [f"--setenv=LAB_{part.upper()}={state[part]}" for part in ("address", "routes")]
            argv = network.inside(cluster, [*argv, f"--network-bridge={network.BRIDGE}", *cable])
        with (self.dir / "console.log").open("ab") as log:
            process = subprocess.Popen(
                [*argv, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        _booted[process.pid] = process
        self.record(supervisor=[process.pid, start_time(process.pid)], init=None, booted=time.time())

        def systemd() -> bool:
            if process.poll() is not None:
                raise LabError(f"node {self.name!r} does not boot:\n{self.console()}")
            for pid in children(process.pid):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                        self.record(init=[pid, start_time(pid)])
                        return True
            return False

        def settled() -> bool:
            state = self.run(["systemctl", "is-system-running"], check=False).stdout
            return state in ("running\n", "degraded\n")

        until(f"PID 1 of node {self.name}", systemd, timeout, 0.02)
        until(f"systemd of node {self.name} to settle", settled, timeout)

    def console(self) -> str:
        """Return the end of what the machine wrote to its console."""
        return "\n".join((self.dir / "console.log").read_text(errors="replace").splitlines()[-20:])

    def power_cut(self) -> None:
        """Take the power away: every process dies at once, and no cgroup outlives the boot."""
        if (init := self.init) is not None:
            os.kill(init, signal.SIGKILL)  # the kernel kills the whole pid namespace with it
        supervisor = self.recorded.get("supervisor")
        if isinstance(supervisor, list) and start_time(supervisor[0]) == supervisor[1]:
            os.kill(supervisor[0], signal.SIGKILL)
        self._after_power()

    def poweroff(self, timeout: float = 90) -> None:
        """Shut down in order."""
        self._leave("poweroff", timeout)

    def reboot(self, timeout: float = 90) -> None:
        """Shut down in order and boot again; the harness plays the firmware, since nspawn only ends."""
        self._leave("reboot", timeout)
        self.boot()

    def _leave(self, verb: str, timeout: float) -> None:
        self.run(["systemctl", "--no-block", verb])
        try:
            until(f"{verb} of node {self.name}", lambda: self.init is None, timeout)
        except LabError as error:
            argv = [
                "sh",
                "-c",
                "systemctl list-jobs; ps axf -o pid,stat,wchan:20,args; journalctl -b -n 30 --no-pager",
            ]
            raise LabError(
                f"{error}\n{self.run(argv, check=False, timeout=20).stdout}{self.console()}"
            ) from error
        self._after_power()

    def _after_power(self) -> None:
        """Do what the end of a real boot does for free: no process and no cgroup of it is left."""

        def empty() -> bool:
            for directory in self._cgroups():
                with contextlib.suppress(FileNotFoundError, OSError):
                    for word in (directory / "cgroup.procs").read_text().split():
                        if (pid := int(word)) > 0:  # 0 is a process of a pid namespace we cannot see
                            os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    directory.rmdir()
            for process in [p for p in list(_booted.values()) if p.poll() is not None]:
                _booted.pop(process.pid, None)
            return not self._cgroups()

        until(f"processes and cgroups of node {self.name} to go", empty, 30, 0.05)
        propagate = Path("/run/systemd/nspawn/propagate") / self.name
        with contextlib.suppress(OSError):
            propagate.rmdir()
        if self.recorded:
            self.record(supervisor=None, init=None)

    def _cgroups(self) -> list[Path]:
        """Return all cgroup directories of the machine, the deepest first."""
        found: list[Path] = []
        for top in CGROUP.glob(f"*/cgmigrate-lab-{self.name}"):
            found += [Path(where) for where, _, _ in os.walk(top, topdown=False)]
        return found

    # --- inside ----------------------------------------------------------------------------------

    def cgroup_roots(self) -> dict[str, Path]:
        """Return, per hierarchy, the host's directory that the machine sees as its root."""
        if (init := self.init) is None:
            raise LabError(f"node {self.name!r} is off")
        roots = {}
        for line in Path(f"/proc/{init}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            name = controllers.removeprefix("name=") or "unified"
            roots[name] = CGROUP / name / path.removesuffix("/init.scope").lstrip("/")
        return roots

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the host's argv that runs ARGV inside, in the machine's cgroups as well as its namespaces."""
        procs = [str(root / "cgroup.procs") for root in self.cgroup_roots().values()]
        join = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1"; shift; n=$((n-1)); done; exec "$@"'
        nsenter = ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv]
        return ["sh", "-c", join, "sh", str(len(procs)), *procs, *nsenter]

    def popen(
        self,
        argv: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = subprocess.PIPE,
        stderr: int | IO[str] | None = subprocess.PIPE,
    ) -> NodeProcess:
        """Start a command inside (a string is for the shell); signals to the result reach the command."""
        words = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        return NodeProcess(
            self.enter(words),
            env={**ENVIRONMENT, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        argv: Sequence[str] | str,
        *,
        check: bool = True,
        timeout: float = 120,
        input: str | None = None,  # noqa: A002 -- the name subprocess.run has for it
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end; a failure (CHECK) or a TIMEOUT in seconds is a `LabError`."""
        said = argv if isinstance(argv, str) else shlex.join(argv)
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        with self.popen(argv, env=env, stdin=stdin) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise LabError(f"{self.name}: {said}: not done in {timeout:g} s") from error
                raise
        if check and process.returncode:
            raise LabError(f"{self.name}: {said} exited with {process.returncode}:\n{out}{err}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)


def machines() -> Iterator[Machine]:
    """Yield every machine that exists, on or off."""
    for path in sorted(nodes_dir().glob("[!.]*/")):
        yield Machine(path.name)


def remove_unused_networks() -> list[str]:
    """Remove the networks of clusters that no machine belongs to any more; return the clusters' names."""

    def used() -> set[str]:
        return {str(machine.recorded.get("network")) for machine in machines()}

    return network.remove_unused(used)

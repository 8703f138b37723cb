# SPDX-License-Identifier: Apache-2.0
"""The daemons that judge: containerd and dockerd as Debian packages of four suites, unpacked beside the lab's cache.

Each runs with its own /etc, /run and /var/lib, which are folders of a test; nothing of this machine is read or written.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from migrator.cri import Cri
from migrator.errors import CgmigrateError
from tests.lab.cache import Artefact, command, remove_tree
from tests.lab.packages import apt_download

WANTED = {
    "containerd": ("usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"),
    "docker.io": ("usr/sbin/dockerd",),
}
PRIVATE = ("etc", "run", "var/lib", "opt")


def _unpacked(suite: str) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        fetched = out / "fetched"
        apt_download(fetched, binary=list(WANTED), suite=suite)
        for package, files in WANTED.items():
            (archive,) = fetched.glob(f"{package}_*.deb")
            whole = out / "whole"
            command(["dpkg-deb", "-x", archive, whole])
            for file in files:
                shutil.move(whole / file, out / Path(file).name)
            remove_tree(whole)
        remove_tree(fetched)

    return make


SUITES = {
    suite: Artefact(f"judges-{suite}", _unpacked(suite), made_from=(suite, *WANTED))
    for suite in ("bullseye", "bookworm", "trixie", "sid")
}
CONTAINERD = {"1.4": "bullseye", "1.6": "bookworm", "1.7": "trixie", "2.x": "sid"}
DOCKERD = {"20.10": "bookworm", "26.1": "trixie", "28.x": "sid"}


def in_private_root(root: Path, argv: Sequence[object], *more: str) -> list[str]:
    """Return the command that runs ARGV with folders of ROOT as its /etc, /run, /var/lib and /opt, in /.

    MORE are options of unshare(1).
    """
    for name in PRIVATE:
        (root / name).mkdir(parents=True, exist_ok=True)
    binds = " && ".join(f'mount --bind "$1/{name}" /{name}' for name in PRIVATE)
    script = f'{binds} && cd / && shift && exec "$@"'
    unshare = ["unshare", "--mount", "--propagation", "private", *more, "--", "sh", "-c", script, "sh"]
    return [*unshare, str(root), *map(str, argv)]


@dataclass(frozen=True)
class Containerd:
    """One version of containerd."""

    folder: Path

    @property
    def binary(self) -> Path:
        return self.folder / "containerd"

    def version(self) -> str:
        return subprocess.run(
            [self.binary, "--version"], check=True, capture_output=True, text=True
        ).stdout.split()[2]

    def dump(self, root: Path, config: str = "/etc/containerd/config.toml") -> dict[str, Any] | str:
        """Return the effective configuration, or why the daemon refuses what is in ROOT."""
        argv = [self.binary, "--config", config, "config", "dump"]
        done = subprocess.run(in_private_root(root, argv), capture_output=True, text=True, check=False)
        return tomllib.loads(done.stdout) if done.returncode == 0 else done.stderr[-500:]

    @contextlib.contextmanager
    def running(
        self, root: Path, path: str | None = None, config: str = "/etc/containerd/config.toml"
    ) -> Iterator[Cri]:
        """Start the daemon on what is in ROOT and give its CRI.

        Raises:
            CgmigrateError: it has no CRI, or says nothing for half a minute.
            ChildProcessError: it ended.
        """
        remove_tree(root / "run")
        remove_tree(root / "var/lib/containerd")
        argv = [
            self.binary,
            "--config",
            config,
            "--address",
            "/run/containerd/containerd.sock",
        ]
        flags: list[object] = ["--root", "/var/lib/containerd", "--state", "/run/containerd"]
        log = root / "log"
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
        with (
            log.open("w") as stream,
            subprocess.Popen(
                in_private_root(root, [*argv, *flags]),
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
            ) as daemon,
        ):
            try:
                with _answering(daemon, root / "run/containerd/containerd.sock", log) as cri:
                    yield cri
            finally:
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()


@contextlib.contextmanager
def _answering(daemon: subprocess.Popen[bytes], socket: Path, log: Path) -> Iterator[Cri]:
    deadline = time.monotonic() + 30
    while True:
        if daemon.poll() is not None:
            raise ChildProcessError(log.read_text()[-500:])
        if socket.exists():
            with Cri(str(socket)) as cri:
                try:
                    cri.version()
                except CgmigrateError as error:
                    # Before the CRI plugin is up, and for ever where it did not load or is disabled.
                    failed = "has no CRI service" in str(error) or re.search(
                        r"failed to load plugin.*io\.containerd\.grpc\.v1\.cri", log.read_text()
                    )
                    if failed or time.monotonic() > deadline:
                        raise
                else:
                    yield cri
                    return
        time.sleep(0.02)


@dataclass(frozen=True)
class Dockerd:
    """One version of dockerd."""

    folder: Path

    def refuses(self, root: Path, *flags: str) -> str | None:
        """Return why the daemon does not start on daemon.json in ROOT; None when it gets past its configuration.

        Up to 20.10 there is no `--validate`: it is started as somebody who may not start it, which is what it looks at
        after the configuration.
        """
        # The proxy is a program of its own, which this cache does not hold and later versions look for.
        common = ["--userland-proxy-path", "/bin/true", *flags]
        if _validates(self.folder):
            argv = in_private_root(root, [self.folder / "dockerd", "--validate", *common])
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            return None if done.returncode == 0 else done.stderr[-500:]
        nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--", self.folder / "dockerd", *common]
        done = subprocess.run(in_private_root(root, nobody), capture_output=True, text=True, check=False)
        return None if "needs to be started with root" in done.stderr else done.stderr[-500:]

    def refuses_to_start(self, root: Path, *flags: str) -> str | None:
        """Return why the daemon, really started on daemon.json in ROOT, refuses a setting; None when it gets past them.

        It has a network of its own, and after its settings ends on a temporary folder that nobody can make.
        """
        argv = [
            self.folder / "dockerd",
            "--containerd",
            "/run/none.sock",
            "--userland-proxy-path",
            "/bin/true",
        ]
        done = subprocess.run(
            in_private_root(root, [*argv, *flags], "--net", "--pid", "--fork", "--kill-child"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "DOCKER_TMPDIR": "/proc/none"},
        )
        return None if "Unable to get the TempDir" in done.stderr else done.stderr[-500:]


@cache
def _validates(folder: Path) -> bool:
    done = subprocess.run([folder / "dockerd", "--help"], capture_output=True, text=True, check=False)
    return "--validate" in done.stdout

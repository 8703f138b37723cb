# SPDX-License-Identifier: Apache-2.0
"""The door to Docker, by its own program: `Docker` looks, `DockerControl` looks and removes.

With docker.socket active, any call to a stopped dockerd starts it; so every call here first makes sure that it runs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from migrator.containers import (
    CONTAINER_NAME,
    GRACE,
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    RESTART_COUNT,
    RuntimeContainer,
    grace,
    number,
    positive,
)
from migrator.errors import HostError
from migrator.host import Host, Output, Reader

SOCKET = "/run/docker.sock"
_PID_FILE = "/run/docker.pid"

_KIND = "io.kubernetes.docker.type"
_SANDBOX_ID = "io.kubernetes.sandbox.id"
_ANNOTATION = "annotation."
"""dockershim and cri-dockerd: Docker has no annotations, so they are labels with this prefix."""

_FIELDS = (
    '{"id":{{json .Id}},"name":{{json .Name}},"labels":{{json .Config.Labels}},"state":{{json .State.Status}},'
    '"pid":{{json .State.Pid}},"parent":{{json .HostConfig.CgroupParent}},'
    '"policy":{{json .HostConfig.RestartPolicy.Name}},"memory":{{json .HostConfig.Memory}},'
    '"quota":{{json .HostConfig.CpuQuota}},"period":{{json .HostConfig.CpuPeriod}},'
    '"cpus":{{json .HostConfig.NanoCpus}},"shares":{{json .HostConfig.CpuShares}}}'
)
"""What is asked of `docker inspect`; never the environment, which holds secrets."""

_LISTED = (
    '{"id":{{json .ID}},'
    f'"kind":{{{{json (.Label "{_KIND}")}}}},'
    f'"name":{{{{json (.Label "{CONTAINER_NAME}")}}}},'
    f'"grace":{{{{json (.Label "{_ANNOTATION}{GRACE}")}}}}}}'
)
"""What `docker ps` is asked for where a container is only to be removed: one call in the place of two."""

_CALL = 60.0  # seconds; a loaded dockerd answers `inspect` of hundreds of containers slowly
_AT_ONCE = 500  # containers in one call: keeps the command line far below the kernel's limit
_DEFAULT_PERIOD = 100_000  # microseconds, the kernel's and Docker's


class Docker:
    """Looks at dockerd and its containers. `running` tells whether dockerd runs; its pid file does by default."""

    def __init__(
        self, reader: Reader, socket: str = SOCKET, running: Callable[[], bool] | None = None
    ) -> None:
        self.socket = socket
        self._reader = reader
        self._running = running or self._pid_file_is_true

    def reachable(self) -> bool:
        """Tell whether dockerd runs, without waking it."""
        return self._running()

    def info(self) -> dict[str, object]:
        """Return `docker info`: `CgroupDriver`, `CgroupVersion`, `ServerVersion`, `LiveRestoreEnabled` among others.

        Raises:
            HostError: dockerd does not run, or did not answer.
        """
        done = self._docker("info", "--format", "{{json .}}")
        try:
            info = json.loads(done.stdout)
        except (ValueError, RecursionError):
            info = None
        if not isinstance(info, dict) or not info.get("ServerVersion"):
            # The program ends with 0 although the daemon refused, and tells it here.
            raise HostError(f"`docker info` at {self.socket} told nothing: {_said(done)}")
        return info

    def containers(self) -> list[RuntimeContainer]:
        """Return every container, running or not, Kubernetes' and others, by id; without any order in time.

        Raises:
            HostError: dockerd does not run, or did not answer.
        """
        return self._inspect(self._ids())

    def _ids(self, *filters: str) -> list[str]:
        done = self._docker("ps", "--all", "--quiet", "--no-trunc", *(f"--filter={each}" for each in filters))
        return sorted(done.stdout.split())

    def _inspect(self, ids: Sequence[str]) -> list[RuntimeContainer]:
        found: list[RuntimeContainer] = []
        for some in _chunks(ids):
            done = self._docker(
                "inspect", "--type=container", f"--format={_FIELDS}", *some, gone_is_fine=True
            )
            try:
                found += [_container(json.loads(line)) for line in done.stdout.splitlines() if line]
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise HostError(
                    f"`docker inspect` at {self.socket} gave an answer of unknown form: {error}"
                ) from error
        return found

    def _docker(self, *arguments: str, timeout: float = _CALL, gone_is_fine: bool = False) -> Output:
        if not self._reader.live:
            raise HostError(f"docker cannot be asked: {self._reader.root} is an image, not a running node")
        if not self.reachable():
            raise HostError("docker.service is not running", hint="systemctl status docker.service")
        done = self._reader.run(("docker", f"--host=unix://{self.socket}", *arguments), timeout)
        if done.code and not (gone_is_fine and _only_gone(done.stderr)):
            raise HostError(f"`docker {arguments[0]}` at {self.socket} failed ({done.code}): {_said(done)}")
        return done

    def _pid_file_is_true(self) -> bool:
        pid = (self._reader.text(_PID_FILE) or "").strip()
        return pid.isdigit() and (self._reader.text(f"/proc/{pid}/comm") or "").strip() == "dockerd"


class DockerControl(Docker):
    """Looks at dockerd and removes Kubernetes' containers from it."""

    def __init__(self, host: Host, socket: str = SOCKET, running: Callable[[], bool] | None = None) -> None:
        super().__init__(host, socket, running)

    def remove_kubernetes(self, progress: Callable[[str], None], grace_seconds: int = 30) -> int:
        """Stop and remove every container that the kubelet made, sandboxes last; return how many there were.

        The stored cgroup parent of the old driver makes them impossible to start again (F08). Containers that are gone
        already, or go meanwhile, are fine; those that are not Kubernetes' are not touched.

        Raises:
            HostError: dockerd does not run, or a container is still there afterwards.
        """
        everything = self._listed()
        sandboxes = [each for each in everything if each.sandbox]
        containers = [each for each in everything if not each.sandbox]
        if everything:
            progress(f"removing {_count(len(containers), 'container')}, {_count(len(sandboxes), 'sandbox')}")
        self._stop(containers, grace_seconds)  # which does nothing to one that does not run
        # A sandbox has nothing to say goodbye to, and each call counts here: the node is out of service.
        for ids in _chunks([each.id for each in (*containers, *sandboxes)]):
            self._docker("rm", "--force", *ids, timeout=_CALL + len(ids), gone_is_fine=True)
        left = self._ids(f"label={POD_UID}")
        if left:
            raise HostError(
                f"docker still has {_count(len(left), 'container')} of Kubernetes after their removal: {', '.join(left)}",
                hint=f"docker rm --force {shlex.join(left)}",
            )
        return len(everything)

    def _listed(self) -> list[RuntimeContainer]:
        """Return Kubernetes' containers with what their removal needs, and no more."""
        done = self._docker("ps", "--all", "--no-trunc", f"--filter=label={POD_UID}", f"--format={_LISTED}")
        try:
            rows = [json.loads(line) for line in done.stdout.splitlines() if line]
            return [
                RuntimeContainer(
                    id=str(row["id"]),
                    name=str(row["name"]),
                    sandbox=row["kind"] == "podsandbox",
                    annotations={GRACE: str(row["grace"])},
                )
                for row in rows
            ]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise HostError(
                f"`docker ps` at {self.socket} gave an answer of unknown form: {error}"
            ) from error

    def _stop(self, containers: Sequence[RuntimeContainer], most: int) -> None:
        """Stop containers, all at once, each with its own grace."""
        by_grace: dict[int, list[str]] = {}
        for each in containers:
            by_grace.setdefault(grace(each, most), []).append(each.id)
        calls = [(seconds, some) for seconds, ids in by_grace.items() for some in _chunks(ids)]
        with ThreadPoolExecutor(max(len(calls), 1)) as beside:
            for done in [
                beside.submit(
                    self._docker,
                    "stop",
                    "-t",  # --time was renamed --timeout in Docker 28
                    str(seconds),
                    *some,
                    timeout=_CALL + seconds + len(some),
                    gone_is_fine=True,
                )
                for seconds, some in calls
            ]:
                done.result()


def _container(raw: dict[str, object]) -> RuntimeContainer:
    everything = {str(key): str(value) for key, value in _table(raw["labels"]).items()}
    labels = {key: value for key, value in everything.items() if not key.startswith(_ANNOTATION)}
    annotations = {
        key.removeprefix(_ANNOTATION): value
        for key, value in everything.items()
        if key.startswith(_ANNOTATION)
    }
    sandbox = labels.get(_KIND) == "podsandbox"
    kubernetes = bool(labels.get(POD_UID))
    period = positive(raw["period"])
    quota = positive(raw["quota"])
    cpus = positive(raw["cpus"])
    if cpus and not quota:  # docker run --cpus
        period = period or _DEFAULT_PERIOD
        quota = cpus * period // 1_000_000_000
    return RuntimeContainer(
        id=str(raw["id"]),
        name=""
        if sandbox
        else labels.get(CONTAINER_NAME, "")
        if kubernetes
        else str(raw["name"]).lstrip("/"),
        pod_uid=labels.get(POD_UID, ""),
        pod_name=labels.get(POD_NAME, ""),
        pod_namespace=labels.get(POD_NAMESPACE, ""),
        sandbox=sandbox,
        sandbox_id=labels.get(_SANDBOX_ID, ""),
        state=str(raw["state"]),
        attempt=number(annotations.get(RESTART_COUNT)),
        cgroup_parent=str(raw["parent"]),
        restart_policy=str(raw["policy"]),
        pid=positive(raw["pid"]) or 0,
        memory_limit=positive(raw["memory"]),
        cpu_quota=quota,
        cpu_period=period,
        cpu_shares=positive(raw["shares"]),
        labels=labels,
        annotations=annotations,
    )


def _table(value: object) -> dict[object, object]:
    return value if isinstance(value, dict) else {}


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]


def _only_gone(stderr: str) -> bool:
    """Tell whether all that a docker program complains of is that something is not there, or about to go."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return bool(lines) and all(
        "no such container" in line.lower()
        or "no such object" in line.lower()
        or "is already in progress" in line
        for line in lines
    )


def _said(done: Output) -> str:
    return (done.stderr or done.stdout).strip()[:500] or "nothing"


def _count(number_of: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("x") else f"{what}s"
    return f"{number_of} {what if number_of == 1 else plural}"

# SPDX-License-Identifier: Apache-2.0
"""All doors to one machine, as a run is given them: a test that has no machine gives others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migrator.errors import CgmigrateError
from migrator.host import Host, Reader
from migrator.kube import Kube, KubeControl
from migrator.steps import RuntimeControl, RuntimeReader
from migrator.systemd import UnitControl

if TYPE_CHECKING:
    from migrator.verify import Verification


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What `steps.Hands` holds of a machine; see there for each."""

    host: Host
    units: UnitControl
    runtime_reader: Callable[[str, str], RuntimeReader]
    runtime_control: Callable[[str, str], RuntimeControl]
    kube: Callable[[str], Kube]
    kube_control: Callable[[str], KubeControl]
    answers: Callable[[str], bool]
    driver_in_force: Callable[[str, str], tuple[str, str]]
    verify: Callable[[str, Sequence[Mapping[str, Any]], float], Verification]
    """(driver, pods of the plan, seconds of the window) → what both witnesses say after systemd has read its units again."""


def doors_of(host: Host) -> Doors:
    """Return the doors to the machine whose files `host` changes; nothing is opened before it is used."""

    def verify(driver: str, pods: Sequence[Mapping[str, Any]], window: float) -> Verification:
        from migrator.verify import verify_pods  # noqa: PLC0415 - late: only a real run needs it

        return verify_pods(host, driver, pods, window)

    return Doors(
        host=host,
        units=UnitControl(host),
        runtime_reader=lambda kind, socket: runtime_reader(host, kind, socket),
        runtime_control=lambda kind, socket: runtime_control(host, kind, socket),
        kube=lambda kubeconfig: Kube(host, kubeconfig),
        kube_control=lambda kubeconfig: KubeControl(host, kubeconfig),
        answers=answers,
        driver_in_force=lambda kind, socket: driver_in_force(host, kind, socket),
        verify=verify,
    )


def runtime_reader(reader: Reader, kind: str, socket: str) -> RuntimeReader:
    """Return the door to a runtime, for looking."""
    if kind == "docker":
        from migrator.docker import Docker  # noqa: PLC0415 - late: only the runtime that is there

        return Docker(reader, socket)
    from migrator.cri import Cri  # noqa: PLC0415 - late: grpc takes 100 ms

    return Cri(socket)


def runtime_control(host: Host, kind: str, socket: str) -> RuntimeControl:
    """Return the door to a runtime, for removing what the kubelet made."""
    if kind == "docker":
        from migrator.docker import DockerControl  # noqa: PLC0415 - late

        return DockerControl(host, socket)
    from migrator.cri import CriControl  # noqa: PLC0415 - late

    return CriControl(socket)


def driver_in_force(reader: Reader, kind: str, socket: str) -> tuple[str, str]:
    """Return kind and driver of the running runtime; one that does not tell is judged by its effective configuration."""
    from migrator.facts.gather import gather_runtime_alone  # noqa: PLC0415 - late: pulls in the parsers
    from migrator.facts.runtime import ask_driver  # noqa: PLC0415

    if kind:
        with contextlib.suppress(CgmigrateError):
            if said := ask_driver(reader, kind, socket):
                return kind, said
    runtime = gather_runtime_alone(reader)
    return runtime.kind, runtime.driver_reported.value or runtime.driver.value or ""


def answers(url: str, timeout: float = 3) -> bool:
    """Tell whether a local health endpoint answers 200 (the kubelet's says `ok`)."""
    from migrator.witness import ask_health  # noqa: PLC0415 - late: only a real run needs it

    return not ask_health(url, timeout)

# SPDX-License-Identifier: Apache-2.0
"""The OCI runtime that makes the containers' cgroups, and its version: several of its bugs are about this driver alone."""

from __future__ import annotations

import re
from dataclasses import replace

from migrator.configs.gvisor import RUNTIME_TYPE as GVISOR
from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Runtime
from migrator.facts.packages import installed_version

# systemd.exec(5): where a service without a PATH of its own looks for a program.
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_KNOWN = ("runc", "crun")


def gather_oci(look: Look, runtime: Runtime) -> Runtime:
    """Return the runtime with the OCI runtime of its default handler as `runc 1.1.5`, and the version of each gVisor.

    In an image as the package has it. Only a program that is called runc, crun or runsc is asked: what another one does
    with `--version` may be anything.
    """
    if runtime.kind not in ("docker", "containerd", "crio"):
        return runtime
    default = next((each for each in runtime.handlers if each.is_default), None)
    named = default.binary_name if default else ""
    name = named.rpartition("/")[2] or (default.name if default and default.name in _KNOWN else "runc")
    version = _version(look, "runtime.oci", name, named) if name in _KNOWN else ""
    handlers = (
        replace(each, version=_version(look, f"runtime.handlers.{each.name}", "runsc", each.binary_name))
        if each.runtime_type == GVISOR and each.binary_name.rpartition("/")[2] in ("", "runsc")
        else each
        for each in runtime.handlers
    )
    return replace(runtime, oci=f"{name} {version}" if version else "", handlers=tuple(handlers))


def _version(look: Look, subject: str, name: str, named: str) -> str:
    if not look.reader.live:
        return installed_version(look, name)
    places = [named] if named.startswith("/") else [f"{directory}/{name}" for directory in _PATH]
    program = next((path for path in places if look.reader.exists(path)), "")
    if not program:
        look.unknown(subject, f"no {name} was found to be asked for its version")
        return ""
    try:
        said = look.reader.run([program, "--version"], timeout=10)
    except (HostError, OSError) as error:
        look.unknown(subject, error)
        return ""
    match = re.match(r"(?:runc|crun|runsc) version (\S+)", said.stdout)
    if match is None:
        look.unknown(subject, f"{program} --version tells no version")
        return ""
    return match[1]

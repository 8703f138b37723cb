# SPDX-License-Identifier: Apache-2.0
"""The OCI runtime that makes the containers' cgroups, and its version: several of its bugs are about this driver alone."""

from __future__ import annotations

import re

from migrator.errors import HostError
from migrator.facts.look import Look
from migrator.facts.model import Runtime
from migrator.facts.packages import installed_version

# systemd.exec(5): where a service without a PATH of its own looks for a program.
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_KNOWN = ("runc", "crun")


def gather_oci(look: Look, runtime: Runtime) -> str:
    """Return the OCI runtime of the default handler as `runc 1.1.5`, or, in an image, as its package has it.

    Only a program that is called runc or crun is asked: what another one does with `--version` may be anything.
    """
    if runtime.kind not in ("docker", "containerd", "crio"):
        return ""
    default = next((each for each in runtime.handlers if each.is_default), None)
    named = default.binary_name if default else ""
    name = named.rpartition("/")[2] or (default.name if default and default.name in _KNOWN else "runc")
    if name not in _KNOWN:
        return ""
    if not look.reader.live:
        packed = installed_version(look, name)
        return f"{name} {packed}" if packed else ""
    places = [named] if named.startswith("/") else [f"{directory}/{name}" for directory in _PATH]
    program = next((path for path in places if look.reader.exists(path)), "")
    if not program:
        look.unknown("runtime.oci", f"no {name} was found to be asked for its version")
        return ""
    try:
        said = look.reader.run([program, "--version"], timeout=10)
    except (HostError, OSError) as error:
        look.unknown("runtime.oci", error)
        return ""
    match = re.match(r"(runc|crun) version (\S+)", said.stdout)
    if match is None:
        look.unknown("runtime.oci", f"{program} --version tells no version")
        return ""
    return f"{match[1]} {match[2]}"

# SPDX-License-Identifier: Apache-2.0
"""Versions by dpkg's database: what an image tells of programs that nobody can ask there."""

from __future__ import annotations

import re

from migrator.facts.look import Look

DATABASE = "/var/lib/dpkg/status"
_INSTALLED = (" ok installed", " ok triggers-awaited", " ok triggers-pending")
"""dpkg(1), "Package states": what waits for another package's trigger is there and configured."""
_FIELD = re.compile(r"^(Package|Status|Version): (.*)$", re.MULTILINE)


def installed_version(look: Look, name: str) -> str:
    """Return a Debian package's version without its epoch; empty where it is not installed, or only its files in /etc are.

    A package on hold is installed like any other.
    """
    for paragraph in (look.reader.text(DATABASE) or "").split("\n\n"):
        fields = dict(_FIELD.findall(paragraph)) if f"Package: {name}\n" in paragraph else {}
        if fields.get("Package") == name and fields.get("Status", "").endswith(_INSTALLED):
            return str(re.sub(r"^\d+:", "", fields.get("Version", "")))
    return ""


def package_version(look: Look, *names: str) -> str | None:
    """Return the version of the first of these Debian packages that is installed, as three numbers."""
    found = (re.match(r"\d+\.\d+\.\d+", installed_version(look, name)) for name in names)
    return next((each[0] for each in found if each), None)

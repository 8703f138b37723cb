# SPDX-License-Identifier: Apache-2.0
"""Configuration management: whose agents run here, and which files their own lists name."""

from __future__ import annotations

from dataclasses import replace

from migrator.facts.look import Look
from migrator.facts.units import gather_unit
from migrator.systemd import Units

WRITING_UNITS = {
    "Puppet": ("puppet.service", "pxp-agent.service"),
    "Chef": ("chef-client.service", "chef-client.timer", "cinc-client.service", "cinc-client.timer"),
    "Salt": ("salt-minion.service",),
    "CFEngine": ("cfengine3.service", "cf-execd.service"),
}
"""Units that write files again by themselves, by the tool. Ansible and cloud-init have none: somebody, or a boot, runs them."""

_PUPPET_STATE = ("/opt/puppetlabs/puppet/cache/state", "/var/lib/puppet/state", "/var/cache/puppet/state")


def gather_agents(look: Look, units: Units | None) -> tuple[str, ...]:
    """Return the agents that run or start at boot; a Puppet that `puppet agent --disable` holds is none."""
    held = any(look.reader.exists(f"{directory}/agent_disabled.lock") for directory in _PUPPET_STATE)
    found = (
        gather_unit(look, units, name)
        for tool, names in WRITING_UNITS.items()
        if not (held and tool == "Puppet")
        for name in names
    )
    return tuple(
        unit.name
        for unit in found
        if unit.load_state == "loaded"
        and (unit.active_state in ("active", "activating") or unit.unit_file_state == "enabled")
    )


def with_managers(look: Look) -> None:
    """Note of each file that was read whether Puppet's list of its resources names it: JSON has no header to tell."""
    named: set[str] = set()
    for directory in _PUPPET_STATE:
        text = look.reader.text(f"{directory}/resources.txt") or ""
        named |= {line[5:-1] for line in text.split("\n") if line.startswith("file[") and line.endswith("]")}
    for path, file in look.files.items():
        if not file.managed_by and {path, file.real_path} & named:
            look.files[path] = replace(file, managed_by="Puppet")

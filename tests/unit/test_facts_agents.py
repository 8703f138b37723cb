# SPDX-License-Identifier: Apache-2.0
"""Which agents of a configuration management are at work, and which files are on Puppet's own list."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.facts.agents import gather_agents, with_managers
from migrator.facts.look import Look
from tests.unit.nodes import Link, lay

UNIT = "[Service]\nExecStart=/bin/true\n"
STARTS = "/etc/systemd/system/multi-user.target.wants"
LOCK = "/opt/puppetlabs/puppet/cache/state/agent_disabled.lock"


@pytest.mark.parametrize(
    ("files", "agents"),
    [
        ({}, ()),
        ({"/lib/systemd/system/puppet.service": UNIT}, ()),
        (
            {
                "/lib/systemd/system/puppet.service": UNIT,
                f"{STARTS}/puppet.service": Link("/lib/systemd/system/puppet.service"),
            },
            ("puppet.service",),
        ),
        (
            {
                "/lib/systemd/system/puppet.service": UNIT,
                f"{STARTS}/puppet.service": Link("/lib/systemd/system/puppet.service"),
                LOCK: "{}",
            },
            (),
        ),
        (
            {
                "/etc/systemd/system/chef-client.timer": "[Timer]\n",
                "/etc/systemd/system/timers.target.wants/chef-client.timer": Link("../chef-client.timer"),
                "/lib/systemd/system/salt-minion.service": UNIT,
                f"{STARTS}/salt-minion.service": Link("/lib/systemd/system/salt-minion.service"),
                LOCK: "{}",
            },
            ("chef-client.timer", "salt-minion.service"),
        ),
        ({"/etc/systemd/system/salt-minion.service": Link("/dev/null")}, ()),
    ],
    ids=["none", "installed", "enabled", "held", "a timer and a minion", "masked"],
)
def test_an_agent_counts_when_it_starts_at_boot(
    tmp_path: Path, files: dict[str, str | Link | None], agents: tuple[str, ...]
) -> None:
    assert agents == gather_agents(Look(lay(tmp_path, files)), None)


@pytest.mark.parametrize(
    ("listed", "text", "told"),
    [
        ("file[/etc/docker/daemon.json]\nservice[docker]\n", "{}", "Puppet"),
        ("file[/etc/docker/daemon.json.d]\n", "{}", ""),
        ("exec[/etc/docker/daemon.json]\n", "{}", ""),
        ("file[/etc/docker/daemon.json]\n", "# Ansible managed\n", "Ansible"),
        ("", "{}", ""),
    ],
)
def test_puppet_s_own_list_tells_of_a_file_without_a_header(
    tmp_path: Path, listed: str, text: str, told: str
) -> None:
    files = {"/etc/docker/daemon.json": text, "/opt/puppetlabs/puppet/cache/state/resources.txt": listed}
    look = Look(lay(tmp_path, files))
    look.read("/etc/docker/daemon.json")

    with_managers(look)

    assert told == look.files["/etc/docker/daemon.json"].managed_by

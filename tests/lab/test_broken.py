# SPDX-License-Identifier: Apache-2.0
"""Something else on the node is broken, and the run meets it: what it says then, and that the node can be settled."""

from __future__ import annotations

import contextlib
import os
import pty
import time

import pytest

from .conftest import MakeNode
from .cycle import PLAN, assert_on_cgroupfs, assert_on_systemd, cgmigrate, config_files, document, files
from .machine import until
from .node import KUBELET_CONFIG, RUNTIME_CONFIG, Node
from .process import NodeProcess
from .test_killed import journal
from .test_power import assert_held_down, status

NEW_DRIVER = {
    "docker": f"native.cgroupdriver=systemd {RUNTIME_CONFIG['docker']}",
    "containerd": f"'SystemdCgroup = true' {RUNTIME_CONFIG['containerd']}",
    "kubelet": f"'cgroupDriver: systemd' {KUBELET_CONFIG}",
}
"""Unit → what `grep -q` finds once the unit's file is the new one."""


def plant(node: Node, unit: str, text: str) -> None:
    """Give a unit a drop-in that is none of ours."""
    directory = f"/etc/systemd/system/{unit}.service.d"
    node.run(["mkdir", "-p", directory])
    node.write(f"{directory}/50-broken.conf", text)
    node.run(["systemctl", "daemon-reload"])


def mend(node: Node, unit: str) -> None:
    node.run(["rm", f"/etc/systemd/system/{unit}.service.d/50-broken.conf"])
    node.run(["systemctl", "daemon-reload"])


def pre_start(unit: str, command: str) -> str:
    """Return a drop-in that runs a command before the unit, when its file is the new one."""
    return f'[Service]\nExecStartPre=/bin/sh -c "if grep -q {NEW_DRIVER[unit]}; then {command}; fi"\n'


def on_a_terminal(node: Node, *arguments: str) -> tuple[NodeProcess, int]:
    """Start the command on a terminal of its own; return it, and the other end of the terminal."""
    master, slave = pty.openpty()
    process = node.popen(
        ["setsid", "--ctty", "cgmigrate", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={"TERM": "xterm"},
    )
    os.close(slave)
    return process, master


def read_until(terminal: int, wanted: bytes) -> bytes:
    """Return what comes on a terminal, up to some text, or to its end."""
    said = b""
    with contextlib.suppress(OSError):  # Linux's end of a terminal whose other side is gone
        while wanted not in said and (piece := os.read(terminal, 4096)):
            said += piece
            if b"\x1b[6n" in piece:  # prompt_toolkit asks where the cursor is, and a real terminal answers
                os.write(terminal, b"\x1b[1;1R")
    return said


def answered(node: Node, keys: bytes) -> tuple[int, str]:
    """Apply on a terminal, type the keys when it asks, and return how it ended, and what it said."""
    process, terminal = on_a_terminal(node, "apply", PLAN, "--yes")
    said = read_until(terminal, b"Enter:")
    os.write(terminal, keys)
    said += read_until(terminal, b"\0")
    os.close(terminal)
    return process.wait(60), said.decode()


@pytest.mark.parametrize("broken", ["runtime", "kubelet"])
def test_a_service_that_does_not_start_with_its_new_file(node: Node, broken: str) -> None:
    """Rolled back at once, or on Enter; with `stop` the run stays open behind its guard, and is rolled back then."""
    unit = node.flavour if broken == "runtime" else "kubelet"
    drop_in = pre_start(unit, "echo cannot bear it; exit 1")
    plant(node, unit, drop_in)
    original, old = files(node), config_files(node)
    cgmigrate(node, "plan", "-o", PLAN)

    failed = cgmigrate(node, "apply", PLAN, "--yes", check=5)
    assert f"{unit}.service" in failed.stderr
    assert f"journalctl -u {unit}.service" in failed.stderr
    assert_on_cgroupfs(node)
    assert original == files(node)

    stopped = cgmigrate(node, "apply", PLAN, "--yes", "--on-failure", "stop", check=7)
    assert "the guard keeps its units down" in stopped.stderr
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)

    code, said = answered(node, b"\r")
    assert (5, True) == (code, "Roll back now?" in said), said
    assert_on_cgroupfs(node)
    assert original == files(node)

    code, said = answered(node, b"n")
    assert (7, True) == (code, "`cgmigrate resume` or `cgmigrate rollback`" in said), said
    node.reboot()
    assert_held_down(node, "", old)
    mend(node, unit)
    cgmigrate(node, "resume")
    assert_on_systemd(node)
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    plant(node, unit, drop_in)
    assert original == files(node)


def test_a_process_that_does_not_leave_the_old_tree_is_named_and_left_alone(make_node: MakeNode) -> None:
    """Somebody moved a process of theirs there by hand."""
    node = make_node("docker")
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    move = "sleep 10000 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup/memory/kubepods/cgroup.procs; echo $!"
    pid = node.run(move).stdout.strip()

    failed = cgmigrate(node, "apply", PLAN, "--yes", check=5)

    assert f"processes still live in /sys/fs/cgroup/memory/kubepods: {pid}" in failed.stderr
    assert f"ps -fp {pid}" in failed.stderr
    assert_on_cgroupfs(node)
    assert original == files(node)
    assert "memory:/kubepods\n" in node.read(f"/proc/{pid}/cgroup")
    node.run(["kill", pid])
    cgmigrate(node, "apply", PLAN, "--yes")
    assert_on_systemd(node)


RESTART = "systemctl restart dbus.service"
AWAY = "systemctl stop dbus.socket dbus.service; sleep 3; systemctl start dbus.socket dbus.service"


def test_a_bus_that_is_restarted_or_away_for_a_while_does_not_decide_a_run(make_node: MakeNode) -> None:
    node = make_node("docker")
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    stop, start = f"stop-unit:{node.flavour}", f"start-unit:{node.flavour}"

    for command, kind, disturbances in (
        (
            ["apply", PLAN],
            "applying",
            {"stop-unit:kubelet": RESTART, stop: AWAY, "start-unit:kubelet": RESTART},
        ),
        (
            ["rollback"],
            "reverting",
            {"start-unit:kubelet": RESTART, start: AWAY, "stop-unit:kubelet": RESTART},
        ),
    ):
        process = node.popen(["cgmigrate", *command, "--yes"])
        for step, disturbance in disturbances.items():
            while (kind, step) not in journal(node):
                assert process.poll() is None, process.communicate()
                time.sleep(0.002)
            node.run(disturbance)
        said, errors = process.communicate(timeout=300)
        assert 0 == process.returncode, said + errors
        if kind == "applying":
            assert_on_systemd(node)
            assert document(node, "verify")["ok"]

    assert_on_cgroupfs(node)
    assert original == files(node)


HANGING = "sleep 1000"


def test_jobs_of_systemd_that_do_not_end(node: Node) -> None:
    """A start that hangs is taken back by itself; a stop that hangs keeps even that from ending until it is mended."""
    original, old = files(node), config_files(node)
    cgmigrate(node, "plan", "-o", PLAN)

    for limit, why in (
        ("[Service]\nTimeoutStartSec=3\n", "failed"),
        ("[Unit]\nJobRunningTimeoutSec=3\n", "timeout"),
    ):
        plant(node, node.flavour, pre_start(node.flavour, HANGING) + limit)
        failed = cgmigrate(node, "apply", PLAN, "--yes", check=5)
        assert f'cannot start {node.flavour}.service: the job ended with "{why}"' in failed.stderr
        mend(node, node.flavour)
        assert_on_cgroupfs(node)

    plant(
        node,
        "kubelet",
        f"[Unit]\nJobRunningTimeoutSec=3\n[Service]\nTimeoutStopSec=infinity\nExecStop=/bin/{HANGING}\n",
    )
    dirty = cgmigrate(node, "apply", PLAN, "--yes", check=6)
    assert 'cannot stop kubelet.service: the job ended with "timeout"' in dirty.stderr
    assert old == config_files(node)
    mend(node, "kubelet")
    node.run(["systemctl", "kill", "--signal=KILL", "kubelet"])
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    node.run(["rmdir", f"/etc/systemd/system/{node.flavour}.service.d"])
    assert original == files(node)


@pytest.mark.parametrize(
    ("flavour", "step"), [("docker", "remove-sandboxes"), ("containerd", "wait-healthy")]
)
def test_a_connection_that_drops_leaves_a_run_to_resume(make_node: MakeNode, flavour: str, step: str) -> None:
    """What ssh leaves behind when it goes: the terminal is hung up, and everything on it gets SIGHUP."""
    node = make_node(flavour)
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    process, terminal = on_a_terminal(node, "apply", PLAN, "--yes")
    seen = b""
    while ("applying", step) not in journal(node):
        seen += os.read(terminal, 1)
    os.close(terminal)

    assert 7 == process.wait(120), seen
    assert "stopped by SIGHUP" in cgmigrate(node, "status", check=7).stdout
    cgmigrate(node, "resume")
    assert_on_systemd(node)
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)


def test_a_state_disk_that_is_full_holds_the_way_back_of_a_finished_run_only(make_node: MakeNode) -> None:
    """A finished run's way back cannot be guarded, so it changes nothing; an open run's is guarded, and needs no journal."""
    node = make_node("containerd")
    node.run("mkdir -p /var/lib/cgmigrate && mount -t tmpfs -o size=2m,mode=700 state /var/lib/cgmigrate")
    plant(node, "kubelet", pre_start("kubelet", "[ ! -e /root/broken ]"))
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)

    cgmigrate(node, "apply", PLAN, "--yes")
    migrated = files(node)
    node.run("cat /dev/zero >/var/lib/cgmigrate/filler", check=False)
    refused = cgmigrate(node, "rollback", "--yes", check=4)
    assert "stopped before its first change" in refused.stderr
    assert_on_systemd(node)
    assert migrated == files(node)
    node.run(["rm", "/var/lib/cgmigrate/filler"])
    cgmigrate(node, "rollback", "--yes")
    assert_on_cgroupfs(node)
    assert original == files(node)

    node.write("/root/broken", "")
    cgmigrate(node, "apply", PLAN, "--yes", "--on-failure", "stop", check=7)
    node.run("cat /dev/zero >/var/lib/cgmigrate/filler", check=False)
    done = cgmigrate(node, "rollback", "--yes", check=None)
    assert "No space left on device" in done.stderr or "short write" in done.stderr
    # The last record may be short enough for the last page.
    assert done.returncode == (0 if status(node, None) == "rolled-back" else 6), done.stderr
    assert_on_cgroupfs(node)
    assert original == files(node)
    node.run(["rm", "/var/lib/cgmigrate/filler"])
    cgmigrate(node, "rollback", "--yes")
    assert "rolled-back" == status(node, 0)
    assert_on_cgroupfs(node)
    assert original == files(node)


def test_sandboxes_that_the_new_kubelet_makes_twice_are_no_failure(node: Node) -> None:
    cgmigrate(node, "plan", "-o", PLAN)
    process = node.popen(["cgmigrate", "apply", PLAN, "--yes"])
    until("the last proof to begin", lambda: ("applying", "verify") in journal(node), 180, 0.1)
    time.sleep(5)  # into the middle of the watch
    node.run(["pkill", "-9", "-x", "pause"])
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, said + errors
    cgmigrate(node, "verify")


def test_sandboxes_that_are_being_made_as_the_kubelet_stops_leave_nothing(make_node: MakeNode) -> None:
    """A slow runc keeps the new driver's sandboxes half made while the way back stops kubelet and containerd."""
    node = make_node("containerd")
    original = files(node)
    cgmigrate(node, "plan", "-o", PLAN)
    cgmigrate(node, "apply", PLAN, "--yes")
    slow = 'for word; do [ "$word" = create ] && sleep 4; done\nexec /usr/sbin/runc "$@"\n'
    node.write("/usr/local/sbin/runc", f"#!/bin/sh\n{slow}")
    node.run(["chmod", "755", "/usr/local/sbin/runc"])
    node.run(["pkill", "-KILL", "-x", "pause"])
    until("runc makes a sandbox", lambda: making(node), timeout=60)
    said = cgmigrate(node, "rollback", "--yes").stderr
    assert_on_cgroupfs(node)
    assert original == files(node)
    known = node.run(["ctr", "-n", "k8s.io", "tasks", "ls", "-q"]).stdout.split()
    shims = node.run(["sh", "-c", "for pid in $(pgrep containerd-shim); do readlink /proc/$pid/cwd; done"])
    assert {line.rpartition("/")[2] for line in shims.stdout.split()} <= set(known)
    assert "waiting for the sandboxes that the kubelet had just begun" in said


def making(node: Node) -> bool:
    return "runc" in node.run(["pgrep", "-af", "^/bin/sh /usr/local/sbin/runc .* create"], check=False).stdout

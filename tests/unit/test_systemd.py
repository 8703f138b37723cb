# SPDX-License-Identifier: Apache-2.0
"""Units and their jobs, against a small systemd on a bus of its own (a real dbus-daemon)."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import gc
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from migrator.bus import _message_bus, object_path
from migrator.errors import HostError
from migrator.host import Host, Reader
from migrator.systemd import ListedUnit, Load, UnitControl, Units, UnitState, parse_show

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
ROOT = "/org/freedesktop/systemd1"

KUBELET: dict[str, Any] = {
    "Id": "kubelet.service",
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "FragmentPath": "/etc/systemd/system/kubelet.service",
    "DropInPaths": ["/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"],
    "MainPID": 73,
    "InvocationID": bytes.fromhex("841ca9b3c5c244b6a2d54a7392f8417a"),
    "ControlGroup": "/system.slice/kubelet.service",
    "Result": "success",
    "NRestarts": 2,
    "NeedDaemonReload": False,
}
_SIGNATURES = {
    "DropInPaths": "as",
    "MainPID": "u",
    "InvocationID": "ay",
    "NRestarts": "u",
    "NeedDaemonReload": "b",
}


class Bus:
    """A dbus-daemon that can be killed and started again under the same address."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bus"
        self.address = f"unix:path={self.path}"
        self.config = directory / "bus.conf"
        self.config.write_text(
            f"<busconfig><type>session</type><listen>{self.address}</listen><auth>EXTERNAL</auth>"
            '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
            '<allow own="*"/></policy></busconfig>'
        )
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        argv = ["dbus-daemon", f"--config-file={self.config}", "--nofork", "--nopidfile"]
        self.daemon = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        until(self.path.exists)

    def kill(self) -> None:
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None


class Systemd:
    """What a test needs of PID 1: units with properties, and jobs that end as `ending` says.

    `ending` is given this object, the unit and the job when a job is queued, before the call is answered.
    """

    def __init__(self, address: str) -> None:
        self.units: dict[str, dict[str, Any]] = {"kubelet.service": dict(KUBELET)}
        self.queued: list[str] = []
        self.after_start: dict[str, Any] = {"ActiveState": "active", "SubState": "running"}
        self.ending: Callable[[str, str], None] = lambda _unit, job: self.finish(job, "done")
        self.reloads = 0
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._bus: Any = None
        self._stopping = False
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        until(lambda: self._bus is not None)

    def stop(self) -> None:
        self._stopping = True
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def finish(self, job: str, result: str, unit: str = "kubelet.service") -> None:
        """Tell every listener that a job has ended."""
        if unit in self.units:
            self.units[unit].pop("Job", None)
        self._send(
            Message(
                message_type=MessageType.SIGNAL,
                path=ROOT,
                interface=MANAGER,
                member="JobRemoved",
                signature="uoss",
                body=[int(job.rpartition("/")[2]), job, unit, result],
            )
        )

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something in systemd's own time."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, what)

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._serve())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _serve(self) -> None:
        while not self._stopping:
            bus: Any = None
            try:
                bus = await _message_bus(self.address)
                bus.add_message_handler(self._handle)
                await bus.request_name(SYSTEMD)
                self._bus = bus
                await bus.wait_for_disconnect()
            except (OSError, EOFError):
                await asyncio.sleep(0.2)  # PID 1 takes its time too
            finally:
                self._bus = None
                if bus:
                    bus.close()

    def _send(self, message: Message) -> None:
        if self._bus:
            self._bus.send(message)

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or not (message.path or "").startswith(ROOT):
            return None
        if message.member == "Get":
            return Message.new_method_return(message, "v", [Variant("u", len(self.units))])
        if message.member == "GetAll":
            return self._properties(message)
        answer: tuple[str, list[Any]] = ("", [])
        match message.member:
            case "StartUnit" | "StopUnit" | "RestartUnit":
                unit = message.body[0]
                if unit not in self.units:
                    return Message.new_error(message, f"{SYSTEMD}.NoSuchUnit", f"Unit {unit} not found.")
                self.queued.append(f"{message.member} {unit}")
                job = f"{ROOT}/job/{100 + len(self.queued)}"
                self.units[unit]["Job"] = [100 + len(self.queued), job]
                self.ending(unit, job)
                answer = "o", [job]
            case "ListUnitsByPatterns":
                patterns = message.body[1] or ["*"]
                rows = [
                    [n, "", u["LoadState"], u["ActiveState"], u["SubState"], "", "/", 0, "", "/"]
                    for n, u in self.units.items()
                    if any(fnmatch.fnmatch(n, pattern) for pattern in patterns)
                ]
                answer = "a(ssssssouso)", [rows]
            case "Reload":
                self.reloads += 1
            case "ResetFailedUnit" if message.body[0] not in self.units:
                return Message.new_error(message, f"{SYSTEMD}.NoSuchUnit", "Unit not loaded.")
        return Message.new_method_return(message, *answer)

    def _properties(self, message: Message) -> Message:
        found = next((u for n, u in self.units.items() if object_path(n) == message.path), None)
        if found is None:
            found = {
                "Id": "nope.service",
                "LoadState": "not-found",
                "ActiveState": "inactive",
                "SubState": "dead",
            }
        values = {n: Variant(_SIGNATURES.get(n, "s"), v) for n, v in found.items() if n != "Job"}
        values["Job"] = Variant("(uo)", found.get("Job", [0, "/"]))
        return Message.new_method_return(message, "a{sv}", [values])


def until(true: Callable[[], bool], timeout: float = 10) -> None:
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            pytest.fail("waited in vain")
        time.sleep(0.01)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    if not shutil.which("dbus-daemon") and not os.environ.get("CI"):
        pytest.skip("no dbus-daemon on this machine (Debian: apt-get install dbus-daemon)")
    bus = Bus(tmp_path)
    bus.start()
    yield bus
    bus.kill()


@pytest.fixture
def systemd(bus: Bus) -> Iterator[Systemd]:
    systemd = Systemd(bus.address)
    yield systemd
    systemd.stop()


@pytest.fixture
def units(systemd: Systemd, bus: Bus) -> Iterator[UnitControl]:
    assert systemd.queued == []
    with UnitControl(Host(), bus.address) as control:
        yield control


def in_background(*work: Callable[[], object]) -> Future[None]:
    done: Future[None] = Future()

    def run() -> None:
        try:
            for each in work:
                each()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 told where the result is asked for
            done.set_exception(error)

    threading.Thread(target=run).start()
    return done


def test_a_state_is_what_systemd_tells(units: UnitControl) -> None:
    expected = UnitState(
        name="kubelet.service",
        load_state="loaded",
        active_state="active",
        sub_state="running",
        unit_file_state="enabled",
        fragment_path="/etc/systemd/system/kubelet.service",
        drop_in_paths=("/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",),
        main_pid=73,
        invocation_id="841ca9b3c5c244b6a2d54a7392f8417a",
        control_group="/system.slice/kubelet.service",
        result="success",
        n_restarts=2,
        need_daemon_reload=False,
    )
    assert (expected,) == units.states(["kubelet.service"])


def test_a_unit_that_does_not_exist_has_a_state_too(units: UnitControl) -> None:
    found = units.state("nope.service")
    assert ("not-found", "inactive", 0, "", ()) == (
        found.load_state,
        found.active_state,
        found.main_pid,
        found.invocation_id,
        found.drop_in_paths,
    )


def test_properties_are_plain_values(units: UnitControl) -> None:
    assert {**KUBELET, "Job": [0, "/"]} == units.properties("kubelet.service")


def test_a_list_has_the_units_that_match_any_pattern_by_name(units: UnitControl, systemd: Systemd) -> None:
    for name in ("kubepods.slice", "docker.service"):
        systemd.units[name] = {**KUBELET, "Id": name}
    assert ["kubelet.service", "kubepods.slice"] == [unit.name for unit in units.list("kubepods*", "kubel*")]
    assert 3 == len(units.list())
    expected = ListedUnit(
        name="docker.service", load_state="loaded", active_state="active", sub_state="running", job_type=""
    )
    assert (expected,) == units.list("docker*")


def test_the_load_is_loaded_names_and_connections_each_counted_once(
    units: UnitControl, systemd: Systemd
) -> None:
    systemd.units["kubepods.slice"] = {"LoadState": "loaded", "ActiveState": "active", "SubState": "active"}
    before = units.load()
    with UnitControl(Host(), systemd.address) as another:
        assert another.load() == Load(names=2, connections=before.connections + 1)
    assert before.names == 2


@pytest.mark.parametrize(
    ("unit", "label"),
    [
        ("kubelet.service", "kubelet_2eservice"),
        ("-.slice", "_2d_2eslice"),
        ("kubepods-pod1.slice", "kubepods_2dpod1_2eslice"),
        ("10-x.mount", "_310_2dx_2emount"),
        ("getty@tty1.service", "getty_40tty1_2eservice"),
        ("ü.service", "_c3_bc_2eservice"),
        ("", "_"),
    ],
)
def test_the_object_path_of_a_unit_has_systemds_escapes(unit: str, label: str) -> None:
    assert f"{ROOT}/unit/{label}" == object_path(unit)


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
@pytest.mark.parametrize("delay", [None, 0, 0.3])
def test_a_job_is_done_when_its_result_says_so(
    units: UnitControl, systemd: Systemd, verb: str, delay: float | None
) -> None:
    if delay is not None:  # else the result comes before the answer to the call that queued the job
        systemd.ending = lambda _unit, job: systemd.later(delay, lambda: systemd.finish(job, "done"))
    assert "kubelet.service" == getattr(units, verb)("kubelet.service").name
    assert [f"{verb.title()}Unit kubelet.service"] == systemd.queued


@pytest.mark.parametrize(
    "result", ["failed", "timeout", "canceled", "dependency", "skipped", "assert", "something new"]
)
def test_any_other_result_than_done_is_an_error_that_says_where_to_look(
    units: UnitControl, systemd: Systemd, result: str
) -> None:
    systemd.ending = lambda _unit, job: systemd.finish(job, result)
    with pytest.raises(HostError) as caught:
        units.start("kubelet.service")
    assert f'cannot start kubelet.service: the job ended with "{result}"' == caught.value.message
    assert "journalctl -u kubelet.service" == caught.value.hint


def test_jobs_of_others_do_not_count(units: UnitControl, systemd: Systemd) -> None:
    def ending(_unit: str, job: str) -> None:
        systemd.finish(f"{ROOT}/job/7", "failed")
        systemd.later(0.2, lambda: systemd.finish(job, "done"))

    systemd.ending = ending
    assert "active" == units.start("kubelet.service").active_state


def test_a_result_told_by_anyone_but_systemd_does_not_count(
    units: UnitControl, systemd: Systemd, bus: Bus
) -> None:
    units.start("kubelet.service")
    forged = threading.Event()

    async def forge(job: str) -> None:
        liar = await _message_bus(bus.address)
        names = await liar.call(_to_bus("ListNames"))
        assert names is not None
        for name in names.body[0]:
            if name.startswith(":"):
                message = Message(
                    message_type=MessageType.SIGNAL,
                    destination=name,
                    path=ROOT,
                    interface=MANAGER,
                    member="JobRemoved",
                    signature="uoss",
                    body=[1, job, "kubelet.service", "done"],
                )
                await liar.send(message)
        await liar.call(_to_bus("ListNames"))  # all that was sent has arrived
        liar.close()
        forged.set()

    def ending(_unit: str, job: str) -> None:
        in_background(lambda: asyncio.run(forge(job)))
        systemd.later(1, lambda: systemd.finish(job, "failed"))

    systemd.ending = ending
    with pytest.raises(HostError, match='ended with "failed"'):
        units.restart("kubelet.service")
    assert forged.is_set()


def _to_bus(member: str) -> Message:
    return Message(
        destination="org.freedesktop.DBus",
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member=member,
    )


def test_a_unit_that_cannot_be_started_is_an_error_and_one_that_cannot_be_stopped_is_stopped(
    units: UnitControl,
) -> None:
    with pytest.raises(HostError, match=r"cannot start nope.service: Unit nope.service not found."):
        units.start("nope.service")
    assert "not-found" == units.stop("nope.service").load_state


def test_a_job_that_does_not_end_is_given_up_in_time(units: UnitControl, systemd: Systemd) -> None:
    systemd.ending = lambda _unit, _job: None
    begun = time.monotonic()
    with pytest.raises(
        HostError, match=r"cannot stop kubelet.service: no result within 0.5 s; its job goes on"
    ):
        units.stop("kubelet.service", timeout=0.5)
    assert 0.5 <= time.monotonic() - begun < 2


def test_a_job_whose_result_is_never_told_is_judged_by_its_unit(units: UnitControl, systemd: Systemd) -> None:
    def ending(unit: str, _job: str) -> None:
        systemd.units[unit].update(ActiveState="inactive", SubState="dead")
        del systemd.units[unit]["Job"]

    systemd.ending = ending
    assert "inactive" == units.stop("kubelet.service").active_state
    with pytest.raises(HostError, match="the job is gone, its result unheard, and the unit inactive"):
        units.start("kubelet.service")


def test_a_result_that_comes_after_its_job_has_gone_counts(units: UnitControl, systemd: Systemd) -> None:
    def ending(unit: str, job: str) -> None:
        systemd.units[unit].update(ActiveState="inactive")
        del systemd.units[unit]["Job"]
        systemd.later(1.5, lambda: systemd.finish(job, "dependency"))

    systemd.ending = ending
    with pytest.raises(HostError, match='ended with "dependency"'):
        units.start("kubelet.service")


@pytest.mark.parametrize(
    "case",
    [
        ("start", {"ActiveState": "active"}, True),
        ("start", {"ActiveState": "failed"}, False),
        ("start", {"ActiveState": "inactive", "InvocationID": b"new", "Result": "success"}, True),
        ("start", {"ActiveState": "inactive"}, False),
        ("restart", {"ActiveState": "active"}, False),
        ("restart", {"ActiveState": "active", "InvocationID": b"new"}, True),
        ("stop", {"ActiveState": "active"}, False),
        ("stop", {"ActiveState": "failed"}, True),
    ],
)
def test_a_bus_that_is_restarted_during_a_job_leaves_the_unit_to_tell(
    units: UnitControl, systemd: Systemd, bus: Bus, case: tuple[str, dict[str, Any], bool]
) -> None:
    verb, after, there = case
    restarted: list[Future[None]] = []

    def restart_bus() -> None:
        time.sleep(0.2)
        bus.kill()
        time.sleep(0.2)
        systemd.units["kubelet.service"].update(after)
        del systemd.units["kubelet.service"]["Job"]
        bus.start()

    systemd.ending = lambda _unit, _job: restarted.append(in_background(restart_bus))
    if there:
        assert after["ActiveState"] == getattr(units, verb)("kubelet.service").active_state
    else:
        with pytest.raises(HostError, match=f"cannot {verb} kubelet.service: the job is gone"):
            getattr(units, verb)("kubelet.service")
    assert 1 == len(systemd.queued)
    restarted[0].result()


def test_a_job_that_outlives_the_bus_is_waited_for(units: UnitControl, systemd: Systemd, bus: Bus) -> None:
    def ending(_unit: str, job: str) -> None:
        in_background(lambda: time.sleep(0.2), bus.kill, bus.start)
        systemd.later(1.5, lambda: systemd.finish(job, "dependency"))

    systemd.ending = ending
    with pytest.raises(HostError, match='ended with "dependency"'):
        units.restart("kubelet.service")


def test_a_call_that_is_lost_with_the_bus_is_made_again(
    units: UnitControl, systemd: Systemd, bus: Bus
) -> None:
    units.state("kubelet.service")

    def die(unit: str, _job: str) -> None:
        del systemd.units[unit]["Job"]
        bus.kill()
        bus.start()
        systemd.ending = lambda _unit, job: systemd.finish(job, "done")

    systemd.ending = die
    units.restart("kubelet.service")
    assert 2 == len(systemd.queued)


def test_a_look_is_repeated_when_the_bus_was_restarted_and_says_nothing_on_the_terminal(
    units: UnitControl, bus: Bus, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert "active" == units.state("kubelet.service").active_state
        bus.kill()
        bus.start()
        units.reload()
        units.reset_failed("nope.service")
    units.close()
    gc.collect()
    assert (capfd.readouterr(), caplog.messages) == (("", ""), [])


def test_a_bus_that_is_away_for_a_second_is_waited_for(units: UnitControl, bus: Bus) -> None:
    units.state("kubelet.service")
    bus.kill()
    bus.path.unlink()
    back = in_background(lambda: time.sleep(1), bus.start)
    assert "active" == units.state("kubelet.service").active_state
    back.result()


def test_without_a_bus_there_is_an_error_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(HostError, match=f"no systemd at unix:path={tmp_path}/bus: .*No such file") as caught:
        Units(Reader(), f"unix:path={tmp_path}/bus").state("kubelet.service")
    assert "systemctl status dbus.service" == caught.value.hint
    assert time.monotonic() - begun < 1


def test_an_image_has_no_systemd_to_ask(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is an image, not a running node"):
        Units(Reader(tmp_path)).state("kubelet.service")


def test_a_bus_that_closes_during_the_greeting_is_no_endless_loop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus"))
        listener.listen()

        def accept() -> None:
            client, _ = listener.accept()
            with client, client.makefile("rb") as greeting:
                greeting.readline()

        closed = in_background(accept)
        with pytest.raises(EOFError):
            asyncio.run(_message_bus(f"unix:path={tmp_path}/bus"))
        closed.result()


@pytest.mark.usefixtures("systemd")
def test_a_bus_with_a_full_backlog_is_tried_again(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "full"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(
                    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                )
                one.connect(str(path))

        def replace() -> None:
            time.sleep(0.5)
            path.unlink()
            path.symlink_to(bus.path)

        replaced = in_background(replace)
        with Units(Reader(), f"unix:path={path}") as units:
            assert "active" == units.state("kubelet.service").active_state
        replaced.result()


@pytest.mark.usefixtures("systemd")
def test_a_bus_that_does_not_answer_is_an_error(bus: Bus) -> None:
    assert bus.daemon
    bus.daemon.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    with Units(Reader(), bus.address) as other, pytest.raises(HostError, match="gave no answer in time"):
        other.state("kubelet.service")
    assert time.monotonic() - begun < 15
    bus.daemon.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n", {}),
        (
            "Id=kubepods.slice\nControlGroup=/kubepods.slice\n\nId=a.scope\nControlGroup=\n",
            {
                "kubepods.slice": {"Id": "kubepods.slice", "ControlGroup": "/kubepods.slice"},
                "a.scope": {"Id": "a.scope", "ControlGroup": ""},
            },
        ),
        (
            "Id=a.service\nExecStart={ a=b }\nExecStart={ c }\n",
            {"a.service": {"Id": "a.service", "ExecStart": "{ a=b }\n{ c }"}},
        ),
        ("MemoryMax=1\n", {}),
    ],
)
def test_the_output_of_systemctl_show_is_read_by_unit(text: str, expected: dict[str, dict[str, str]]) -> None:
    assert expected == parse_show(text)

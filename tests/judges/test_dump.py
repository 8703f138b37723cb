# SPDX-License-Identifier: Apache-2.0
"""What a plan asks of the installed containerd before anything is written, with the real daemons as the installed ones."""

import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from migrator.cgroups import Driver
from migrator.configs.secrets import MASK
from migrator.containerd_dump import judge_edit
from migrator.errors import BlockedError
from migrator.facts.look import Look
from migrator.facts.model import Runtime, Unit
from migrator.facts.runtime_config import containerd_configured
from migrator.findings import Finding, Severity
from migrator.host import Reader

from .daemons import CONTAINERD
from .layouts import MAIN, layout
from .test_containerd import judge, planned

LAYOUTS = int(os.environ.get("CGMIGRATE_JUDGED", "100")) // 2
WITH_OPTIONS = [version for version in CONTAINERD if version != "1.4"]
CRI = 'plugins."io.containerd.grpc.v1.cri"'
RUNC = f'[{CRI}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
CGROUPFS = f"{RUNC}[{CRI}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n"
SYSTEMD = CGROUPFS.replace("false", "true")
KATA = f'[{CRI}.containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
REGISTRY = f'[{CRI}.registry.configs."registry.example".auth]\nusername = "ci"\npassword = '
IMPORTS = 'imports = ["conf.d/10-own.toml"]\n'
OWN = "/etc/containerd/conf.d/10-own.toml"


def node(root: Path, files: Mapping[str, str | bytes], version: str) -> tuple[Runtime, Look]:
    """Lay out a running node's containerd below ROOT, and return what an audit finds in its files."""
    unit = root / "containerd.service"
    for path, text in files.items():
        place = root / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(here(root, text))
    unit.write_text(f"[Service]\nExecStart=/usr/bin/containerd --config {root}{MAIN}\n")
    look = Look(Reader())
    service = Unit(name="containerd.service", load_state="loaded", fragment=str(unit))
    return containerd_configured(look, Runtime(kind="containerd", version=version), service), look


def here(root: Path, text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return data.replace(b'"/etc/containerd', f'"{root}/etc/containerd'.encode())


def judged(
    root: Path, version: str, files: Mapping[str, str | bytes], edited: Mapping[str, str] | None = None
) -> tuple[Finding, ...]:
    """Return what a containerd has against an edit; without one, against the edit of the plan."""
    containerd = judge(version)
    runtime, look = node(root, files, containerd.version())
    changed = (
        planned(runtime, look, Driver.SYSTEMD)
        if edited is None
        else {f"{root}{path}": here(root, text) for path, text in edited.items()}
    )
    return judge_edit(Reader(), str(containerd.binary), runtime, changed)


def starts_on(version: str, root: Path) -> bool:
    argv = [str(judge(version).binary), "--config", f"{root}{MAIN}", "config", "dump"]
    return not subprocess.run(argv, capture_output=True, check=False, cwd="/").returncode


def content(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("version", CONTAINERD)
@pytest.mark.usefixtures("judges")
def test_a_right_edit_is_accepted_and_nothing_is_written_to_look(version: str, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(LAYOUTS):
        root = tmp_path / str(seed)
        root.mkdir()
        try:
            found = judged(root, version, layout(seed))
        except BlockedError:
            seen["no plan, or not by these files"] += 1
            continue
        before = content(root)
        for each in found:
            seen[each.id] += 1
            # Of a byte order mark, and it does not.
            really = each.id == "containerd-files-refused" and not starts_on(version, root)
            if each.severity is Severity.BLOCKER and not really:
                wrong.append(f"{seed}: {each.summary}")
        seen["accepted"] += not found
        assert content(root) == before
    print(version, dict(seen))
    assert not wrong, "\n".join(wrong)
    assert seen["containerd-dump-unknown" if version == "1.4" else "accepted"] > LAYOUTS // 2


ONE_X = ("1.6", "1.7")
WRONG = {
    "another section is changed as well": (
        WITH_OPTIONS,
        {MAIN: f"version = 2\n[debug]\nlevel = 'info'\n{CGROUPFS}"},
        {MAIN: f"version = 2\n[debug]\nlevel = 'warn'\n{SYSTEMD}"},
        ('debug.level: "info" → "warn"',),
    ),
    "1.4, whose dump hides the options, shows this too": (
        ["1.4"],
        {MAIN: f"version = 2\n[debug]\nlevel = 'info'\n{CGROUPFS}"},
        {MAIN: f"version = 2\n{SYSTEMD}"},
        ('debug.level: "info" → ""',),
    ),
    "a handler is lost": (
        CONTAINERD,
        {MAIN: f"version = 2\n{CGROUPFS}{KATA}"},
        {MAIN: f"version = 2\n{SYSTEMD}"},
        ('runtimes.kata.runtime_type: "io.containerd.kata.v2" → nothing',),
    ),
    "a handler that is no runc gets the key": (
        WITH_OPTIONS,
        {MAIN: f"version = 2\n{CGROUPFS}{KATA}"},
        {MAIN: f"version = 2\n{SYSTEMD}{KATA}options = {{ SystemdCgroup = true }}\n"},
        ("runtimes.kata.options.SystemdCgroup: nothing → true",),
    ),
    "the key is in a table that 1.x does not read": (
        ONE_X,
        {MAIN: f"version = 2\n{CGROUPFS}"},
        {
            MAIN: f"version = 2\n{CGROUPFS}[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n"
            "SystemdCgroup = true\n"
        },
        ("runtimes.runc.options.SystemdCgroup would not be true",),
    ),
    "the key is in a table that 2.x does not read": (
        ["2.x"],
        {MAIN: f"version = 2\n{CGROUPFS}"},
        {
            MAIN: f"version = 2\n{CGROUPFS}[plugins.cri.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
        },
        ("runtimes.runc.options.SystemdCgroup would not be true",),
    ),
    "the key is misspelt": (
        ONE_X,
        {MAIN: f"version = 2\n{CGROUPFS}"},
        {MAIN: f"version = 2\n{SYSTEMD.replace('SystemdCgroup', 'systemd_cgroup')}"},
        ("runtimes.runc.options.SystemdCgroup would not be true",),
    ),
    "an import that gets the handler replaces all that the main file says": (
        ONE_X,
        {
            MAIN: f"version = 2\n{IMPORTS}[{CRI}]\nsandbox_image = 'mirror.example/pause:1'\n{CGROUPFS}",
            OWN: "[debug]\nlevel = 'info'\n",
        },
        {OWN: f"version = 2\n[debug]\nlevel = 'info'\n{SYSTEMD}"},
        ('sandbox_image: "mirror.example/pause:1" → "registry.k8s.io/pause:',),
    ),
    "an import still says the old driver": (
        WITH_OPTIONS,
        {MAIN: f"version = 2\n{IMPORTS}{CGROUPFS}", OWN: f"version = 2\n{CGROUPFS}"},
        {MAIN: f"version = 2\n{IMPORTS}{SYSTEMD}"},
        ("runtimes.runc.options.SystemdCgroup would not be true",),
    ),
    "imports are lost": (
        CONTAINERD,
        {
            MAIN: f"version = 2\n{IMPORTS}{CGROUPFS}",
            OWN: "version = 2\n[metrics]\naddress = '127.0.0.1:1338'\n",
        },
        {MAIN: f"version = 2\n{SYSTEMD}"},
        ('metrics.address: "127.0.0.1:1338" → ""',),
    ),
    "containerd would not start on it": (
        CONTAINERD,
        {MAIN: f"version = 2\n{CGROUPFS}"},
        {MAIN: f"version = 2\noom_score = 'much'\n{SYSTEMD}"},
        ("it does not accept the edited files: ",),
    ),
    "it is no TOML": (
        CONTAINERD,
        {MAIN: f"version = 2\n{CGROUPFS}"},
        {MAIN: f"version = 2\n{SYSTEMD}{SYSTEMD}"},
        ("it does not accept the edited files: ",),
    ),
    "a credential": (
        CONTAINERD,
        {MAIN: f"version = 2\n{CGROUPFS}{REGISTRY}'hunter2hunter2'\n"},
        {MAIN: f"version = 2\n{SYSTEMD}{REGISTRY}'hunter3hunter3'\n"},
        (f"auth.password: {MASK} → {MASK}",),
    ),
}


@pytest.mark.parametrize(
    ("version", "files", "edited", "words"),
    [
        pytest.param(version, files, edited, words, id=f"{version}-{name}")
        for name, (versions, files, edited, words) in WRONG.items()
        for version in versions
    ],
)
@pytest.mark.usefixtures("judges")
def test_a_wrong_edit_is_a_blocker_that_names_the_key(
    version: str, files: Mapping[str, str], edited: Mapping[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    (found,) = judged(tmp_path, version, files, edited)

    assert (found.id, found.severity) == ("containerd-dump-differs", Severity.BLOCKER)
    assert [word for word in words if word not in found.summary] == [], found.summary
    assert "hunter" not in str(found)


@pytest.mark.parametrize("version", CONTAINERD)
@pytest.mark.usefixtures("judges")
def test_a_containerd_that_refuses_what_is_there_already_would_not_start_again(
    version: str, tmp_path: Path
) -> None:
    broken = f"version = 2\n{CGROUPFS}{CGROUPFS}"

    (found,) = judged(tmp_path, version, {MAIN: broken}, {MAIN: f"version = 2\n{SYSTEMD}"})

    assert (found.id, found.severity) == ("containerd-files-refused", Severity.BLOCKER)
    assert "would not start again: containerd: " in found.summary


@pytest.mark.parametrize("version", CONTAINERD)
@pytest.mark.usefixtures("judges")
def test_where_there_is_no_file_yet_the_defaults_are_what_it_is_held_against(version: str) -> None:
    containerd = judge(version)
    if Path(MAIN).exists():
        pytest.skip(f"this machine has a {MAIN}")

    right = judge_edit(
        Reader(),
        str(containerd.binary),
        Runtime(kind="containerd", version=containerd.version()),
        {MAIN: f"version = 2\n{SYSTEMD}".encode()},
    )
    wrong = judge_edit(
        Reader(),
        str(containerd.binary),
        Runtime(kind="containerd", version=containerd.version()),
        {MAIN: f"version = 2\noom_score = 7\n{SYSTEMD}".encode()},
    )

    assert [each.id for each in right] == (["containerd-dump-unknown"] if version == "1.4" else [])
    assert "oom_score: 0 → 7" in wrong[0].summary

# SPDX-License-Identifier: Apache-2.0
"""Several files of containerd: what each version makes of them, as `tests/judges` saw it, and which file is edited."""

from __future__ import annotations

import pytest

from migrator.cgroups import Driver
from migrator.configs.containerd_merge import (
    ConfigFile,
    ConfigFileError,
    Daemon,
    daemon_version,
    effective,
    wanted_edits,
)

MAIN, FIRST, SECOND = (
    "/etc/containerd/config.toml",
    "/etc/containerd/conf.d/a.toml",
    "/etc/containerd/conf.d/b.toml",
)
TABLE = {
    1: "plugins.cri",
    2: 'plugins."io.containerd.grpc.v1.cri"',
    3: "plugins.'io.containerd.cri.v1.runtime'",
}
OLD: tuple[Daemon, ...] = ((1, 4), (1, 6), (1, 7))
NEW: tuple[Daemon, ...] = ((2, 1),)
EVERY = OLD + NEW


def handler(name: str, value: str | None, version: int = 2, kind: str = "io.containerd.runc.v2") -> str:
    table = f"{TABLE[version]}.containerd.runtimes.{name}"
    options = f"[{table}.options]\nSystemdCgroup = {value}\n" if value else ""
    return f'[{table}]\nruntime_type = "{kind}"\n{options}'


def default(name: str, version: int = 2) -> str:
    return f'[{TABLE[version]}.containerd]\ndefault_runtime_name = "{name}"\n'


def files(*texts: str) -> list[ConfigFile]:
    paths = (MAIN, FIRST, SECOND)
    return [ConfigFile(path, text.encode()) for path, text in zip(paths, texts, strict=False)]


ELSEWHERE = 'version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.05\n'
REGISTRY = f'version = 2\n[{TABLE[2]}.registry]\nconfig_path = "/x"\n'


@pytest.mark.parametrize(
    ("texts", "daemons", "deciding"),
    [
        pytest.param(("",), EVERY, ("runc", False), id="nothing said"),
        pytest.param((handler("runc", "true", 1),), OLD, ("runc", True), id="no version line, 1.x"),
        pytest.param(
            (handler("runc", "true", 1),),
            NEW,
            ("runc", False),
            id="no version line: 2.x reads no CRI table of 1",
        ),
        pytest.param(
            (handler("runc", "true", 3),), NEW, ("runc", True), id="no version line: 2.x reads the table of 3"
        ),
        pytest.param(
            (handler("runc", "true", 2),), EVERY, ("runc", False), id="tables of 2, no version line"
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", None),), NEW, ("runc", False), id="2.x adds runc's options"
        ),
        pytest.param(
            ("version = 3\n" + handler("runc", "true", 2),), ((1, 6),), ("runc", True), id="1.6 takes 3 for 2"
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "true", 2) + handler("nvidia", "false", 3),),
            NEW,
            ("runc", False),
            id="a table of 3 in a file of 2 puts that of 2 aside",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "true"), ELSEWHERE),
            EVERY,
            ("runc", True),
            id="import of something else",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "true"), REGISTRY),
            OLD,
            ("runc", False),
            id="an import wipes in 1.x",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "true"), REGISTRY),
            NEW,
            ("runc", True),
            id="an import is merged in 2.x",
        ),
        pytest.param(
            (handler("runc", "true"), ELSEWHERE),
            EVERY,
            ("runc", True),
            id="an import's version counts for all",
        ),
        pytest.param(
            (handler("runc", "true", 1), ELSEWHERE),
            NEW,
            ("runc", True),
            id="a table of 1 beside a file of 2, in 2.x",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "false"), "version = 1\n" + handler("runc", "true", 1)),
            EVERY,
            ("runc", True),
            id="an import of version 1",
        ),
        pytest.param(
            ("version = 3\n" + handler("runc", "true", 3), "version = 2\n" + handler("runc", "false", 2)),
            NEW,
            ("runc", True),
            id="tables of 2 beside tables of 3",
        ),
        pytest.param(
            (
                "version = 2\n"
                + default("kata")
                + handler("kata", None, kind="io.containerd.kata.v2")
                + handler("runc", "true"),
            ),
            EVERY,
            ("runc", True),
            id="the default handler is no runc",
        ),
        pytest.param(
            ("version = 3\n" + default("nv", 3) + handler("nv", None, 3) + handler("runc", "true", 3),),
            NEW,
            ("runc", True),
            id="2.x passes over a handler without options",
        ),
        pytest.param(
            ("version = 2\n" + default("nv") + handler("nv", None) + handler("runc", None),),
            NEW,
            ("runc", False),
            id="but runc has options of its own",
        ),
        pytest.param(
            ("version = 2\n" + handler("kata", None, kind="io.containerd.kata.v2"),),
            ((1, 6), (1, 7)),
            None,
            id="a runtimes table without runc, 1.5 to 1.7",
        ),
        pytest.param(
            ("version = 2\n" + handler("kata", None, kind="io.containerd.kata.v2"),),
            ((1, 4), (2, 1)),
            ("runc", False),
            id="a runtimes table without runc, before and after",
        ),
    ],
)
def test_the_handler_that_decides(
    texts: tuple[str, ...], daemons: tuple[Daemon, ...], deciding: tuple[str, bool] | None
) -> None:
    for daemon in daemons:
        found = effective(files(*texts), daemon).deciding
        assert deciding == (found and (found.name, bool(found.systemd_cgroup))), daemon


@pytest.mark.parametrize(
    ("texts", "daemon", "edits"),
    [
        pytest.param((handler("runc", "false", 1),), (1, 6), [(MAIN, 1, ("runc",))], id="version 1"),
        pytest.param(
            (handler("runc", "false", 1),), (2, 1), [(MAIN, 3, ("runc",))], id="version 1 under 2.x"
        ),
        pytest.param(
            (handler("runc", "false", 1),),
            None,
            [(MAIN, 1, ("runc",)), (MAIN, 3, ("runc",))],
            id="version 1 under nobody knows what: both tables",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "true"), REGISTRY),
            (1, 7),
            [(FIRST, 2, ("runc",))],
            id="below the import that wipes",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "false"), REGISTRY),
            (2, 1),
            [(MAIN, 2, ("runc",))],
            id="where it is said, when merged",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "false"), "version = 2\n" + handler("nvidia", "false")),
            (1, 7),
            [(MAIN, 2, ("runc",)), (FIRST, 2, ("nvidia",))],
            id="no runc is made where the daemon has none",
        ),
        pytest.param(
            ("version = 2\n" + handler("runc", "false"), "version = 2\n" + handler("runc", "true")),
            (2, 1),
            [(MAIN, 2, ("runc",)), (FIRST, 2, ("runc",))],
            id="what another file decides today is changed too",
        ),
        pytest.param(
            ("version = 2\n" + handler("nvidia", "false"),),
            (2, 1),
            [(MAIN, 2, ("nvidia", "runc"))],
            id="the implicit runc",
        ),
        pytest.param(
            (
                "version = 2\n"
                + handler("kata", None, kind="io.containerd.kata.v2")
                + handler("runc", "false"),
            ),
            (1, 7),
            [(MAIN, 2, ("runc",))],
            id="kata is left alone",
        ),
    ],
)
def test_the_files_that_are_edited(
    texts: tuple[str, ...], daemon: Daemon | None, edits: list[tuple[str, int, tuple[str, ...]]]
) -> None:
    assert tuple(edits) == wanted_edits(files(*texts), daemon, Driver.SYSTEMD)


@pytest.mark.parametrize(
    ("texts", "daemon", "path", "line"),
    [
        (("version = 3\n",), (1, 7), MAIN, 1),
        (("\nversion = 4\n",), (2, 2), MAIN, 2),
        (("version = 2\n", "version = 3\n"), (1, 7), FIRST, 1),
        (("version = 2\n", "[a\n"), (2, 1), FIRST, 1),
    ],
)
def test_a_file_that_this_containerd_does_not_start_on_is_named(
    texts: tuple[str, ...], daemon: Daemon, path: str, line: int
) -> None:
    with pytest.raises(ConfigFileError) as caught:
        effective(files(*texts), daemon)
    assert (path, line) == (caught.value.path, caught.value.error.line)


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.6.20~ds1", (1, 6)), ("v2.1.4", (2, 1)), ("2.1.9+unknown", (2, 1)), ("", None), (None, None)],
)
def test_the_daemons_own_version(text: str | None, version: Daemon | None) -> None:
    assert version == daemon_version(text)

# SPDX-License-Identifier: Apache-2.0
"""Sample images to be made hostile, and what every test of hostile input asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cli.test_offline import Done, cgmigrate, snapshot

__all__ = [
    "CONFIGS",
    "CONTAINERD",
    "DOCKER",
    "EVIL",
    "STATE",
    "Done",
    "cgmigrate",
    "copy",
    "planned",
    "raw",
    "snapshot",
    "spawn",
]

NODES = Path(__file__).parent.parent / "nodes"
DOCKER, CONTAINERD = "docker-20.10-kubelet-1.20", "containerd-1.6-kubelet-1.20"
CONFIGS = {
    DOCKER: "/etc/docker/daemon.json",
    CONTAINERD: "/etc/containerd/config.toml",
}
STATE = "var/lib/cgmigrate"

EVIL = (
    "\x1b[2J\x1b[31m"  # CSI: clear the screen, turn red
    "\x1b]52;c;cm0gLXJmIC8=\x07"  # OSC 52: fill the clipboard
    "\x1b]8;;http://evil.example\x1b\\"  # OSC 8: a link that leads elsewhere
    "\x9b31m\x85\x90"  # C1 controls: CSI, next line, device control
    "\u202e\u2066\u200b\u200f\ufeff\u3164"  # bidirectional overrides, zero width, a letter that is not drawn
    "\x7f\x08\r\v\f"
    "\udcff\udc9b"  # undecodable bytes
)
"""What a name on a Linux node can hold; a newline and a NUL come where the place allows them."""


def copy(sample: str, target: Path) -> Path:
    """Return a copy of a sample node's files, modes as a node has them, whatever the checkout's umask made."""
    shutil.copytree(NODES / sample / "root", target, symlinks=True)
    for directory, _, names in os.walk(target):
        Path(directory).chmod(0o755)
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o644)
    return target


def planned(image: Path, target: Path) -> Path:
    """Plan an image and return the plan's file."""
    done = cgmigrate("plan", "--root", image, "-o", target)
    assert 0 == done.returncode, done.stderr
    return target


def raw(text: str) -> list[str]:
    """Return the characters of an output that a terminal would act on, or a reader would not see."""
    invisible = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
    invisible |= {chr(selector) for selector in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))}
    return sorted({c for c in text if c not in "\n\t" and (not c.isprintable() or c in invisible)})


def spawn(
    *arguments: str | Path,
    umask: int = 0o022,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [*before, sys.executable, "-m", "migrator", *map(str, arguments)],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        umask=umask,
        env={**os.environ, **(env or {})},
        cwd=NODES.parent.parent,
        timeout=120,
    )

# SPDX-License-Identifier: Apache-2.0
"""Show a whole migration and the way back, on a copy of the bundled node image: demo.py [IMAGE].

Every command is the real one and is shown before it runs; nothing outside a temporary directory is changed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from migrator.statedir import STATE

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "tests" / "nodes" / "docker-20.10-kubelet-1.20" / "root"
CGMIGRATE = Path(sys.executable).parent / "cgmigrate"

Manifest = dict[str, tuple[int, int, int, str]]

LIVE = """
That was an image: what needs a running node was deferred. A real one, in seconds once it is built (as root;
the first build takes minutes):

    make lab-up FLAVOUR=docker        # or containerd: systemd, the runtime, a kubelet, pods of all QoS classes
    make lab-shell                    # inside it:
      cgmigrate audit
      cgmigrate plan -o plan.json
      cgmigrate apply plan.json
      cgmigrate verify
      cgmigrate rollback
    make lab-down
"""


def main() -> None:
    """Run the demonstration; exit 1 when something is not as promised."""
    image = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGE
    if os.geteuid() != 0:
        sys.exit("`apply` changes a node and asks for root, even on a copy: run `make demo` as root")
    with tempfile.TemporaryDirectory(prefix="cgmigrate-demo-") as directory:
        place = Path(directory)
        shutil.copytree(image, place / "node", symlinks=True)
        before = manifest(place / "node")
        heading(f"a node's files: copied from {name(image)}")
        run(place, "audit")
        run(place, "plan", "-o", "plan.json")
        run(place, "apply", "plan.json", "--yes")
        heading("what changed")
        changed = difference(before, manifest(place / "node"))
        for path in changed:
            print(f"  {path}")
        if not changed:
            sys.exit("demo: apply changed no file")
        run(place, "status")
        run(place, "rollback", "--yes")
        heading("is it as it was?")
        if left := difference(before, manifest(place / "node")):
            sys.exit("demo: these files are not as they were: " + ", ".join(left))
        print(f"  yes: {len(before)} files and directories have the bytes, mode and owner of before")
        print(f"  (the journal below {STATE} stays until `cgmigrate forget`)")
    print(LIVE, end="")


def heading(text: str) -> None:
    """Print what comes next."""
    print(f"\n── {text}\n", flush=True)


def run(place: Path, *arguments: str) -> None:
    """Show one command and run it on the copy."""
    words = ["cgmigrate", "--root", "node", *arguments]
    heading(shlex.join(words))
    done = subprocess.run([CGMIGRATE, *words[1:]], cwd=place, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"demo: {shlex.join(words)} exited with {done.returncode}")


def manifest(node: Path) -> Manifest:
    """Return mode, owner, group and digest (or link target) of everything below a node but the tool's own state."""
    found = {}
    for path in sorted(node.rglob("*")):
        inside = f"/{path.relative_to(node)}"
        if inside == STATE or inside.startswith(f"{STATE}/"):
            continue
        status = path.lstat()
        found[inside] = (status.st_mode, status.st_uid, status.st_gid, content(path))
    return found


def content(path: Path) -> str:
    """Return what a file, link or directory holds, in short."""
    if path.is_symlink():
        return os.readlink(path)
    return "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def difference(before: Manifest, now: Manifest) -> list[str]:
    """Return the paths that are new, gone or other than before."""
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def name(image: Path) -> str:
    """Return an image's path as the reader would type it."""
    return str(image.relative_to(ROOT)) if image.is_relative_to(ROOT) else str(image)


if __name__ == "__main__":
    main()

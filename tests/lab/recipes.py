# SPDX-License-Identifier: Apache-2.0
"""What a node is made from: Debian's packages, cgmigrate's libraries, images, loaded storage."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from .cache import Artefact, LabError, command, copy_tree, remove_tree
from .kubernetes import KUBELET, SOURCE
from .machine import HERE, Machine
from .packages import SUITE, apt_sources
from .process import this_process

PYTHON = "3.11"  # of that suite
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "ca-certificates"),
    *("docker.io", "containerd", "runc", "containernetworking-plugins", "busybox-static"),
    *("iptables", "conntrack", "ebtables", "ethtool", "socat", "iproute2", "util-linux", "mount"),
    *("python3", "perl-base", "jq", "curl", "strace", "procps", "less", "vim-tiny"),
)
FLAVOURS = ("docker", "containerd")
PAUSE = "k8s.gcr.io/pause:3.2"
POD_IMAGE = "bb:1"
DOCKER_FILES = (
    "usr/bin/docker",
    "usr/sbin/dockerd",
    "lib/systemd/system/docker.service",
    "lib/systemd/system/docker.socket",
    "etc/systemd/system/multi-user.target.wants/docker.service",
    "etc/systemd/system/sockets.target.wants/docker.socket",
    "etc/default/docker",
    "etc/init.d/docker",
)


def _make_rootfs(out: Path) -> None:
    """Bootstrap Debian with both runtimes."""
    work = out.with_name(f"{out.name}.apt")
    remove_tree(work)
    with ExitStack() as stack:
        stack.callback(remove_tree, work)
        sources = apt_sources(work, "deb")
        # How the machine reaches its archive (proxy, certificates) is part of its own configuration.
        dump = command(["apt-config", "dump", "Acquire"]).splitlines()
        settings = work / "apt.conf"
        settings.write_text(
            "".join(f"{line}\n" for line in dump if "IndexTargets" not in line and '""' not in line)
        )
        include = ",".join(PACKAGES)
        command(
            [
                # Its /proc, /sys and /dev go with it even if it is killed.
                *("unshare", "--mount", "--propagation", "private", "--", "mmdebstrap"),
                "--variant=minbase",
                f"--aptopt={settings}",
                f"--include={include}",
                SUITE,
                out,
                *sources,
            ]
        )
    for name in ("apt/sources.list.d", "apt/apt.conf.d"):
        shutil.rmtree(out / "etc" / name)
        (out / "etc" / name).mkdir()
    units = out / "etc/systemd/system"
    shutil.rmtree(units / "timers.target.wants")  # apt, fstrim, e2scrub: not in a throwaway node
    (units / "multi-user.target.wants/e2scrub_reap.service").unlink(missing_ok=True)
    for unit in ("console-getty.service", "getty@tty1.service"):
        (units / unit).symlink_to("/dev/null")
    (out / "opt/cni").mkdir()
    (out / "opt/cni/bin").symlink_to("/usr/lib/cni")


ROOTFS = Artefact("rootfs", _make_rootfs, made_from=(SUITE, *PACKAGES))


# --- cgmigrate's libraries -----------------------------------------------------------------------

REQUIREMENTS = HERE.parents[1] / "requirements.txt"


def _make_libraries(out: Path) -> None:
    """Install cgmigrate's locked dependencies by the machine's own pip and its configuration."""
    target = out / "opt/cgmigrate/lib"
    target.mkdir(parents=True)
    pip = next(
        (
            argv
            for argv in ([sys.executable, "-m", "pip"], ["python3", "-m", "pip"], ["pip3"])
            if _works(argv)
        ),
        None,
    )
    if pip is None:
        raise LabError("no pip on this machine: install python3-pip")
    version = command([*pip, "--version"])
    # For another Python than pip's own only ready wheels can be chosen.
    foreign = [] if f"(python {PYTHON})" in version else ["--python-version", PYTHON, "--only-binary=:all:"]
    command([*pip, "install", "--quiet", *foreign, "--target", target, "--requirement", REQUIREMENTS])


def _works(argv: list[str]) -> bool:
    try:
        return subprocess.run([*argv, "--version"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@cache
def libraries() -> Artefact:
    """Return the layer with cgmigrate's dependencies, keyed by the checkout's lock file."""
    if not REQUIREMENTS.exists():
        raise LabError(f"{REQUIREMENTS} is missing: it says which libraries cgmigrate needs in a node")
    return Artefact("libraries", _make_libraries, made_from=(PYTHON, REQUIREMENTS.read_text()))


# --- images --------------------------------------------------------------------------------------


def write_image(out: Path, name: str, entrypoint: list[str], files: Mapping[str, Path | str]) -> None:
    """Write a one-layer docker-archive, which `docker load` and `ctr images import` both read.

    Args:
        out: the archive.
        name: repository and tag.
        entrypoint: argv; may be empty.
        files: path in the image → a file to take, or the target of a symlink; a path ending in / is a folder.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path.rstrip("/"))
            info.mode = 0o755
            if path.endswith("/"):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                data = content.read_bytes()
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    settings = {
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
        **({"Entrypoint": entrypoint} if entrypoint else {}),
    }
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    image = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": image, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]).encode()
    with tarfile.open(out, "w") as tar:
        parts = {image: config, f"{digest}/layer.tar": layer.getvalue(), "manifest.json": manifest}
        for path, data in parts.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _make_images(out: Path) -> None:
    """Compile the real pause (it dies on SIGTERM, so a stop takes no 10 s) and pack busybox for the pods."""
    pause = out / "pause"
    code = SOURCE.path / "gopath/src/k8s.io/kubernetes/build/pause/linux/pause.c"
    command(["gcc", "-Os", "-static", "-DVERSION=3.2", "-o", pause, code])
    write_image(out / "pause.tar", PAUSE, ["/pause"], {"pause": pause})
    busybox = ROOTFS.path / "usr/bin/busybox"
    applets = command([busybox, "--list"]).split()
    links = {f"bin/{name}": "busybox" for name in applets if name != "busybox"}
    write_image(out / "bb.tar", POD_IMAGE, [], {"bin/": "", "tmp/": "", "bin/busybox": busybox, **links})


IMAGES = Artefact("images", _make_images, made_from=(PAUSE, POD_IMAGE), inputs=(SOURCE, ROOTFS))


# --- a runtime's storage with the images loaded --------------------------------------------------


def storage_folders(flavour: str) -> list[str]:
    """Return the folders that a flavour's runtime keeps its images and containers in."""
    return ["var/lib/containerd", *(["var/lib/docker"] if flavour == "docker" else [])]


def install_files(root: Path, flavour: str, kind: str | None = None) -> None:
    """Put files in place that make a root a node; they are live, no artefact.

    Args:
        root: the node's.
        flavour: `docker` or `containerd`.
        kind: `standalone`, or a folder like it; None for a runtime without a kubelet.
    """
    for part in ("common", flavour, *([kind] if kind else [])):
        shutil.copytree(HERE / "files" / part, root, dirs_exist_ok=True)
    if kind:
        wants = root / "etc/systemd/system/multi-user.target.wants"
        (wants / "kubelet.service").symlink_to("/etc/systemd/system/kubelet.service")
    if flavour == "containerd":
        for path in DOCKER_FILES:  # such a node has no Docker
            (root / path).unlink(missing_ok=True)


def _storage(flavour: str) -> Artefact:
    def make(out: Path) -> None:
        """Boot a node without kubelet, load the images, shut it down and keep the runtime's folders."""
        machine = Machine(f"storage-{flavour}-{os.getpid()}")
        with ExitStack() as stack:
            stack.callback(machine.destroy)
            folders = storage_folders(flavour)
            owner = this_process()
            machine.make([ROOTFS.path], dict.fromkeys(folders), flavour=flavour, owner=owner)
            install_files(machine.root, flavour)
            machine.boot(f"--bind-ro={IMAGES.path}:/mnt")
            for image in ("pause.tar", "bb.tar"):
                if flavour == "docker":
                    machine.run(["docker", "load", "-i", f"/mnt/{image}"])
                else:
                    machine.run(["ctr", "-n", "k8s.io", "images", "import", f"/mnt/{image}"])
            machine.poweroff()
            for folder in folders:
                copy_tree(machine.dir / "data" / Path(folder).name, out / folder)

    return Artefact(f"storage-{flavour}", make, made_from=(flavour,), inputs=(ROOTFS, IMAGES))


STORAGE = {flavour: _storage(flavour) for flavour in FLAVOURS}


def artefacts() -> list[Artefact]:
    """Return everything that nodes of both flavours need."""
    return [KUBELET, ROOTFS, libraries(), *STORAGE.values()]

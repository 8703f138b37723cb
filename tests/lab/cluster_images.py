# SPDX-License-Identifier: Apache-2.0
"""Images of a cluster's own components, packed from compiled commands and Debian's files."""

import re
from pathlib import Path

from .cache import Artefact, command, remove_tree
from .kubernetes import COMMANDS, CONTROL_PLANE, KUBERNETES
from .packages import SUITE, apt_download
from .recipes import ROOTFS, write_image

REPOSITORY = "k8s.gcr.io"
ETCD_IMAGE = f"{REPOSITORY}/etcd:3.4.13-0"  # the tags that kubeadm 1.20.2 asks for
COREDNS_IMAGE = f"{REPOSITORY}/coredns:1.7.0"  # never run: only a tag, or kubeadm would try to pull it
ETCD_PACKAGES = ("etcd-server", "etcd-client")
ETCD_COMMANDS = ("etcd", "etcdctl")
PROXY = "kube-proxy"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "lib64/ld-linux-x86-64.so.2"
XTABLES = ("iptables", "ip6tables")


def _make_etcd(out: Path) -> None:
    """Take etcd from its packages: in a node's root they would bring a service of their own."""
    fetched = out / "fetched"
    apt_download(fetched, binary=ETCD_PACKAGES)
    for package in fetched.glob("*.deb"):
        command(["dpkg-deb", "-x", package, out / "root"])
    for name in ETCD_COMMANDS:
        (out / "root/usr/bin" / name).rename(out / name)
    for path in (fetched, out / "root"):
        remove_tree(path)


ETCD = Artefact("etcd", _make_etcd, made_from=(SUITE, *ETCD_PACKAGES, *ETCD_COMMANDS))


def _libraries(programs: list[str]) -> dict[str, Path]:
    """Return the shared libraries that programs of the root filesystem load, by their path without a slash."""
    listing = command(["chroot", ROOTFS.path, "ldd", *(f"/{program}" for program in programs)])
    return {path: ROOTFS.path / path for path in re.findall(r"/(\S+) \(0x", listing)}


def _make_cluster_images(out: Path) -> None:
    """Pack etcd, the control plane and kube-proxy with the iptables it runs."""
    root, commands = ROOTFS.path, COMMANDS.path / "images"
    libc = {name: root / name for name in (f"{LIBRARIES}/libc.so.6", LOADER)}
    etcd: dict[str, Path | str] = {
        "tmp/": "",
        "lib": "usr/lib",
        "usr/local/bin/etcd": ETCD.path / "etcd",
        **libc,
    }
    write_image(out / "etcd.tar", ETCD_IMAGE, [], etcd)
    for name in CONTROL_PLANE:
        files: dict[str, Path | str] = {"tmp/": "", f"usr/local/bin/{name}": commands / name}
        write_image(out / f"{name}.tar", f"{REPOSITORY}/{name}:v{KUBERNETES}", [], files)
    multi, conntrack = "usr/sbin/xtables-nft-multi", "usr/sbin/conntrack"
    plugins = [str(path.relative_to(root)) for path in sorted((root / LIBRARIES / "xtables").glob("*.so"))]
    verbs = [f"{family}{verb}" for family in XTABLES for verb in ("", "-save", "-restore")]
    proxy: dict[str, Path | str] = {
        "tmp/": "",
        "bin/busybox": root / "usr/bin/busybox",
        "bin/sh": "busybox",
        f"usr/local/bin/{PROXY}": commands / PROXY,
        **{f"usr/bin/{verb}": "xtables-nft-multi" for verb in verbs},
        **{path.replace("sbin", "bin"): root / path for path in (multi, conntrack)},
        **{path: root / path for path in plugins},
        **_libraries([multi, conntrack, *plugins]),
    }
    write_image(out / f"{PROXY}.tar", f"{REPOSITORY}/{PROXY}:v{KUBERNETES}", [], proxy)


CLUSTER_IMAGES = Artefact(
    "cluster-images", _make_cluster_images, made_from=(KUBERNETES,), inputs=(COMMANDS, ETCD, ROOTFS)
)

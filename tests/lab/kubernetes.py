# SPDX-License-Identifier: Apache-2.0
"""Kubernetes, compiled from Debian's source package: kubelet alone, and the rest of a cluster."""

import inspect
import json
from collections.abc import Iterable
from pathlib import Path

from .cache import Artefact, LabError, cache_dir, command, progress, remove_tree
from .packages import SUITE, apt_download

KUBERNETES = "1.20.2"
KUBERNETES_SOURCE = "kubernetes"
REFLECT2 = "golang-github-modern-go-reflect2-dev"
OPENAPI = "pkg/generated/openapi/zz_generated.openapi.go"
TREE = "gopath/src/k8s.io/kubernetes"
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def _make_source(out: Path) -> None:
    """Fetch and unpack the source of Kubernetes and the newer reflect2."""
    progress("source: fetching the source package of Kubernetes")
    fetched = out / "fetched"
    apt_download(fetched, source=[KUBERNETES_SOURCE], binary=[REFLECT2])
    (description,) = fetched.glob("*.dsc")
    if KUBERNETES not in description.name:
        raise LabError(f"{SUITE} has {description.name}; this lab is made for Kubernetes {KUBERNETES}")
    (out / TREE).parent.mkdir(parents=True)
    command(["dpkg-source", "--no-check", "-x", description, out / TREE])
    (package,) = fetched.glob("*.deb")
    command(["dpkg-deb", "-x", package, out / "reflect2"])
    remove_tree(fetched)


SOURCE = Artefact("source", _make_source, made_from=(SUITE, KUBERNETES, KUBERNETES_SOURCE, REFLECT2))


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/lib/go-1.19/bin:/usr/bin:/bin",
        "HOME": "/root",
        "GOPATH": str(SOURCE.path / "gopath"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(cache_dir() / "gocache"),
        "CGO_ENABLED": "0",
    }


def _compile(commands: Iterable[str], out: Path, *, generated: Path | None = None) -> None:
    """Compile commands of the tree into OUT; GENERATED is a file it lacks. The tree itself is not written to."""
    tree = SOURCE.path / TREE
    old = tree / "vendor/github.com/modern-go/reflect2"
    new = SOURCE.path / "reflect2/usr/share/gocode/src/github.com/modern-go/reflect2"
    # The vendored reflect2 1.0.1 crashes with Go >= 1.18 as soon as jsoniter meets a map.
    replace = {str(path): "" for path in old.iterdir() if path.suffix in {".go", ".s"}}
    replace |= {str(old / path.name): str(path) for path in new.iterdir() if path.suffix in {".go", ".s"}}
    if generated is not None:
        replace[str(tree / OPENAPI)] = str(generated)
    major, minor, _ = KUBERNETES.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "archive"}
    packages = ("client-go/pkg/version", "component-base/version")
    stamp = [f"-X k8s.io/kubernetes/vendor/k8s.io/{p}.{k}={v}" for p in packages for k, v in stamps.items()]
    out.mkdir(parents=True)
    overlay = out / "overlay.json"
    overlay.write_text(json.dumps({"Replace": replace}))
    flags = ["-overlay", str(overlay), "-trimpath", "-ldflags", " ".join(("-s", "-w", *stamp))]
    argv = ["go", "build", *flags, "-o", f"{out}/", *(f"./cmd/{name}" for name in commands)]
    command(argv, cwd=tree, env=_environment())
    overlay.unlink()


def _make_kubelet(out: Path) -> None:
    """Compile kubelet; the folder is a layer of the node's root."""
    progress("kubelet: compiling (four to six minutes on two cores when it is the first time)")
    _compile(["kubelet"], out / "usr/bin")


KUBELET = Artefact(
    "kubelet", _make_kubelet, made_from=(KUBERNETES, inspect.getsource(_compile)), inputs=(SOURCE,)
)


def _make_kubernetes(out: Path) -> None:
    """Compile what a cluster has beside kubelet: `node` is a layer of a node's root, `images` goes into images."""
    tree = SOURCE.path / TREE
    command(
        ["go", "build", "-trimpath", "-o", f"{out}/", "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"],
        cwd=tree,
        env=_environment(),
    )
    search = [
        "grep",
        "--dereference-recursive",
        "--files-with-matches",
        "--extended-regexp",
        "--include=*.go",
    ]
    tag = r"^// ?\+k8s:openapi-gen="
    tagged = command([*search, tag, "pkg", "cmd", "plugin", "vendor/k8s.io"], cwd=tree).split()
    others = ("vendor/k8s.io/code-generator/", "vendor/k8s.io/sample-apiserver/")
    packages = sorted({str(Path(path).parent) for path in tagged if not path.startswith(others)})
    command(
        [
            out / "openapi-gen",
            *("--input-dirs", ",".join(f"k8s.io/kubernetes/{package}" for package in packages)),
            *("--output-base", out / "generated"),
            *("--output-package", f"k8s.io/kubernetes/{Path(OPENAPI).parent}"),
            *("--output-file-base", Path(OPENAPI).stem),
            *("--go-header-file", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"),
            *("--report-filename", out / "violations"),
        ],
        cwd=tree,
        env=_environment(),
    )
    progress("kubernetes: compiling six more commands (two minutes on two cores the first time)")
    _compile(
        ["kubeadm", "kubectl", "kube-proxy", *CONTROL_PLANE],
        out / "images",
        generated=out / "generated/k8s.io/kubernetes" / OPENAPI,
    )
    (out / "node/usr/bin").mkdir(parents=True)
    for name in ("kubeadm", "kubectl"):
        (out / "images" / name).rename(out / "node/usr/bin" / name)
    for name in ("generated", "openapi-gen", "violations"):
        remove_tree(out / name)


# Not at the same time as kubelet: the two share most packages, and the second finds them compiled.
COMMANDS = Artefact(
    "kubernetes",
    _make_kubernetes,
    made_from=(KUBERNETES, *CONTROL_PLANE, inspect.getsource(_compile)),
    inputs=(SOURCE, KUBELET),
)

# SPDX-License-Identifier: Apache-2.0
"""The door to the API server, run against programs that answer as kubectl did; the real one is in tests/lab."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.drain import DrainEvent, DrainOptions
from migrator.errors import InterruptedRunError, StepError
from migrator.host import Host, Reader
from migrator.kube import Kube, KubeControl, KubeError, Right, check_kubeconfig, find_kubectl
from migrator.kubectl import kind_of
from tests.unit.recorded import KUBECONFIG, Answer, kubectl, recorded, script

BUDGET = "Cannot evict pod as it would violate the pod's disruption budget."
FROM = "Error from server"

KINDS = [
    (
        "unreachable",
        "The connection to the server 10.99.0.2:1 was refused - did you specify the right host or port?",
    ),
    ("unreachable", "Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout"),
    ("unreachable", "Unable to connect to the server: dial tcp: lookup no.such.invalid: no such host"),
    ("unreachable", "Unable to connect to the server: net/http: TLS handshake timeout"),
    ("unreachable", "Unable to connect to the server: EOF"),
    (
        "unreachable",
        'error: Get "https://10.99.0.2:6443/api": dial tcp 10.99.0.2:6443: connect: no route to host',
    ),
    (
        "unreachable",
        (
            "Unable to connect to the server: net/http: request canceled while waiting for connection (Client.Timeout "
            "exceeded while awaiting headers)"
        ),
    ),
    ("unreachable", f"{FROM} (ServiceUnavailable): the server is currently unable to handle the request"),
    ("unreachable", f"{FROM} (Timeout): the server was unable to return a response in the time allotted"),
    ("unreachable", f"{FROM}: etcdserver: request timed out"),
    ("unauthorized", "error: You must be logged in to the server (Unauthorized)"),
    (
        "unauthorized",
        "error: You must be logged in to the server (the server has asked for the client to provide credentials)",
    ),
    (
        "unauthorized",
        "Unable to connect to the server: getting credentials: exec: executable aws not found",
    ),
    ("unauthorized", 'error: no Auth Provider found for name "gcp"'),
    (
        "forbidden",
        f'{FROM} (Forbidden): daemonsets.apps is forbidden: User "x" cannot list resource "daemonsets"',
    ),
    (
        "forbidden",
        'error: unable to cordon node "cp1": nodes "cp1" is forbidden: node "w1" is not allowed to modify it',
    ),
    ("not-found", f'{FROM} (NotFound): nodes "nosuch" not found'),
    ("not-found", f"{FROM} (NotFound): the server could not find the requested resource"),
    (
        "conflict",
        (
            f'{FROM} (Conflict): error when replacing "STDIN": Operation cannot be fulfilled on configmaps "x": the object '
            "has been modified; please apply your changes to the latest version and try again"
        ),
    ),
    ("kubeconfig", "error: current-context must exist in order to minify"),
    ("kubeconfig", "error: cannot locate context nosuch"),
    ("kubeconfig", "Error in configuration: context was not found for specified context: nosuch"),
    (
        "kubeconfig",
        "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
    ),
    ("kubeconfig", "Unable to connect to the server: x509: certificate signed by unknown authority"),
    (
        "kubeconfig",
        (
            "error: unable to read certificate-authority /nosuch.crt for kubernetes due to open /nosuch.crt: no such file "
            "or directory"
        ),
    ),
    ("kubeconfig", 'error: error loading config file "/x": yaml: line 3: mapping values are not allowed'),
    ("other", f"{FROM} (BadRequest): the server rejected our request for an unknown reason"),
    ("other", 'error: the server doesn\'t have a resource type "poddisruptionbudgets"'),
    (
        "other",
        f'{FROM} (InternalError): an error on the server ("internal server error: etcd failed") has prevented it',
    ),
]


@pytest.mark.parametrize(("kind", "said"), KINDS)
def test_the_kind_of_an_error_is_told_by_kubectls_words(kind: str, said: str) -> None:
    assert kind == kind_of(said)


def failing(said: str, code: int = 1) -> Answer:
    return code, "", said + "\n"


def error_of(call: Callable[[], object]) -> KubeError:
    with pytest.raises(KubeError) as caught:
        call()
    return caught.value


# the kubeconfig


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clusters: [\n", "{path}:2: not YAML: "),
        ("a: 1\na: 2\n", '{path}:2: the key "a" stands twice'),
        ("kind: Config\n", "{path}:1: a kubeconfig with no `clusters`"),
        ("kind: Config\nclusters: []\n", "{path}:2: a kubeconfig with no `clusters`"),
        ("kind: Config\n\nclusters: x\n", "{path}:3: a kubeconfig with no `clusters`"),
        ("", "{path}:1: a kubeconfig with no `clusters`"),
    ],
)
def test_what_is_no_kubeconfig_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.conf"
    path.write_text(text)
    error = error_of(lambda: check_kubeconfig(Reader(), str(path)))
    assert (error.kind, error.message.startswith(message.format(path=path))) == ("kubeconfig", True), (
        error.message
    )


def test_a_kubeconfig_in_json_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text('{"clusters": [{"name": "dev", "cluster": {"server": "https://x"}}]}')
    path.chmod(0o600)
    check_kubeconfig(Reader(), str(path))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("kube.conf", "kube.conf: not an absolute path"),
        ("{}/absent", "{}/absent: there is no such file"),
        ("{}/directory", "{}/directory: not a regular file"),
        ("{}/loop", "{}/loop: there is no such file"),
    ],
)
def test_what_is_no_file_is_no_kubeconfig(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("absent")
    error = error_of(lambda: check_kubeconfig(Reader(), path.format(tmp_path)))
    assert (error.kind, error.message) == ("kubeconfig", message.format(tmp_path))


@pytest.mark.parametrize(
    ("mode", "directory", "why"),
    [
        (0o600, 0o700, ""),
        (0o644, 0o755, ""),
        (0o602, 0o700, "can be written by others (mode 0602)"),
        (0o666, 0o700, "can be written by others (mode 0666)"),
        (0o600, 0o777, "can be replaced by others (its directory has mode 0777)"),
        (0o600, 0o1777, ""),
    ],
)
def test_a_kubeconfig_that_others_could_change_is_refused(
    tmp_path: Path, mode: int, directory: int, why: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path = place / "kube.conf"
    path.write_text(KUBECONFIG)
    path.chmod(mode)
    place.chmod(directory)
    link = tmp_path / "link.conf"
    link.symlink_to(path)
    for each in (path, link):
        if why:
            error = error_of(lambda each=each: check_kubeconfig(Reader(), str(each)))  # type: ignore[misc]
            assert (error.kind, why in error.message) == ("kubeconfig", True), error.message
        else:
            check_kubeconfig(Reader(), str(each))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "sudo", "why"),
    [
        (0, 0, 0o660, "", ""),
        (0, 4321, 0o640, "", ""),
        (0, 4321, 0o660, "", "can be written by others (mode 0660)"),
        (4321, 0, 0o600, "", "belongs to uid 4321"),
        (4321, 0, 0o600, "1", "belongs to uid 4321"),
        (4321, 0, 0o600, "x4321", "belongs to uid 4321"),
        (4321, 4321, 0o600, "4321", ""),
        (4321, 4321, 0o660, "4321", ""),
    ],
)
def test_a_kubeconfig_is_roots_or_of_who_called_sudo(  # noqa: PLR0917 (columns of the table)
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, gid: int, mode: int, sudo: str, why: str
) -> None:
    monkeypatch.setenv("SUDO_UID", sudo)
    monkeypatch.setenv("SUDO_GID", sudo)
    path = tmp_path / "kube.conf"
    path.write_text(KUBECONFIG)
    path.chmod(mode)
    os.chown(path, uid, gid)
    if why:
        assert why in error_of(lambda: check_kubeconfig(Reader(), str(path))).message
    else:
        check_kubeconfig(Reader(), str(path))


def test_kubectl_is_found_where_it_can_be_run(tmp_path: Path) -> None:
    for directory, mode in (("usr/local/bin", 0o644), ("usr/bin", 0o755), ("opt/bin", 0o755)):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "kubectl").write_text("")
        (tmp_path / directory / "kubectl").chmod(mode)
    assert find_kubectl(Reader(tmp_path)) == "/usr/bin/kubectl"


def test_a_node_without_kubectl_says_so(tmp_path: Path) -> None:
    error = error_of(lambda: find_kubectl(Reader(tmp_path)))
    assert (error.kind, "--already-drained" in error.hint) == ("kubectl", True)


def test_an_image_has_no_api_server_to_ask(tmp_path: Path) -> None:
    error = error_of(lambda: Kube(Reader(tmp_path), "/etc/kubernetes/admin.conf").get("nodes"))
    assert "is an image, not a running node" in error.message


def test_a_kubeconfig_is_checked_before_kubectl_sees_it(tmp_path: Path) -> None:
    program = kubectl(tmp_path, recorded("w1-admin"))
    Path(program.kubeconfig).chmod(0o666)
    assert error_of(lambda: program.kube().get("nodes")).kind == "kubeconfig"
    assert not (program.answers / "asked").exists()


# looking


def test_every_call_names_the_kubeconfig_and_the_timeout(tmp_path: Path) -> None:
    program = kubectl(tmp_path, {"get node w1 --output=json": (0, {"kind": "Node"}, "")})
    assert program.kube(2.5).get("node", "w1") == {"kind": "Node"}
    assert (program.answers / "asked").read_text() == (
        f"--kubeconfig={program.kubeconfig} --request-timeout=2.5s get node w1 --output=json\n"
    )


def test_a_refusal_is_told_in_kubectls_words_with_the_kubeconfig_and_what_to_do(tmp_path: Path) -> None:
    said = f'{FROM} (Forbidden): nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope'
    program = kubectl(tmp_path, {"get nodes --output=json": failing(said)})
    error = error_of(lambda: program.kube().get("nodes"))
    assert (error.kind, error.message, error.hint) == (
        "forbidden",
        f"`kubectl get nodes` with {program.kubeconfig}: {said}",
        "give the kubeconfig of somebody who may: --kubeconfig FILE",
    )


def test_debugging_and_advice_are_left_out_and_secrets_are_masked(tmp_path: Path) -> None:
    said = (
        "E1122 18:00:00.000000    1 memcache.go:265] couldn't get current server API group list\n"
        "Unable to connect to the server: getting credentials: token: abcdef.0123456789abcdef\n\n"
        "It looks like you are trying to use a plugin that is not installed.\n\nTo learn more, read on"
    )
    program = kubectl(tmp_path, {"get nodes --output=json": failing(said)})
    error = error_of(lambda: program.kube().get("nodes"))
    assert (error.kind, "getting credentials" in error.message) == ("unauthorized", True)
    assert [word for word in ("memcache", "read on", "0123456789abcdef") if word in error.message] == []


@pytest.mark.parametrize("out", ["", "<html>", "[]", "[" * 100_000])
def test_an_answer_that_is_no_object_is_an_error(tmp_path: Path, out: str) -> None:
    program = kubectl(tmp_path, {"get nodes --output=json": (0, out, "")})
    error = error_of(lambda: program.kube().get("nodes"))
    assert (error.kind, error.message) == ("other", "`kubectl get nodes` gave an answer of unknown form")


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        ("https://10.99.0.2:6443", "https://10.99.0.2:6443"),
        ("https://me:secret@api.example:6443/k8s/c-1?token=x", "https://api.example:6443/k8s/c-1"),
        ("https://[fd00::2]:6443", "https://[fd00::2]:6443"),
    ],
)
def test_the_server_is_named_without_credentials(tmp_path: Path, server: str, shown: str) -> None:
    view = {"clusters": [{"cluster": {"server": server}}]}
    program = kubectl(tmp_path, {"config view --minify --output=json": (0, view, "")})
    assert shown == program.kube().server()


@pytest.mark.parametrize("clusters", [None, [], [{}], [{"cluster": {}}]])
def test_a_kubeconfig_whose_context_names_no_server_is_an_error(tmp_path: Path, clusters: object) -> None:
    program = kubectl(tmp_path, {"config view --minify --output=json": (0, {"clusters": clusters}, "")})
    assert error_of(program.kube().server).kind == "kubeconfig"


REFUSED = failing(
    "The connection to the server 10.99.0.2:6443 was refused - did you specify the right host or port?"
)


@pytest.mark.parametrize(
    ("answer", "server"),
    [((0, {"gitVersion": "v1.28.3+k3s1"}, ""), "1.28.3+k3s1"), (REFUSED, ""), ((0, "<html>", ""), "")],
)
def test_the_versions_of_both_sides(tmp_path: Path, answer: Answer, server: str) -> None:
    client = (0, {"clientVersion": {"gitVersion": "v1.20.2"}}, "")
    program = kubectl(tmp_path, {"version --client --output=json": client, "get --raw /version": answer})
    kube = program.kube()
    assert "1.20.2" == kube.client_version
    if server:
        assert server == kube.server_version()
    elif answer is REFUSED:
        assert error_of(kube.server_version).kind == "unreachable"
    else:
        assert "" == kube.server_version()


RIGHTS: list[Right] = [
    ("patch", "", "nodes", "", "w1"),
    ("create", "", "pods/eviction", ""),
    ("get", "apps", "daemonsets", ""),
    ("update", "", "configmaps", "kube-system", "kubelet-config"),
]
CREATE = "create --filename=- --validate=false --output=json"


@pytest.mark.parametrize("listed", [False, True])
def test_the_rights_that_are_missing_are_named(tmp_path: Path, listed: bool) -> None:
    statuses: list[object] = [{"allowed": True}, {"allowed": False}, {}, None]
    answers = [{"kind": "SelfSubjectAccessReview", "status": each} for each in statuses]
    out: object = {"kind": "List", "items": answers} if listed else answers
    program = kubectl(tmp_path, {CREATE: (0, out, "")})
    assert program.kube().missing(RIGHTS) == (
        "create pods/eviction",
        "get daemonsets.apps",
        "update configmaps in kube-system",
    )
    first, second, *_ = program.sent(CREATE)["items"]
    assert first["spec"] == {"resourceAttributes": {"verb": "patch", "resource": "nodes", "name": "w1"}}
    assert second["spec"] == {
        "resourceAttributes": {"verb": "create", "resource": "pods", "subresource": "eviction"}
    }


def test_no_rights_are_no_question(tmp_path: Path) -> None:
    assert kubectl(tmp_path, {}).kube().missing([]) == ()


@pytest.mark.parametrize("out", ["", '{"status": {"allowed": true}}\n{"sta'])
def test_rights_of_which_too_few_are_told_are_an_error(tmp_path: Path, out: str) -> None:
    program = kubectl(tmp_path, {CREATE: (0, out, "")})
    assert error_of(lambda: program.kube().missing(RIGHTS)).kind == "other"


def running(folder: Path, *lines: str, timeout: float = 0.1) -> KubeControl:
    """The door with a shell script in the place of kubectl."""
    config = folder / "kube.conf"
    config.write_text(KUBECONFIG)
    config.chmod(0o600)
    return KubeControl(Host(), str(config), timeout, script(folder, *lines))


def is_gone(pid_file: Path) -> bool:
    """Tell whether a process has ended, waiting for it a little."""
    pid = int(pid_file.read_text())
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_kubectl_that_hangs_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    kube = running(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    began = time.monotonic()
    error = error_of(lambda: kube.get("nodes"))
    assert (error.kind, "gave no answer within 0.3 s" in error.message) == ("unreachable", True), (
        error.message
    )
    assert time.monotonic() - began < 10
    assert is_gone(tmp_path / "pid")


def test_a_kubectl_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    kube = running(tmp_path)
    (tmp_path / "program").chmod(0o644)
    assert error_of(lambda: kube.get("nodes")).kind == "kubectl"


def test_kubectl_is_given_no_environment_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere")
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    kube = running(tmp_path, f"env > {tmp_path}/env; echo {{}}", timeout=10)
    kube.get("nodes")
    found = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert found - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LC_ALL", "HOME", "KUBERC", "KUBECTL_KUBERC"}


# changing


@pytest.mark.parametrize("verb", ["cordon", "uncordon"])
def test_a_node_is_cordoned_and_uncordoned(tmp_path: Path, verb: str) -> None:
    program = kubectl(tmp_path, {f"{verb} w1": (0, f"node/w1 {verb}ed\n", "")})
    getattr(program.kube(), verb)("w1")
    assert program.asked() == [f"{verb} w1"]


def test_a_cordon_that_was_refused_is_an_error_although_kubectl_ends_well(tmp_path: Path) -> None:
    said = 'error: unable to cordon node "cp1": nodes "cp1" is forbidden: node "w1" is not allowed to modify node "cp1"'
    program = kubectl(tmp_path, {"cordon cp1": failing(said, code=0)})
    error = error_of(lambda: program.kube().cordon("cp1"))
    assert (error.kind, said in error.message) == ("forbidden", True)


def test_a_warning_at_a_cordon_is_no_error(tmp_path: Path) -> None:
    program = kubectl(tmp_path, {"cordon w1": failing("Warning: this version is old", code=0)})
    program.kube().cordon("w1")
    assert program.asked() == ["cordon w1"]


def test_a_node_is_marked_and_the_mark_taken_away(tmp_path: Path) -> None:
    mark = "annotate node w1 cgmigrate/run=r1:ours --overwrite --output=name"
    unmark = "annotate node w1 cgmigrate/run- --output=name"
    program = kubectl(tmp_path, {mark: (0, "node/w1\n", ""), unmark: (0, "node/w1\n", "")})
    program.kube().mark("w1", "r1:ours")
    program.kube().unmark("w1")
    assert program.asked() == [mark, unmark]


REPLACE = "replace --filename=- --validate=false --output=name"


def test_an_object_is_replaced_as_it_was_given(tmp_path: Path) -> None:
    program = kubectl(tmp_path, {REPLACE: (0, "configmap/x\n", "")})
    document = {
        "kind": "ConfigMap",
        "metadata": {"name": "x", "resourceVersion": "7"},
        "data": {"kubelet": "é: 1\n"},
    }
    program.kube().replace(document)
    assert program.sent(REPLACE) == document


def test_an_object_that_somebody_else_changed_is_a_conflict(tmp_path: Path) -> None:
    said = f'{FROM} (Conflict): error when replacing "STDIN": Operation cannot be fulfilled on configmaps "x"'
    program = kubectl(tmp_path, {REPLACE: failing(said)})
    assert error_of(lambda: program.kube().replace({"metadata": {"resourceVersion": "7"}})).kind == "conflict"


def test_an_object_without_its_version_is_not_sent(tmp_path: Path) -> None:
    program = kubectl(tmp_path, {REPLACE: (0, "", "")})
    assert "resourceVersion" in error_of(lambda: program.kube().replace({"metadata": {"name": "x"}})).message
    assert not (program.answers / "asked").exists()


# draining


class Told:
    """What a drain told, and what it is answered."""

    def __init__(self, answer: str = "wait") -> None:
        self.events: list[DrainEvent] = []
        self.asked: list[tuple[str, str]] = []
        self.checks = 0
        self._answer = answer

    def tell(self, event: DrainEvent) -> None:
        self.events.append(event)

    def check(self) -> None:
        self.checks += 1

    def decide(self, event: DrainEvent) -> str:
        self.asked.append((event.namespace, event.name))
        return self._answer


HELD = ("default", "strict-76c86ddb9c-8tw9k")


def drain(kube: KubeControl, told: Told, options: DrainOptions | None = None) -> None:
    options = options or DrainOptions()
    kube.drain("w1", options, tell=told.tell, check=told.check, decide=told.decide, held=[HELD])


def test_every_line_is_told_with_the_namespace_of_its_pod(tmp_path: Path) -> None:
    lines = (
        "node/w1 cordoned",
        "evicting pod shop/web-1",
        "evicting pod a/b",
        "pod/web-1 evicted",
        "pod/b evicted",
    )
    told = Told()
    drain(running(tmp_path, *(f"echo {each}" for each in lines), "printf 'node/w1 drained'"), told)
    assert [(each.kind, each.namespace, each.name) for each in told.events] == [
        ("other", "", ""),
        ("evicting", "shop", "web-1"),
        ("evicting", "a", "b"),
        ("evicted", "shop", "web-1"),
        ("evicted", "a", "b"),
        ("other", "", ""),
    ]
    assert told.events[-1].text == "node/w1 drained"


def test_a_namespace_that_could_be_either_is_left_open(tmp_path: Path) -> None:
    told = Told()
    drain(
        running(tmp_path, "echo evicting pod a/db-0", "echo evicting pod b/db-0", "echo pod/db-0 evicted"),
        told,
    )
    assert told.events[-1].namespace == ""


@pytest.mark.parametrize(
    ("options", "version", "expected"),
    [
        (DrainOptions(), "v1.20.2", "drain w1 --ignore-daemonsets --timeout=300s"),
        (
            DrainOptions(force=True, timeout_seconds=7),
            "v1.20.2",
            "drain w1 --ignore-daemonsets --timeout=7s --force",
        ),
        *(
            (
                DrainOptions(delete_emptydir_data=True),
                version,
                f"drain w1 --ignore-daemonsets --timeout=300s {option}",
            )
            for version, option in (
                ("v1.20.2", "--delete-emptydir-data"),
                ("v1.34.1", "--delete-emptydir-data"),
                ("v1.19.16", "--delete-local-data"),
                ("", "--delete-emptydir-data"),
            )
        ),
    ],
)
def test_kubectl_is_told_the_options_in_its_own_versions_words(
    tmp_path: Path, options: DrainOptions, version: str, expected: str
) -> None:
    client = (0, {"clientVersion": {"gitVersion": version}}, "")
    program = kubectl(
        tmp_path, {"version --client --output=json": client, expected: (0, "node/w1 drained\n", "")}
    )
    drain(program.kube(), Told(), options)
    assert program.asked()[-1] == expected


BLOCKED = f'error when evicting pods/"strict-76c86ddb9c-8tw9k" -n "default" (will retry after 5s): {BUDGET}'
STRICT = "default/strict-76c86ddb9c-8tw9k is kept by the budget default/strict (0 allowed, 1 of 1 healthy, 1 desired)"
DRAIN = "drain w1 --ignore-daemonsets --timeout=300s"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ("skip", StepError, f"w1 is not drained, as was decided: {STRICT}"),
        ("abort", InterruptedRunError, f"stopped while w1 is being drained: {STRICT}"),
    ],
)
def test_a_pod_that_a_budget_keeps_can_end_the_drain(
    tmp_path: Path, answer: str, error: type[StepError | InterruptedRunError], message: str
) -> None:
    program = kubectl(
        tmp_path, recorded("w1-admin") | {DRAIN: (0, f"evicting pod default/x\n{BLOCKED}\n", "")}
    )
    with pytest.raises(error) as caught:
        drain(program.kube(), Told(answer))
    assert (caught.value.message, caught.value.hint) == (message, "kubectl get pdb -n default")


def test_the_end_of_a_drain_that_is_skipped_ends_kubectl(tmp_path: Path) -> None:
    kube = running(
        tmp_path, f"echo $$ > {tmp_path}/pid", f"echo '{BLOCKED.replace(chr(39), '')}'", "exec sleep 60"
    )
    with pytest.raises(
        StepError, match="as was decided: default/strict-76c86ddb9c-8tw9k: error when evicting"
    ):
        drain(kube, Told("skip"))
    assert is_gone(tmp_path / "pid")


def test_a_pod_whose_budget_was_used_up_before_is_asked_about_at_once_and_once_in_a_while(
    tmp_path: Path,
) -> None:
    program = kubectl(tmp_path, {DRAIN: (0, f"{BLOCKED}\n{BLOCKED}\n{BLOCKED}\n", "")})
    told = Told()
    drain(program.kube(), told)
    assert told.asked == [HELD]
    assert len(told.events) == 3


@pytest.mark.parametrize(
    ("later", "asked"), [(0, []), (29, []), (31, [("default", "web-1")])], ids=["again", "29 s", "31 s"]
)
def test_a_pod_that_waits_for_another_to_come_up_elsewhere_is_asked_about_when_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int, asked: list[tuple[str, str]]
) -> None:
    blocked = BLOCKED.replace("strict-76c86ddb9c-8tw9k", "web-1")
    kube = running(
        tmp_path,
        f"echo '{blocked.replace(chr(39), '')}'",
        "sleep 0.5",
        f"echo '{blocked.replace(chr(39), '')}'",
    )
    told, passed = Told(), [0.0]
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed[0])
    tell = told.tell

    def heard(event: DrainEvent) -> None:
        tell(event)
        if len(told.events) == 1:
            assert told.asked == []

    def check() -> None:
        if told.events:
            passed[0] = later

    kube.drain("w1", DrainOptions(), tell=heard, check=check, decide=told.decide, held=[HELD])
    assert len(told.events) == 2
    assert told.asked == asked


def test_a_signal_ends_kubectl_at_once(tmp_path: Path) -> None:
    kube = running(tmp_path, f"echo $$ > {tmp_path}/pid", "exec sleep 60")

    def check() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise InterruptedRunError("TERM")

    began = time.monotonic()
    with pytest.raises(InterruptedRunError, match="TERM"):
        kube.drain("w1", DrainOptions(), tell=lambda _: None, check=check, decide=lambda _: "wait")
    assert time.monotonic() - began < 5
    assert is_gone(tmp_path / "pid")


def test_whether_to_stop_is_looked_at_five_times_a_second(tmp_path: Path) -> None:
    told = Told()
    drain(running(tmp_path, "sleep 1"), told)
    assert told.checks >= 5


AT_ONCE = DrainOptions(timeout_seconds=-9)  # so that the deadline, 10 s after kubectl's own, is in one second


def test_a_kubectl_that_does_not_end_is_ended_at_the_deadline_even_when_it_will_not(tmp_path: Path) -> None:
    kube = running(
        tmp_path,
        "trap '' TERM",
        f"echo $$ > {tmp_path}/pid",
        "echo evicting pod shop/web-1",
        "while :; do sleep 1; done",
    )
    with pytest.raises(StepError) as caught:
        drain(kube, Told(), AT_ONCE)
    assert caught.value.message == (
        "w1 is not drained after -9 s: shop/web-1 was not gone by then (the API server does not tell why)"
    )
    assert is_gone(tmp_path / "pid")


def test_a_program_that_outlives_kubectl_and_holds_its_output_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    drain(running(tmp_path, "setsid sleep 20 &", "echo node/w1 drained"), Told())
    assert time.monotonic() - began < 5


def test_after_kubectls_own_timeout_every_pod_that_is_left_is_named_with_what_keeps_it(
    tmp_path: Path,
) -> None:
    late = 'error: error when evicting pods/"strict-76c86ddb9c-8tw9k" -n "default": global timeout reached: 300s\n'
    program = kubectl(tmp_path, recorded("w1-admin") | {DRAIN: (1, "", late)})
    with pytest.raises(StepError) as caught:
        drain(program.kube(), Told())
    assert (
        caught.value.message == f"w1 is not drained after 300 s: default/job-hbxrg is still there; {STRICT}"
    )
    assert caught.value.hint.endswith("kubectl get pdb -n default")


UNABLE = (
    'error: unable to drain node "w1", aborting command...\n\nThere are pending nodes to be drained:\n w1\n'
)
LOCAL = "cannot delete Pods with local storage (use --delete-emptydir-data to override): default/scratch"
FORBIDDEN = 'cannot delete daemonsets.apps "agent" is forbidden: User "system:node:w1" cannot get resource'


@pytest.mark.parametrize(
    ("err", "told"),
    [
        (f"{UNABLE}{LOCAL}\n{FORBIDDEN}\n", f"{LOCAL} {FORBIDDEN}"),
        (f"{UNABLE}error: {LOCAL}\n", f"error: {LOCAL}"),
        (
            'Error from server (NotFound): nodes "w1" not found\n',
            'Error from server (NotFound): nodes "w1" not found',
        ),
        ("killed\n", "killed"),
        ("", "nothing"),
    ],
)
def test_any_other_end_is_told_in_kubectls_words(tmp_path: Path, err: str, told: str) -> None:
    program = kubectl(tmp_path, {DRAIN: (1, "", err)})
    with pytest.raises(StepError) as caught:
        drain(program.kube(), Told())
    assert caught.value.message == f"`kubectl drain w1` with {program.kubeconfig} failed: {told}"


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    told = Told()
    drain(running(tmp_path, "head -c 300000 /dev/zero | tr '\\0' x"), told)
    assert sum(len(each.text) for each in told.events) == 300_000
    assert max(len(each.text) for each in told.events) < 200_000

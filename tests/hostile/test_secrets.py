# SPDX-License-Identifier: Apache-2.0
"""A secret planted wherever a node keeps one is in no plan, output, log, fact or argument list; only in the saved originals."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.configs.secrets import MASK, mask_shapes, mask_words
from migrator.doors import doors_of
from migrator.errors import ConflictError, StepError
from migrator.facts.look import Look
from migrator.host import Host, Reader
from migrator.interrupt import Interrupt
from migrator.kube import KubeError
from migrator.outcome import exit_code
from migrator.session import begin, engine_of
from migrator.show import voice
from tests.hostile.base import CONTAINERD, DOCKER, STATE, Done, cgmigrate, copy, planned, spawn
from tests.unit.recorded import KUBECONFIG, kubectl
from tests.unit.test_containerd_dump import CGROUPFS, judged, node

SECRET = "pl4ntedS3cretQx7"  # noqa: S105 - what is planted
PAIR = base64.b64encode(f"robot:{SECRET}".encode()).decode()
ALONE = base64.b64encode(SECRET.encode()).decode()
URL = f"http://robot:{SECRET}@proxy.example:3128"
JWT = f"eyJhbGciOiJSUzI1NiJ9.{ALONE.rstrip('=')}.c2ln"
FORMS = (SECRET, PAIR, ALONE.rstrip("="))

CRI = 'plugins."io.containerd.grpc.v1.cri"'
CONTAINERD_2 = f'''version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[{CRI}.registry.mirrors."docker.io"]
  endpoint = ["https://robot:{SECRET}@mirror.example", "https://robot:it's-{SECRET}@mirror.example"]
[{CRI}.registry.headers]
  Authorization = ["Basic {PAIR}"]
  X-Meta-Token = ["{SECRET}"]
[{CRI}.registry.configs."registry.example".auth]
  username = "robot"
  password = "{SECRET}"
  auth = "{PAIR}"
  identitytoken = "{JWT}"
[{CRI}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  # password of the mirror: {SECRET}
  [{CRI}.containerd.runtimes.runc.options]
    SystemdCgroup = false # token={SECRET}
[{CRI}.registry.configs."other.example".auth] # {PAIR}
  password = """
{SECRET}
"""
'''
CONTAINERD_1 = f"""
[plugins.cri.registry.mirrors."docker.io"]
  endpoint = ["https://robot:{SECRET}@mirror.example"]
[plugins.cri.registry.auths."https://registry.example"]
  password = '{SECRET}'
  auth = '{PAIR}'
[plugins.cri.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v1"
[plugins.cri.containerd.runtimes.runc.options]
  SystemdCgroup = false # {PAIR}
[plugins.cri.registry.configs."other.example".auth]
  identitytoken = "{JWT}"
"""
CONTAINERD_3 = (
    CONTAINERD_2.replace("version = 2", "version = 3")
    .replace("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
    .replace('cri.v1.runtime".registry', 'cri.v1.images".registry')
)
DAEMON = f"""{{
    "bridge": "none",
    "auths": {{"registry.example": {{"auth": "{PAIR}"}}}},
    "registry-mirrors": ["https://robot:{SECRET}@mirror.example"],
    "log-opts": {{"splunk-token": "{SECRET}", "splunk-url": "https://robot:{SECRET}@splunk.example"}},
    "proxies": {{"http-proxy": "{URL}", "https-proxy": "{URL}"}},
    "exec-opts": ["native.cgroupdriver=cgroupfs"], "http-proxy": "{URL}",
    "default": {{"password": "{SECRET}"}}
}}
"""
ENVIRONMENT = (
    f"KUBELET_TOKEN={SECRET}\n"
    f'KUBELET_EXTRA_ARGS="--token={SECRET} --cgroup-driver=cgroupfs --bootstrap-token {SECRET}"\n'
    f"HTTPS_PROXY={URL}\nREGISTRY_AUTH={PAIR}\n"
    f"https_proxy=http://robot:o'{SECRET}@proxy.example:3128\nno_proxy=robot:{SECRET}@proxy.example\n"
)
UNIT = (
    f'[Service]\nEnvironment="HTTP_PROXY={URL}" "AWS_SECRET_ACCESS_KEY={SECRET}"\n'
    f"Environment=DB_PASSWORD={SECRET}\n# login robot, password {SECRET}: ask ops; url {URL}\n"
    f"ExecStartPre=-/usr/bin/docker login -u robot -p {SECRET} r.example\n"
    f"ExecStartPre=-/usr/bin/docker login -u robot -p'it is {SECRET}' r.example\n"
)
ACCESS = f"""{KUBECONFIG}users:
- name: robot
  user: {{token: {SECRET}, password: {SECRET}, client-key-data: {ALONE}}}
"""


def plant(image: Path, sample: str, containerd: str = CONTAINERD_2) -> Path:
    """Put the secret wherever a node keeps one, beside what will be changed where that is possible."""
    texts = {
        "etc/systemd/system/kubelet.service.d/20-proxy.conf": UNIT,
        "etc/systemd/system/docker.service.d/20-proxy.conf": UNIT,
        "etc/systemd/system/containerd.service.d/20-proxy.conf": UNIT,
        "etc/default/kubelet": ENVIRONMENT,
        "etc/kubernetes/kubelet.conf": ACCESS,
        "etc/kubernetes/admin.conf": ACCESS,
        "etc/containerd/certs.d/registry.example/hosts.toml": f'[host."https://r".header]\nAuthorization = "Basic {PAIR}"\n',
        "root/.docker/config.json": json.dumps({"auths": {"r": {"auth": PAIR}}}),
        "proc/4242/cmdline": f"kubelet\0--token={SECRET}\0",
    }
    if sample == DOCKER:
        texts["etc/docker/daemon.json"] = DAEMON
    else:
        texts["etc/containerd/config.toml"] = containerd
    for name, text in texts.items():
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text(text)
    settings = image / "var/lib/kubelet/config.yaml"
    text = re.sub(r"^cgroupDriver:.*\n", "", settings.read_text(), flags=re.MULTILINE)
    header = f'staticPodURLHeader:\n  Authorization: ["Bearer {SECRET}"]\n'
    settings.write_text(
        f"{text}{header}cgroupDriver: cgroupfs # password: {SECRET}\n# token: {SECRET}, {URL}\n"
    )
    return image


def holding(text: str) -> list[str]:
    """Return the forms of the secret in a text, unfolded from JSON's escapes too."""
    both = text + text.encode("latin-1", "replace").decode("unicode_escape", "replace")
    return [form for form in FORMS if form in both]


def kept(state: Path) -> Iterator[tuple[str, str]]:
    """Yield all that is kept of runs but the saved originals."""
    for path in sorted(state.rglob("*")):
        if path.is_file() and path.parent.name != "blobs":
            yield path.name, path.read_text()


IMAGES = {
    "docker": (DOCKER, ""),
    "containerd 1": (CONTAINERD, CONTAINERD_1),
    "containerd 2": (CONTAINERD, CONTAINERD_2),
    "containerd 3": (CONTAINERD, CONTAINERD_3),
}


@pytest.mark.parametrize(("sample", "containerd"), IMAGES.values(), ids=IMAGES)
def test_a_whole_migration_and_the_way_back_say_no_secret(
    tmp_path: Path, sample: str, containerd: str
) -> None:
    image = plant(copy(sample, tmp_path / "image"), sample, containerd)
    plan = tmp_path / "plan.json"
    outputs: list[Done] = []

    def say(*arguments: str | Path, code: int = 0) -> None:
        outputs.append(cgmigrate("--verbose", "--root", image, *arguments))
        assert code == outputs[-1].returncode, outputs[-1]

    for command in ("audit", "plan"):
        say(command)
        say(command, "--format", "json")
    say("plan", "-o", plan)
    edited = (image / "var/lib/kubelet/config.yaml").read_text()
    (image / "var/lib/kubelet/config.yaml").write_text(f"# {SECRET} is the password\n{edited}")
    say("apply", plan, "--yes", code=4)  # shows how the plan differs
    (image / "var/lib/kubelet/config.yaml").write_text(edited)
    say("apply", plan, "--yes")
    say("status")
    say("status", "--format", "json")
    for form in ("text", "json", "html"):
        say("report", "--format", form)
    say("verify", code=2)
    say("audit", "--format", "json")
    (image / "var/lib/kubelet/config.yaml").write_text(f"{edited}# edited\n")
    say("rollback", "--yes")
    say("status")
    for form in ("text", "json", "html"):
        say("report", "--format", form)

    assert [] == [(done.args, forms) for done in outputs if (forms := holding(done.stdout + done.stderr))]
    assert [] == holding(plan.read_text())
    assert [] == [(name, forms) for name, text in kept(image / STATE) if (forms := holding(text))]
    assert {"plan.json", "facts.json", "journal.jsonl", "log.jsonl"} <= {
        name for name, _ in kept(image / STATE)
    }
    # It was there to be found: beside what changed, so that a diff would show it; and the originals are kept.
    changed = [
        step["params"] for step in json.loads(plan.read_bytes())["steps"] if step["kind"] == "write-file"
    ]
    assert 2 <= sum(MASK in each["diff"] for each in changed)
    blobs = [path for path in (image / STATE).rglob("blobs/*") if SECRET in path.read_text()]
    assert 4 <= len(blobs)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in blobs}


BROKEN = {
    "JSON": ("etc/docker/daemon.json", f'{{"auth": "{PAIR}", "password": "{SECRET}"'),
    "JSON, the secret where a comma should be": ("etc/docker/daemon.json", f'{{"auth": {SECRET} {PAIR} }}'),
    "JSON, a key given twice": ("etc/docker/daemon.json", f'{{"{URL}": 1, "{URL}": 2}}'),
    "YAML": ("var/lib/kubelet/config.yaml", f"token: {SECRET}\n  password: [{SECRET}\n"),
    "YAML, of another kind": (
        "var/lib/kubelet/config.yaml",
        f"kind: KubeletConfiguration\ncgroupDriver: {URL}\n",
    ),
    "a quote that is open": ("etc/default/kubelet", f'KUBELET_EXTRA_ARGS="--token={SECRET}\n'),
    "a section that is open": (
        "etc/systemd/system/kubelet.service.d/20-proxy.conf",
        f"[Service --token={SECRET}\n",
    ),
    "TOML": ("etc/containerd/config.toml", f'[x]\npassword = "{SECRET}\n'),
    "TOML, a number": ("etc/containerd/config.toml", f"[x]\npassword = {SECRET}\n"),
    "TOML, a key given twice": ("etc/containerd/config.toml", f'version = 2\n"{URL}" = 1\n"{URL}" = 2\n'),
}


@pytest.mark.parametrize(("path", "text"), BROKEN.values(), ids=BROKEN)
def test_what_a_parser_says_of_a_broken_file_holds_no_secret(tmp_path: Path, path: str, text: str) -> None:
    image = copy(CONTAINERD if "containerd" in path else DOCKER, tmp_path / "image")
    (image / path).write_text(text)

    outputs = [
        cgmigrate("audit", "--root", image),
        cgmigrate("audit", "--root", image, "--format", "json"),
        cgmigrate("plan", "--root", image),
    ]

    assert [] == [forms for done in outputs if (forms := holding(done.stdout + done.stderr))]
    assert Path(path).name in outputs[0].stdout + outputs[2].stderr


SAID = [
    f"dockerd: Get {URL}/v2/: proxyconnect tcp: dial tcp: lookup proxy",
    f"kubelet: unknown flag in --bootstrap-token={SECRET} --v=2",
    f"kubelet: unknown flag in `--token {SECRET}`",
    f"Authorization: Bearer {SECRET}",
    f"401 for header Basic {PAIR}",
    f"token {JWT} has expired",
    f"auth {PAIR} was refused",
    f"Get http://robot:it's-{SECRET}@mirror.example/v2/: no such host",
    f'Get "http://robot:a b {SECRET}@mirror.example/v2/": no such host',
    f"parse robot:{SECRET}@mirror.example: first path segment in URL cannot contain colon",
    f"docker login -p {SECRET} r.example: exit status 1",
    f"PGPASSWORD={SECRET} psql: exit status 1",
    f'{{"identitytoken":"{SECRET}"}} is no configuration',
]


@pytest.mark.parametrize("said", SAID)
def test_what_a_daemon_said_is_masked_in_errors_facts_journal_and_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    def fail() -> None:
        raise ConflictError(f"it failed: {said}", hint=said)

    look = Look(Reader(tmp_path))
    look.unknown("runtime.driver_reported", said)
    exit_code(fail)
    shown = "".join(capsys.readouterr())

    assert [] == holding(
        shown + look.unknowns[0].reason + str(ConflictError(said)) + repr(ConflictError(said))
    )
    assert MASK in look.unknowns[0].reason
    assert "it failed: " in shown


@pytest.mark.parametrize(
    "text",
    [
        "/etc/docker/daemon.json:3: unknown key: exec-opts; the password file is elsewhere",
        "kubelet does not start; see `journalctl -u kubelet.service`",
        "no basic auth credentials",
        "the run 20261122T140509Z-0798b0e6 is open: `cgmigrate resume` or `cgmigrate rollback` first",
        f"/kubepods.slice/kubepods-besteffort.slice/docker-{'0123456789abcdef' * 4}.scope",
        "https://10.99.0.2:6443/api/v1/nodes: connection refused",
        "https://10.99.0.2:6443/api: x509: certificate is valid for 10.96.0.1, user kubernetes-admin@kubernetes",
        "failed to pull image r.example:5000/app:1.2@sha256:0123456789abcdef: not found",
        'unknown key: "exec-opts"',
    ],
)
def test_a_sentence_without_a_secret_stays_as_it_is(text: str) -> None:
    assert text == mask_shapes(text)


WORDS = [
    (("kubelet", f"--token={SECRET}", "--v=2"), ("kubelet", f"--token={MASK}", "--v=2")),
    (("kubelet", "--token", SECRET, "--v", "2"), ("kubelet", "--token", MASK, "--v", "2")),
    (("kubelet", "--client_secret", SECRET), ("kubelet", "--client_secret", MASK)),
    (("kubelet", f"--proxy={URL}"), ("kubelet", f"--proxy=http://{MASK}@proxy.example:3128")),
    (("kubelet", "--rotate-server-key", "--v=2"), ("kubelet", "--rotate-server-key", "--v=2")),
    (
        ("kubelet", "--hostname-override=node-1", "--config", "/c"),
        ("kubelet", "--hostname-override=node-1", "--config", "/c"),
    ),
]


@pytest.mark.parametrize(("argv", "expected"), WORDS)
def test_an_argv_among_the_facts_keeps_its_words_but_no_secret(
    argv: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert expected == mask_words(argv)


def test_a_fault_of_our_own_writes_no_content_of_a_file_anywhere(tmp_path: Path) -> None:
    """An exception may hold the bytes it was about, as a UnicodeDecodeError does; its `repr` shows them."""
    image = plant(copy(DOCKER, tmp_path / "image"), DOCKER)
    plan = planned(image, tmp_path / "plan.json")
    host = Host(image)
    run, _ = begin(host, plan.read_bytes(), "plan.json")

    class Faulty(Host):
        def write(self, path: str, data: bytes, **rest: object) -> None:  # noqa: ARG002
            (data + b"\xff").decode()

    with (
        engine_of(doors_of(Faulty(image)), run, voice(), Interrupt()) as engine,
        pytest.raises(StepError, match="UnicodeDecodeError") as caught,
    ):
        engine.forward()

    assert [] == holding(caught.value.message + caught.value.hint)
    texts = dict(kept(image / STATE))
    assert "UnicodeDecodeError" in texts["traceback.txt"]
    assert [] == [(name, forms) for name, text in texts.items() if (forms := holding(text))]
    assert "internal error in step" in cgmigrate("status", "--root", image).stdout


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_no_argument_list_and_no_environment_of_a_process_holds_a_secret(tmp_path: Path) -> None:
    image = plant(copy(DOCKER, tmp_path / "image"), DOCKER)
    plan = planned(image, tmp_path / "plan.json")
    trace = tmp_path / "trace"

    done = spawn(
        *("apply", "--root", image, plan, "--yes"),
        before=("strace", "-f", "-v", "-s", "9999", "-o", str(trace), "-e", "trace=execve"),
    )

    assert 0 == done.returncode, done.stderr.decode()
    assert "execve(" in trace.read_text()
    assert [] == holding(trace.read_text())


SHOWS_ALL = """tr '\\0' '\\n' < /proc/$$/cmdline >> ASKED
tr '\\0' '\\n' < /proc/$$/environ >> ASKED
cat "$2"
"""


def test_a_program_of_the_node_is_started_without_a_secret_in_its_words_and_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A containerd that is shown files with credentials, by a caller whose environment has one."""
    monkeypatch.setenv("HTTPS_PROXY", URL)
    asked = tmp_path / "asked"
    secret = f'[{CRI}.registry.configs."r.example".auth]\npassword = "{SECRET}"\nauth = "{PAIR}"\n'
    text = CGROUPFS + secret
    installed = node(tmp_path, SHOWS_ALL.replace("ASKED", str(asked)), text=text)

    found = judged(installed, text.replace("= false", "= true").replace(SECRET, f"{SECRET}2"))

    said = asked.read_text()
    assert ["containerd-dump-differs"] == [each.id for each in found]
    assert "\ndump\n" in said
    assert "\nPATH=" in f"\n{said}"
    assert [] == holding(said)
    assert [] == holding("".join(each.summary + each.detail + each.remediation for each in found))


def test_kubectl_gets_the_name_of_a_kubeconfig_and_documents_by_a_pipe(tmp_path: Path) -> None:
    refused = (1, "", f"error: You must be logged in: Bearer {SECRET} at https://robot:{SECRET}@api.example")
    program = kubectl(
        tmp_path, {"get node n1 --output=json": refused, "replace --filename=-": (0, "{}", "")}, ACCESS
    )
    document = {
        "kind": "ConfigMap",
        "metadata": {"resourceVersion": "1"},
        "data": {"kubelet": f"token: {SECRET}"},
    }

    with pytest.raises(KubeError) as caught:
        program.kube().get("node", "n1")
    with pytest.raises(KubeError):
        program.kube().replace(document)

    assert [] == holding(caught.value.message + caught.value.hint)
    asked = (program.answers / "asked").read_text()
    assert f"--kubeconfig={program.kubeconfig}" in asked
    assert "--filename=-" in asked
    assert [] == holding(asked)

# SPDX-License-Identifier: Apache-2.0
"""A diff shows what changes and no secret, whatever the file's format."""

from __future__ import annotations

import base64
import difflib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import MASK, docker, kubelet, unified_diff
from migrator.configs.secrets import is_secret_key, mask_secrets, mask_shapes

SECRET = "hunter2-S3cr3t"  # noqa: S105 - planted, to be looked for
USER_AND_PASSWORD = base64.b64encode(b"robot:" + SECRET.encode()).decode()


def test_a_plain_diff_is_like_everyone_elses() -> None:
    before = "".join(f"line {n}\n" for n in range(30))
    after = before.replace("line 3\n", "line three\n").replace("line 25\n", "")
    assert unified_diff("/f", before.encode(), after.encode()) == "".join(
        difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), "/f", "/f"),
    )


def test_equal_texts_have_no_diff() -> None:
    assert unified_diff("/f", b"a\n", b"a\n") == ""


def test_new_and_removed_files_are_told_from_empty_ones() -> None:
    assert unified_diff("/f", None, b"a\n") == "--- /dev/null\n+++ /f\n@@ -0,0 +1 @@\n+a\n"
    assert unified_diff("/f", b"a\n", None) == "--- /f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"


def test_a_missing_last_newline_is_told() -> None:
    assert unified_diff("/f", b"a", b"b\n") == (
        "--- /f\n+++ /f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"
    )


def test_a_terminal_is_not_sent_what_a_file_holds() -> None:
    assert (
        unified_diff("/f", b"a\x1b[2J\xff\n", b"b\r\n")
        == "--- /f\n+++ /f\n@@ -1 +1 @@\n-a\\x1b[2J\\xff\n+b\r\n"
    )


def test_the_column_and_the_key_stay() -> None:
    before = f'password = "{SECRET}"\nSystemdCgroup = false\n'.encode()
    after = before.replace(b"false", b"true")
    assert unified_diff("/f", before, after) == (
        f'--- /f\n+++ /f\n@@ -1,2 +1,2 @@\n password = "{MASK}"\n-SystemdCgroup = false\n+SystemdCgroup = true\n'
    )


def test_a_changed_secret_is_masked_on_both_sides() -> None:
    assert unified_diff("/f", f"token: {SECRET}1\n".encode(), f"token: {SECRET}2\n".encode()) == (
        f"--- /f\n+++ /f\n@@ -1 +1 @@\n-token: {MASK}\n+token: {MASK}\n"
    )


def test_a_daemon_json_on_one_line_still_shows_the_change() -> None:
    before = (
        f'{{"auths":{{"r.example":{{"auth":"{USER_AND_PASSWORD}"}}}},"exec-opts":["native.cgroupdriver=cgroupfs"],'
        f'"registry-mirrors":["https://u:{SECRET}@m.example/"],"labels":["token={SECRET}"],"key":12345,"bip":"10.0.0.1/8"}}'
    ).encode()
    shown = unified_diff("/etc/docker/daemon.json", before, docker.set_driver(before, Driver.SYSTEMD).text)
    assert shown.split("\n")[5] == (
        f'+{{"auths":{{{MASK}}},"exec-opts":["native.cgroupdriver=systemd"],'
        f'"registry-mirrors":["https://{MASK}@m.example/"],"labels":["token={MASK}"],"key":{MASK},"bip":"10.0.0.1/8"}}'
    )
    assert SECRET not in shown


def test_a_secret_table_is_masked_even_where_its_header_is_out_of_sight() -> None:
    before = "\n".join(
        ['[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]']
        + [f"  remark{n} = 1" for n in range(9)]
        + [f'  username = "robot-{SECRET}"', "[x]", "  SystemdCgroup = false", '  shown = "yes"', ""],
    ).encode()
    shown = unified_diff("/c", before, before.replace(b"false", b"true"))
    assert "auth]" not in shown
    assert f'   username = "{MASK}"\n' in shown
    assert '   shown = "yes"\n' in shown
    assert SECRET not in shown


def test_what_kubeadm_writes_for_the_kubelet_is_shown_as_it_is() -> None:
    before = (
        b"authentication:\n  anonymous:\n    enabled: false\n  webhook:\n    cacheTTL: 0s\n    enabled: true\n"
        b"  x509:\n    clientCAFile: /etc/kubernetes/pki/ca.crt\nauthorization:\n  mode: Webhook\n  webhook:\n"
        b"    cacheAuthorizedTTL: 0s\n    cacheUnauthorizedTTL: 0s\ncgroupDriver: cgroupfs\nclusterDNS:\n- 10.96.0.10\n"
    )
    after = kubelet.set_driver(before, Driver.SYSTEMD).text
    assert MASK not in unified_diff("/var/lib/kubelet/config.yaml", before, after, context=99)


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "registry_password",
        "registryPassword",
        "PASSWD",
        "auth",
        "auths",
        "basicAuth",
        "identitytoken",
        "registrytoken",
        "bearer-token",
        "secret",
        "clientSecret",
        "credentials",
        "key",
        "tls_key",
        "tlskey",
        "apiKey",
        "AWS_SECRET_ACCESS_KEY",
        "client-key-data",
        "passphrase",
        "cookie",
    ],
)
def test_keys_of_secrets_are_known(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "authentication",
        "authorization",
        "cacheAuthorizedTTL",
        "cgroupDriver",
        "SystemdCgroup",
        "exec-opts",
        "keepalive",
    ],
)
def test_keys_of_other_things_are_not(key: str) -> None:
    assert not is_secret_key(key)


S = SECRET
SHAPES = [
    f"password: {S}",
    f"password:   {S} with, blanks # and: more",
    f"password: '{S}''{S}'",
    f'password: "a\\"{S}"',
    f'password: "x\n  {S}"',
    f"password:\n  {S}",
    f"password: |\n  {S}\n\n  {S}\nother: 1",
    f"password: >-\n    {S}",
    f"password: first\n  {S}",
    f"tokens:\n- {S}\n- {S}\nother: 1",
    f"tokens:\n  - a\n  - {S}",
    f"users:\n- name: x\n  user:\n    token: {S}\n    client-key-data: {S}",
    f"- token: |\n    {S}",
    f"secret: {{a: {S}, b: [{S}]}}",
    f"secret: [a,\n  {S},\n  b]",
    f"auth:\n  username: {S}\n  deeper:\n    value: {S}",
    f"# password: {S}",
    f"  # don't: token = {S}",
    f'"password": "{S}"',
    f'"password" : "x\\"{S}"',
    f'"password":\n"{S}"',
    f'{{"a":{{"p\\u0061ssword":"{S}"}}}}',
    f'{{"auth":["{S}",{{"x":"{S}"}}],"b":1}}',
    f'{{"config":"{{\\"auth\\":\\"{S}\\"}}"}}',
    f'{{"env":["REGISTRY_TOKEN={S}","B=c"]}}',
    '{"token": 482913374455, "b": 1}',
    f'password = "{S}"',
    f"password = '{S}'",
    f'password = """\n{S}\n{S}"""',
    f"password = '''{S}'''",
    f'password = "{S}" # was {S}',
    f"a.b.password.c = '{S}'",
    f"tokens = [\n  '{S}', # ]\n  '{S}',\n]",
    f"auth = {{ user = 'a', pass = '{S}' }}",
    f"x = {{ user = 'a', pass = '{S}' }}",
    f"[registry.configs.'r'.auth]\nuser = '{S}'\n\n  # remark\n  other = '{S}'",
    f'[ registry . "auth" ]\nvalue = "{S}"',
    f"[[host.token]]\nvalue = '{S}'",
    f'[host."https://m".header]\n  authorization = "Basic {S}"',
    f"Authorization: Bearer {S}",
    f'header = ["X: Bearer {S}"]',
    f"REGISTRY_PASSWORD={S}",
    f"export TOKEN='{S}'",
    f'TOKEN="{S} and {S}"',
    f"TOKEN='{S}'\\''{S}'",
    f"TOKEN={S} \\\n  {S}",
    f'Environment="TOKEN={S}" "B=c"',
    f"Environment=TOKEN={S} B=c",
    f"ExecStart=/bin/x --token={S} --v=2",
    f"ExecStart=/bin/x --token {S} --v=2",
    f"ExecStart=/bin/x --token '{S} {S}' --v=2",
    f"ExecStart=/bin/x '--token' '{S}' --v=2",
    f"ExecStart=/bin/x --token \\\n  {S}",
    f'ARGS="--v=2 --bearer-token={S} --cgroup-driver=systemd"',
    f"ARGS=\"--token='{S} {S}'\"",
    f'args: ["--token", "{S}"]',
    f"args:\n- --token\n- {S}",
    f"args:\n- --token={S}",
    f"HTTP_PROXY=http://user:{S}@proxy.example:3128/",
    f'"https-proxy": "http://user:p@{S}@proxy.example"',
    f'endpoint = ["https://{S}@mirror.example"]',
    f"-----BEGIN RSA PRIVATE KEY-----\n{S}\n{S}\n-----END RSA PRIVATE KEY-----",
    f"x: |\n  -----BEGIN CERTIFICATE-----\n  {S}\n  -----END CERTIFICATE-----\ny: 1",
    f'"x": "-----BEGIN EC PRIVATE KEY-----\\n{S}\\n-----END EC PRIVATE KEY-----\\n"',
    f"-----BEGIN PRIVATE KEY-----\n{S}",
    f"* * * * * root sshpass -p {S} ssh a cat /kubepods",
    f"* * * * * root sshpass -p'{S}' ssh a",
    f"mysql -h db -u me -p{S} -e 'select 1'",
    f"curl -s -u me:{S} https://m.example",
    f'curl --user "me:{S}" https://m.example',
    f"curl --proxy-user=me:{S} https://m.example",
    f"curl -u 'me:a b {S}' https://m.example",
    f'curl -sSu "me:it\'s {S}" https://m.example',
    f"curl -ume:{S} https://m.example",
    f"curl -b 'sid={S}' https://m.example",
    f"curl -H 'X-Api-Key: {S}' https://m.example",
    f'curl -H "PRIVATE-TOKEN:{S}" https://m.example',
    f"curl -d 'pw={S}' https://m.example",
    f'curl "https://m.example/write?u=root&p={S}&f=1"',
    f"curl https://hooks.slack.com/services/T0/B0/{S}",
    f"docker login -u me -p {S} r.example",
    f"docker login -u me -p{S} r.example",
    f"docker login -u me --password {S} r.example",
    f"docker login -u me --password={S} r.example",
    f"docker --config /x login -p 'a {S}' -u me r.example",
    f'docker login -p "it\'s {S}" -u me r.example',
    f"docker login -p it's{S} r.example",
    f"docker login -u me \\\n  -p {S} r.example",
    f'ExecStartPre=/bin/sh -c "docker login -p {S} r.example"',
    f'args: ["docker", "login", "-p", "{S}"]',
    f"podman login -p={S} r.example",
    f"helm registry login -u me -p {S} r.example",
    f"* * * * * root echo {S} | docker login --password-stdin",
    f"* * * * * root docker login --password-stdin <<< '{S}'",
    f"* * * * * root echo me:{S} | chpasswd",
    f"crictl pull --creds me:{S} r.example/x",
    f"ctr images pull -u me:{S} r.example/x",
    f"mysql -u me -p'a {S}' x",
    f"docker exec db mysqldump -p{S} x",
    f"redis-cli -a {S} ping",
    f"ldapsearch -D cn=x -w '{S}'",
    f"openssl enc -k {S} -in x",
    f"openssl rsa -passin pass:{S}",
    f"zip -P {S} x",
    f"smbclient -U me%{S} //h/x",
    f"vault login {S}",
    f"identitytoken = '{S}'",
    f"HTTPS_PROXY=http://me:{S}@proxy.example",
    f"https_proxy=http://me:{S}@proxy.example",
    f"HTTPS_PROXY=http://me:a'{S}@proxy.example",
    f"HTTPS_PROXY=http://me:a {S}@proxy.example",
    f"HTTPS_PROXY=me:{S}@proxy.example:3128",
    f"Environment=https_proxy=me:{S}@proxy.example:3128 B=c",
    f'Environment="HTTPS_PROXY=http://me:a\'{S}@proxy.example" "B=c"',
    f'"https-proxy": "me:{S}@proxy.example:3128"',
    f'"https-proxy": "http:\\/\\/me:{S}@proxy.example:3128"',
    f'endpoint = ["https://me:it\'s{S}@mirror.example"]',
    f'endpoint = ["https://me:a\\"{S}@mirror.example"]',
    f"endpoint = ['https://me:a\"{S}@mirror.example']",
    f'endpoint = ["https://me:a\\\\{S}@mirror.example"]',
    f'endpoint = ["https://me:a b{S}@mirror.example"]',
    f'endpoint = ["https://me:a%22{S}@mirror.example"]',
    f'endpoint = ["https://me:a<{S}>@mirror.example"]',
    f"endpoint: 'https://me:it''s{S}@mirror.example'",
    f"sh -c 'wget http://me:it'\\''s{S}@mirror.example'",
    f"get?url=https%3A%2F%2Fme%3A{S}%40mirror.example",
]
TOKENS = [
    f"value: {USER_AND_PASSWORD}",
    f'"r.example": "{USER_AND_PASSWORD}"',
    "value: eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "value: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ==",
    "join: abcdef.0123456789abcdef",
    "pull: ghp_0123456789abcdefghij",
    "pull: glpat-0123456789abcdefghij",
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_secret_is_masked_and_lines_stay_lines(shape: str, newline: str) -> None:
    text = f"before: 1\n\n{shape}\n\nafter = 2\n".replace("\n", newline)
    shown = mask_secrets(text)
    assert S not in shown
    assert "482913374455" not in shown
    assert MASK in shown
    assert shown.count("\n") == text.count("\n")
    assert shown.startswith(f"before: 1{newline}")
    if "PRIVATE KEY-----" not in shape or "END" in shape:
        assert "after = 2" in shown or "[" in shape


@pytest.mark.parametrize(
    "text",
    [
        "docker run --user 1000:1000 x",
        "docker run -p 8080:80 r.example:5000/app:1.2@sha256:0123",
        "id -u me",
        "mkdir -p /x",
        "sudo -u me cat",
        'KUBELET_EXTRA_ARGS="--proxy=http://mirror.example:5000 --cgroup-driver=systemd --mail=me@m.example"',
        "ExecStart=/k --server=http://${HOST}:${PORT} --cgroup-driver=systemd --mail=me@m.example",
        '{"registry-mirrors":["https://m.example/"],"exec-opts":["native.cgroupdriver=systemd"],"labels":["a@b"]}',
        "# the kubelet's driver: see https://m.example/it's, or ask me@m.example",
    ],
)
def test_a_user_alone_and_numbers_are_no_secret(text: str) -> None:
    assert text == mask_secrets(text)


@pytest.mark.parametrize("shape", TOKENS)
def test_a_token_is_known_by_its_shape(shape: str) -> None:
    key, _, value = shape.partition(": ")
    quote = '"' if value.startswith('"') else ""
    assert mask_secrets(shape) == f"{key}: {quote}{MASK}{quote}"


@pytest.mark.parametrize("line", ["# key=[\n", '"key": {\n', "[auths]\na = 1\n", "--token x\n"])
def test_what_repeats_is_masked_in_its_time(line: str) -> None:
    """Each of these once meant reading the rest of the text again; what never closes hides it all in the end."""
    shown = mask_secrets(line * 3000)
    assert shown.count("\n") == line.count("\n") * 3000
    assert MASK in shown


def test_a_change_at_both_ends_of_a_monotonous_file_is_compared_in_its_time() -> None:
    middle = b"a\n" * 100_000
    shown = unified_diff("f", b"x\n" + middle + b"x\n", b"y\n" + middle + b"y\n")
    assert "-x\n+y\n" in shown or shown.startswith("--- f\n+++ f\n@@ -1,100002 +1,100002 @@\n-x\n")


def test_the_changed_flag_stays_visible_beside_a_secret() -> None:
    assert (
        mask_secrets(f'A="--token={S} --cgroup-driver=systemd"')
        == f'A="--token={MASK} --cgroup-driver=systemd"'
    )
    assert mask_secrets(f"ExecStart=/k --token {S} --cgroup-driver=systemd") == (
        f"ExecStart=/k --token {MASK} --cgroup-driver=systemd"
    )
    assert mask_secrets(f'{{"token":"{S}","a":1}}') == f'{{"token":"{MASK}","a":1}}'


PLANTED = "zqPLANTEDqz"
KEYS = st.sampled_from(["password", "auth", "x-token", "clientSecret", "tls_key", "credentials"])
OTHER_KEYS = st.sampled_from(["a", "debug", "log-opts", "name", "cgroupDriver"])
PLAIN = st.sampled_from(["x", "1", 1, True, None, "a: b", "c = d", "[", "}", '"', "'", "#", "\\", "-", "é"])


def trees(secret: bool) -> st.SearchStrategy[object]:
    leaf = st.sampled_from(
        [PLANTED, f"a {PLANTED}", f'"{PLANTED}', f"'{PLANTED}'", f"{PLANTED}\\", f"{PLANTED}\n{PLANTED}"]
    )
    if secret:
        return st.recursive(
            leaf,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OTHER_KEYS, inner, max_size=3),
            max_leaves=4,
        )
    return st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(OTHER_KEYS, inner, max_size=3)
            | st.dictionaries(KEYS, trees(secret=True), max_size=2)
        ),
        max_leaves=8,
    )


@given(trees(secret=False), st.sampled_from([None, 0, 2, "\t"]), st.sampled_from([(",", ":"), (", ", ": ")]))
@settings(deadline=None, max_examples=300)
def test_no_planted_secret_gets_out_of_json(
    data: object, indent: int | str | None, separators: tuple[str, str]
) -> None:
    text = json.dumps(data, indent=indent, separators=separators)
    shown = mask_secrets(text)
    assert PLANTED not in shown
    assert shown.count("\n") == text.count("\n")


@given(
    st.text(alphabet="ab:=\"'[]{}|>-# \n\\,", max_size=60),
    KEYS,
    st.sampled_from([": ", "=", " = "]),
    st.text(max_size=30),
)
@settings(deadline=None, max_examples=300)
def test_junk_never_breaks_the_masking(before: str, key: str, separator: str, after: str) -> None:
    text = before + "\n" + key + separator + PLANTED + "\n" + after
    shown = mask_secrets(text)
    assert shown.count("\n") == text.count("\n")
    assert PLANTED not in shown


@given(
    st.text(alphabet="ab1@%\\'\"<>:/#? ", max_size=12),
    st.text(alphabet="ab1@%\\'\"<>:/#?", max_size=12),
    st.sampled_from(["A={}\n", "x: {}\n", "Get {}: refused\n"]),
)
@settings(deadline=None, max_examples=300)
def test_no_password_gets_out_of_an_address(before: str, after: str, line: str) -> None:
    """Quoted as JSON and TOML have it, whatever it holds; bare, whatever but blanks."""
    quoted = json.dumps(f"https://me:{before}{PLANTED}{after}@mirror.example/v2")
    bare = f"https://me:{before.replace(' ', '')}{PLANTED}{after}@mirror.example/v2"
    for address in (quoted, bare):
        assert PLANTED not in mask_secrets(line.format(address))
        assert PLANTED not in mask_shapes(line.format(address))


LINES = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=14)


@given(LINES, LINES, st.integers(0, 3))
@settings(deadline=None)
def test_a_diff_turns_the_old_text_into_the_new(old: list[str], new: list[str], context: int) -> None:
    shown = unified_diff(
        "/f", "".join(f"{x}\n" for x in old).encode(), "".join(f"{x}\n" for x in new).encode(), context
    )
    position, made = 0, []
    for line in shown.split("\n")[2:-1]:
        if line.startswith("@@"):
            place, count = (line.split()[1][1:] + ",1").split(",")[:2]
            start = int(place) - (int(count) > 0)
            made += old[position:start]
            position = start
        else:
            assert line[0] == "+" or old[position] == line[1:]
            made += [line[1:]] if line[0] in "+ " else []
            position += line[0] in "- "
    assert made + old[position:] == new

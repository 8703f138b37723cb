# SPDX-License-Identifier: Apache-2.0
"""KubeletConfiguration: one key changes, whatever the file looks like."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit, UnsupportedShapeError
from migrator.configs.kubelet import read, set_driver

KUBEADM = """\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: cgroupfs
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cpuManagerReconcilePeriod: 0s
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""

HAND_WRITTEN = """\
# Managed by the platform team.
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
failSwapOn: no   # YAML 1.1
cgroupRoot: "/kubelet"
cgroupsPerQOS: true
kubeReservedCgroup: /kube.slice
systemReservedCgroup: '/system.slice'
kubeletCgroups: /systemd/system.slice
systemCgroups: /
enforceNodeAllocatable: [pods, kube-reserved]
featureGates:
  KubeletCgroupDriverFromCRI: true
  GracefulNodeShutdown: off
failCgroupV1: false
cpuManagerPolicy: static
cgroupDriver:   'cgroupfs'  # until the next maintenance
"""

# name, before, after
EDITS = [
    ("kubeadm's file", KUBEADM, KUBEADM.replace("cgroupDriver: cgroupfs", "cgroupDriver: systemd")),
    (
        "kubeadm's file without the key",
        KUBEADM.replace("cgroupDriver: cgroupfs\n", ""),
        KUBEADM.replace("cgroupDriver: cgroupfs\n", "") + "cgroupDriver: systemd\n",
    ),
    ("quotes and comments stay", HAND_WRITTEN, HAND_WRITTEN.replace("'cgroupfs'", "'systemd'")),
    (
        "CRLF stays, also on a new line",
        "kind: KubeletConfiguration\r\nfailSwapOn: false\r\n",
        "kind: KubeletConfiguration\r\nfailSwapOn: false\r\ncgroupDriver: systemd\r\n",
    ),
    (
        "a byte order mark stays",
        "\ufeffa: 1\ncgroupDriver: cgroupfs\n",
        "\ufeffa: 1\ncgroupDriver: systemd\n",
    ),
    ("no newline at the end", "a: 1\nb: 2", "a: 1\nb: 2\ncgroupDriver: systemd"),
    ("comments at the end stay there", "a: 1\n\n# the end\n", "a: 1\ncgroupDriver: systemd\n\n# the end\n"),
    ("an end mark", "---\na: 1\n...\n", "---\na: 1\ncgroupDriver: systemd\n...\n"),
    ("an indented document", "  a: 1\n  b: 2\n", "  a: 1\n  b: 2\n  cgroupDriver: systemd\n"),
    ("a list without indentation", "a:\n- b\n", "a:\n- b\ncgroupDriver: systemd\n"),
    (
        "a last key without value",
        "a: 1\nb:   # nothing\n\n",
        "a: 1\nb:   # nothing\ncgroupDriver: systemd\n\n",
    ),
    ("a last block text", "a: |\n  text\n\n# end\n", "a: |\n  text\n\ncgroupDriver: systemd\n# end\n"),
    (
        "a last block text that keeps its blank lines",
        "a: |+\n  x\n\n",
        "a: |+\n  x\n\ncgroupDriver: systemd\n",
    ),
    ("a last block text that has no newline", "a: |\n  x", "cgroupDriver: systemd\na: |\n  x"),
    ("a key without value", "cgroupDriver:\na: 1\n", "cgroupDriver: systemd\na: 1\n"),
    ("a key without value but with a comment", "cgroupDriver:  # ?\n", "cgroupDriver: systemd  # ?\n"),
    ("null", "cgroupDriver: ~\n", "cgroupDriver: systemd\n"),
    ("an empty string", 'cgroupDriver: ""\n', 'cgroupDriver: "systemd"\n'),
    ("a value on the next line", "cgroupDriver:\n  cgroupfs\n", "cgroupDriver:\n  systemd\n"),
    ("a quoted key", '"cgroupDriver" : cgroupfs\n', '"cgroupDriver" : systemd\n'),
    ("an explicit key", "? cgroupDriver\n: cgroupfs\n", "? cgroupDriver\n: systemd\n"),
    (
        "only the top-level key",
        "x:\n  cgroupDriver: cgroupfs\n",
        "x:\n  cgroupDriver: cgroupfs\ncgroupDriver: systemd\n",
    ),
    (
        "not a comment",
        "# cgroupDriver: cgroupfs\na: 1\n",
        "# cgroupDriver: cgroupfs\na: 1\ncgroupDriver: systemd\n",
    ),
    (
        "a merged key is overridden, not edited",
        "x: &x {cgroupDriver: cgroupfs}\n<<: *x\n",
        "x: &x {cgroupDriver: cgroupfs}\n<<: *x\ncgroupDriver: systemd\n",
    ),
    (
        "braces on one line",
        "{kind: KubeletConfiguration, a: 1}\n",
        "{kind: KubeletConfiguration, a: 1, cgroupDriver: systemd}\n",
    ),
    ("braces, in place", "{cgroupDriver: cgroupfs, a: 1}\n", "{cgroupDriver: systemd, a: 1}\n"),
    (
        "braces over several lines, with comments and a comma at the end",
        "{\n  a: 1, # one\n  b: 2, # two\n}\n",
        "{\n  a: 1, # one\n  b: 2,\n  cgroupDriver: systemd, # two\n}\n",
    ),
    (
        "JSON",
        '{\n\t"kind": "KubeletConfiguration",\n\t"cgroupDriver": "cgroupfs"\n}\n',
        '{\n\t"kind": "KubeletConfiguration",\n\t"cgroupDriver": "systemd"\n}\n',
    ),
    (
        "JSON without the key",
        '{"kind":"KubeletConfiguration","apiVersion":"kubelet.config.k8s.io/v1beta1"}',
        '{"kind":"KubeletConfiguration","apiVersion":"kubelet.config.k8s.io/v1beta1","cgroupDriver":"systemd"}',
    ),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_the_driver_is_set_and_nothing_else_changes(before: str, after: str) -> None:
    edited = set_driver(before.encode(), Driver.SYSTEMD)
    assert edited.text.decode() == after
    config = read(edited.text)
    assert config.cgroup_driver == "systemd"
    assert config.cgroup_driver_line == edited.edits[0].line
    again = set_driver(edited.text, Driver.SYSTEMD)
    assert (again.text, again.edits) == (edited.text, ())


def test_an_edit_names_key_values_and_line() -> None:
    assert set_driver(KUBEADM.encode(), Driver.SYSTEMD).edits == (
        Edit("cgroupDriver", "cgroupfs", "systemd", 15),
    )
    assert set_driver(b"a: 1\n# b\n", Driver.SYSTEMD).edits == (Edit("cgroupDriver", None, "systemd", 2),)


def test_what_kubeadm_writes_is_read() -> None:
    config = read(KUBEADM.encode())
    assert config.kind == "KubeletConfiguration"
    assert config.api_version == "kubelet.config.k8s.io/v1beta1"
    assert (config.cgroup_driver, config.cgroup_driver_line) == ("cgroupfs", 15)
    assert config.static_pod_path == "/etc/kubernetes/manifests"
    assert (config.healthz_bind_address, config.healthz_port) == ("127.0.0.1", 10248)
    assert config.container_runtime_endpoint == "unix:///run/containerd/containerd.sock"
    assert config.enforce_node_allocatable is None
    assert config.lines["clusterDNS"] == 16


def test_what_people_write_is_read_as_the_kubelet_reads_it() -> None:
    config = read(HAND_WRITTEN.encode())
    assert config.fail_swap_on is False
    assert config.cgroup_root == "/kubelet"
    assert config.cgroups_per_qos is True
    assert config.kube_reserved_cgroup == "/kube.slice"
    assert config.system_reserved_cgroup == "/system.slice"
    assert config.kubelet_cgroups == "/systemd/system.slice"
    assert config.system_cgroups == "/"
    assert config.enforce_node_allocatable == ("pods", "kube-reserved")
    assert config.feature_gates == {"KubeletCgroupDriverFromCRI": True, "GracefulNodeShutdown": False}
    assert config.fail_cgroup_v1 is False
    assert config.cpu_manager_policy == "static"
    assert (config.cgroup_driver, config.cgroup_driver_line) == ("cgroupfs", 17)


def test_aliases_and_merge_keys_are_followed() -> None:
    text = b"x: &x\n  cgroupDriver: systemd\n  cgroupRoot: /a\n<<: *x\ncgroupRoot: /b\nstaticPodPath: &p /m\nkubeletCgroups: *p\n"
    config = read(text)
    assert (config.cgroup_driver, config.cgroup_root, config.kubelet_cgroups) == ("systemd", "/b", "/m")


def test_a_file_that_says_nothing_reads_as_nothing() -> None:
    assert read(b"") == read(b"# only a comment\n") == read(b"---\n")
    assert read(b"").cgroup_driver is None


def test_a_small_file_of_nested_aliases_stays_small() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    text = "\n".join([*lines, "cgroupDriver: cgroupfs", ""]).encode()
    assert set_driver(text, Driver.SYSTEMD).text == text.replace(b"cgroupfs", b"systemd")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", 1),
        (b"# nothing\n", 1),
        (b"- a\n", 1),
        (b"a: 1\nb: [\n", 3),
        (b"a: 1\n\tb: 2\n", 2),
        (b"a: 1\na: 2\n", 2),
        (b"a: 1\nx:\n  b: 1\n  b: 2\n", 4),
        (b"a: 1\n---\nb: 2\n", 2),
        (b"apiVersion: v1\nkind: Pod\n", 2),
        (b"a: 1\ncgroupDriver: [systemd]\n", 2),
        (b"a: 1\ncgroupRoot: 1\n", 2),
        (b"a: 1\nfailSwapOn: 'no'\n", 2),
        (b"a: 1\nhealthzPort: ten\n", 2),
        (b"a: 1\nfeatureGates: {A: maybe}\n", 2),
        (b"a: 1\nenforceNodeAllocatable: pods\n", 2),
        (b"a: 1\nb: \xff\n", 2),
        (b"a: 1\nb: \x07\n", 2),
        (b"a: 1\nb: *unknown\n", 2),
        (b"a: 1\n? [b]\n: c\n", 2),
        (b'{\n  "a": 1,\n  "a": 2\n}', 3),
        (b'{\n  "a": 1\n  "b": 2\n}', 3),
        (b"a:\n  " + b"[" * 5000, 2),
        (b'a: 1\nb: "\\U00110000"\n', 2),
        (b'{\n  "a":' + b"[" * 300 + b"]" * 300 + b"}", 2),
        (b"".join(b"k%d: 1\n" % at for at in range(20_000)), 9_999),
        (b"a: 1\n" * 300_000, 209_716),
    ],
)
def test_a_file_that_the_kubelet_would_not_take_is_refused_with_its_line(text: bytes, line: int) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        set_driver(text, Driver.SYSTEMD)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "value",
    ["&d cgroupfs", "*d", "!!str cgroupfs", "|\n  cgroupfs", ">-\n  cgroupfs"],
)
def test_a_value_with_strings_attached_is_left_to_the_operator(value: str) -> None:
    text = f"x: &d cgroupfs\ncgroupDriver: {value}\n"
    with pytest.raises(UnsupportedShapeError) as caught:
        set_driver(text.encode(), Driver.SYSTEMD)
    assert caught.value.line == 2


NAMES = st.sampled_from(["kind2", "address", "clusterDNS", "evictionHard", "x y", "cgroupDriver2", "z"])
SCALARS = st.sampled_from(
    ["1", "true", "'a: b'", '"q\\n"', "/etc/x", "~", "", "0s", "[a, b]", "{c: d}", "*none"][:-1]
)
BLOCKS = st.sampled_from(
    ["\n- a\n- b", "\n  c: d\n  e:\n  - f", " |\n  text\n  more", " >-\n  x\n", "  # remark"]
)


@st.composite
def kubelet_files(draw: st.DrawFn) -> bytes:
    lines = [
        f"{name}:" + draw(st.one_of(SCALARS.map(lambda value: f" {value}"), BLOCKS))
        for name in draw(st.lists(NAMES, unique=True, max_size=5))
    ]
    driver = draw(
        st.sampled_from([None, "cgroupfs", "'cgroupfs'", '"systemd"', "systemd   # why", "cgroupfs"])
    )
    if driver:
        lines.insert(draw(st.integers(0, len(lines))), f"cgroupDriver: {driver}")
    lines = [line for one in lines for line in (*draw(st.sampled_from([(), ("",), ("# remark",)])), one)]
    text = "\n".join(
        [draw(st.sampled_from(["kind: KubeletConfiguration", "---\nkind: KubeletConfiguration"])), *lines]
    )
    text += draw(st.sampled_from(["", "\n", "\n\n# end\n", "\n# end"]))
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))).encode()


@given(kubelet_files(), st.sampled_from(list(Driver)))
@settings(deadline=None)
def test_one_key_changes_and_every_line_outside_the_edit_stays(text: bytes, driver: Driver) -> None:
    edited = set_driver(text, driver)
    before, after = (YAML(typ="safe", pure=True).load(data.decode()) for data in (text, edited.text))
    assert {**before, "cgroupDriver": 0} == {**after, "cgroupDriver": 0}
    assert after["cgroupDriver"] == driver == read(edited.text).cgroup_driver
    assert set_driver(edited.text, driver).edits == ()
    old, new = text.split(b"\n"), edited.text.split(b"\n")
    for edit in edited.edits:
        assert b"cgroupDriver" in new[edit.line - 1]
        kept = new[: edit.line - 1] + new[edit.line :]
        gone = [] if edit.before is None else [old[edit.line - 1]]
        assert [line.rstrip(b"\r") for line in old if line not in gone] == [
            line.rstrip(b"\r") for line in kept
        ]


@given(kubelet_files())
@settings(deadline=None)
def test_setting_it_back_gives_the_original_bytes_where_the_key_was_there(text: bytes) -> None:
    old = read(text).cgroup_driver
    if old:
        other = Driver.SYSTEMD if old == "cgroupfs" else Driver.CGROUPFS
        assert set_driver(set_driver(text, other).text, Driver(old)).text == text


@given(
    st.dictionaries(
        st.text(max_size=6).filter("kind".__ne__), st.text(max_size=6) | st.integers(), max_size=4
    ),
    st.sampled_from([None, 2, "\t"]),
)
@settings(deadline=None)
def test_json_is_json_afterwards(data: dict[str, object], indent: int | str | None) -> None:
    text = json.dumps(data, indent=indent).encode()
    edited = set_driver(text, Driver.SYSTEMD)
    assert json.loads(edited.text) == {**data, "cgroupDriver": "systemd"}
    assert set_driver(edited.text, Driver.SYSTEMD).edits == ()


@given(st.binary(max_size=40) | st.text(alphabet="a:- \n[]{}&*!|>'\"#?%,~\t.1", max_size=40).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_junk_is_a_syntax_error_and_nothing_worse(junk: bytes) -> None:
    try:
        assert read(set_driver(junk, Driver.SYSTEMD).text).cgroup_driver == "systemd"
    except ConfigSyntaxError as error:
        lines = range(1, junk.count(b"\n") + junk.count(b"\r") + 2 + 1)
        if error.line not in lines:
            raise

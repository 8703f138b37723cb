# SPDX-License-Identifier: Apache-2.0
"""config.toml: SystemdCgroup of every runc handler, in every spelling and version that the field has."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.cgroups import Driver
from migrator.configs import ConfigSyntaxError, Edit, Edited, UnsupportedShapeError, containerd
from migrator.configs.containerd import ContainerdConfig, is_runc, read, unsettable


def settable(config: ContainerdConfig) -> tuple[str, ...]:
    """Return the handlers whose driver a file alone decides, with `runc` where containerd's default makes it one."""
    named = [name for name, handler in config.handlers.items() if is_runc(handler)]
    is_default = config.default_runtime_name in {None, "", "runc"}
    return tuple(named + ["runc"] * (is_default and "runc" not in config.handlers))


def set_all(text: bytes | None, driver: Driver) -> Edited:
    """Set the driver of every handler that a file alone decides."""
    return containerd.set_driver(text, driver, settable(read(text)))


V2 = 'plugins."io.containerd.grpc.v1.cri"'
V3 = "plugins.'io.containerd.cri.v1.runtime'"

# The shape of `containerd config default` of 1.6, shortened.
DEFAULT_16 = f"""\
disabled_plugins = []
imports = []
oom_score = 0
plugin_dir = ""
required_plugins = []
root = "/var/lib/containerd"
state = "/run/containerd"
temp = ""
version = 2

[cgroup]
  path = ""

[grpc]
  address = "/run/containerd/containerd.sock"
  gid = 0
  max_recv_message_size = 16777216
  tcp_tls_key = ""

[plugins]

  [plugins."io.containerd.gc.v1.scheduler"]
    deletion_threshold = 0
    pause_threshold = 0.02

  [{V2}]
    device_ownership_from_security_context = false
    sandbox_image = "registry.k8s.io/pause:3.6"
    systemd_cgroup = false

    [{V2}.cni]
      bin_dir = "/opt/cni/bin"

    [{V2}.containerd]
      default_runtime_name = "runc"
      snapshotter = "overlayfs"

      [{V2}.containerd.default_runtime]
        runtime_type = ""

        [{V2}.containerd.default_runtime.options]

      [{V2}.containerd.runtimes]

        [{V2}.containerd.runtimes.runc]
          base_runtime_spec = ""
          container_annotations = []
          runtime_type = "io.containerd.runc.v2"

          [{V2}.containerd.runtimes.runc.options]
            BinaryName = ""
            NoPivotRoot = false
            SystemdCgroup = false

      [{V2}.containerd.untrusted_workload_runtime]
        runtime_type = ""

    [{V2}.registry]

      [{V2}.registry.configs]

[timeouts]
  "io.containerd.timeout.shim.cleanup" = "5s"
"""

# What nvidia-ctk makes of such a file: its own quotes, its own options.
NVIDIA = f"""\
version = 2

[plugins]

  [{V2}]

    [{V2}.containerd]
      default_runtime_name = "nvidia"

      [{V2}.containerd.runtimes]

        [{V2}.containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"

          [{V2}.containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
            SystemdCgroup = false

        [{V2}.containerd.runtimes.nvidia-cdi]
          runtime_type = "io.containerd.runc.v2"

          [{V2}.containerd.runtimes.nvidia-cdi.options]
            BinaryName = "/usr/bin/nvidia-container-runtime.cdi"

        [{V2}.containerd.runtimes.kata]
          runtime_type = "io.containerd.kata.v2"

        [{V2}.containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"

  [{V2}.registry]
    config_path = "/etc/containerd/certs.d"
"""

NVIDIA_SET = f"""\
version = 2

[plugins]

  [{V2}]

    [{V2}.containerd]
      default_runtime_name = "nvidia"

      [{V2}.containerd.runtimes]

        [{V2}.containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"

          [{V2}.containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
            SystemdCgroup = true

        [{V2}.containerd.runtimes.nvidia-cdi]
          runtime_type = "io.containerd.runc.v2"

          [{V2}.containerd.runtimes.nvidia-cdi.options]
            BinaryName = "/usr/bin/nvidia-container-runtime.cdi"
            SystemdCgroup = true

        [{V2}.containerd.runtimes.kata]
          runtime_type = "io.containerd.kata.v2"

        [{V2}.containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"

          [{V2}.containerd.runtimes.runc.options]
            SystemdCgroup = true

  [{V2}.registry]
    config_path = "/etc/containerd/certs.d"
"""

NEW_V2 = f"""\
version = 2

[{V2}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{V2}.containerd.runtimes.runc.options]
  SystemdCgroup = true
"""

DEBIAN = f"""\
version = 2

[plugins]
  [{V2}]
    [{V2}.cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
"""

DEBIAN_SET = f"""\
version = 2

[plugins]
  [{V2}]
    [{V2}.cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"

    [{V2}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [{V2}.containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
"""

# name, before, after
EDITS: list[tuple[str, str | None, str]] = [
    ("no file", None, NEW_V2),
    ("an empty file", "", NEW_V2),
    ("a file of comments", "# ours\n", "# ours\n" + NEW_V2),
    ("the default of 1.6", DEFAULT_16, DEFAULT_16.replace("SystemdCgroup = false", "SystemdCgroup = true")),
    ("nvidia handlers", NVIDIA, NVIDIA_SET),
    ("Debian's file", DEBIAN, DEBIAN_SET),
    (
        "version 1, as docker's package ships it",
        '# comment\n\ndisabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n',
        (
            '# comment\n\ndisabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n\n'
            '[plugins.cri.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n\n'
            "[plugins.cri.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n"
        ),
    ),
    (
        "version 1 in place",
        (
            '[plugins.cri.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v1"\n'
            "[plugins.cri.containerd.runtimes.runc.options]\nSystemdCgroup=false # why\n"
        ),
        (
            '[plugins.cri.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v1"\n'
            "[plugins.cri.containerd.runtimes.runc.options]\nSystemdCgroup=true # why\n"
        ),
    ),
    (
        "version 3, single quotes kept in the new header",
        f"version = 3\n[{V3}.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\n[debug]\nlevel = 'info'\n",
        (
            f"version = 3\n[{V3}.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\n"
            f"[{V3}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n\n[debug]\nlevel = 'info'\n"
        ),
    ),
    (
        "version 4, odd but valid headers",
        f"version = 4\n\t[ {V3.replace('.', ' . ', 1)} . containerd.\"runtimes\" . runc . options ] # odd\n\t  BinaryName = 'x'\n",
        (
            f"version = 4\n\t[ {V3.replace('.', ' . ', 1)} . containerd.\"runtimes\" . runc . options ] # odd\n\t  BinaryName = 'x'\n"
            "\t  SystemdCgroup = true\n"
        ),
    ),
    (
        "an options table that is empty, with the default commented",
        f"version = 2\n[{V2}.containerd.runtimes.runc.options]\n  # SystemdCgroup = false\n",
        f"version = 2\n[{V2}.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n  # SystemdCgroup = false\n",
    ),
    (
        "dotted keys",
        f"version = 2\n[{V2}.containerd.runtimes]\nrunc.runtime_type = 'io.containerd.runc.v2'\nrunc.options.BinaryName='runc'\n",
        (
            f"version = 2\n[{V2}.containerd.runtimes]\nrunc.runtime_type = 'io.containerd.runc.v2'\nrunc.options.BinaryName='runc'\n"
            "runc.options.SystemdCgroup=true\n"
        ),
    ),
    (
        "dotted keys without options",
        f"version = 2\n[{V2}.containerd]\nruntimes.'runc'.runtime_type = 'io.containerd.runc.v2'\n",
        (
            f"version = 2\n[{V2}.containerd]\nruntimes.'runc'.runtime_type = 'io.containerd.runc.v2'\n"
            "runtimes.'runc'.options.SystemdCgroup = true\n"
        ),
    ),
    (
        "one dotted key at the top",
        f"version=2\n{V2}.containerd.runtimes.runc.options.SystemdCgroup=false",
        f"version=2\n{V2}.containerd.runtimes.runc.options.SystemdCgroup=true",
    ),
    (
        "inline tables",
        (
            f"version = 2\n[{V2}.containerd.runtimes]\nrunc = {{ runtime_type = 'io.containerd.runc.v2' }}\n"
            "crun = { runtime_type = 'io.containerd.runc.v2', options = { BinaryName = '}', SystemdCgroup = false } }\n"
        ),
        (
            f"version = 2\n[{V2}.containerd.runtimes]\n"
            "runc = { runtime_type = 'io.containerd.runc.v2', options = { SystemdCgroup = true } }\n"
            "crun = { runtime_type = 'io.containerd.runc.v2', options = { BinaryName = '}', SystemdCgroup = true } }\n"
        ),
    ),
    (
        "CRLF and a byte order mark",
        f"\ufeffversion = 2\r\n[{V2}.containerd.runtimes.runc.options]\r\n\tBinaryName = ''\r\n",
        f"\ufeffversion = 2\r\n[{V2}.containerd.runtimes.runc.options]\r\n\tBinaryName = ''\r\n\tSystemdCgroup = true\r\n",
    ),
    (
        "no newline at the end",
        f"version = 2\n[{V2}.containerd.runtimes.runc.options]\nBinaryName = ''",
        f"version = 2\n[{V2}.containerd.runtimes.runc.options]\nBinaryName = ''\nSystemdCgroup = true",
    ),
    (
        "a text that looks like a table",
        (
            f'version = 2\nroot = """\n[{V2}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n"""\n'
            f"[{V2}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n"
        ),
        (
            f'version = 2\nroot = """\n[{V2}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n"""\n'
            f"[{V2}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
        ),
    ),
    (
        "a runtime that 1.x calls default",
        f'version = 2\n[{V2}.containerd.default_runtime]\nruntime_type = "io.containerd.runc.v1"\n',
        (
            f'version = 2\n[{V2}.containerd.default_runtime]\nruntime_type = "io.containerd.runc.v1"\n\n'
            f"[{V2}.containerd.default_runtime.options]\nSystemdCgroup = true\n"
        ),
    ),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_every_runc_handler_is_set_and_nothing_else_changes(before: str | None, after: str) -> None:
    edited = set_all(before.encode() if before is not None else None, Driver.SYSTEMD)
    assert edited.text.decode() == after
    config = read(edited.text)
    assert {name: config.handlers[name].driver for name in settable(config)} == dict.fromkeys(
        settable(config),
        Driver.SYSTEMD,
    )
    again = set_all(edited.text, Driver.SYSTEMD)
    assert (again.text, again.edits) == (edited.text, ())


@pytest.mark.parametrize("name", ["the default of 1.6", "version 1 in place", "one dotted key at the top"])
def test_setting_it_back_gives_the_original_bytes_where_the_key_was_there(name: str) -> None:
    before = next(row[1] for row in EDITS if row[0] == name)
    assert before is not None
    edited = set_all(before.encode(), Driver.SYSTEMD)
    assert set_all(edited.text, Driver.CGROUPFS).text == before.encode()


def test_edits_name_key_values_and_line() -> None:
    assert set_all(NVIDIA.encode(), Driver.SYSTEMD).edits == (
        Edit(f"{V2}.containerd.runtimes.nvidia.options.SystemdCgroup", "false", "true", 18),
        Edit(f"{V2}.containerd.runtimes.nvidia-cdi.options.SystemdCgroup", None, "true", 25),
        Edit(f"{V2}.containerd.runtimes.runc.options.SystemdCgroup", None, "true", 34),
    )
    assert set_all(None, Driver.SYSTEMD).edits == (
        Edit("version", None, "2", 1),
        Edit(f"{V2}.containerd.runtimes.runc.runtime_type", None, "io.containerd.runc.v2", 4),
        Edit(f"{V2}.containerd.runtimes.runc.options.SystemdCgroup", None, "true", 7),
    )


def test_a_file_can_be_made_for_a_newer_containerd() -> None:
    text = containerd.set_driver(None, Driver.SYSTEMD, ["runc"], new_version=3).text
    assert tomllib.loads(text.decode()) == {
        "version": 3,
        "plugins": {
            "io.containerd.cri.v1.runtime": {
                "containerd": {
                    "runtimes": {
                        "runc": {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
                    },
                },
            },
        },
    }


def test_the_default_of_1_6_is_read() -> None:
    config = read(DEFAULT_16.encode())
    assert config.version == 2
    assert config.has_version
    assert config.has_cri_section
    assert list(config.handlers) == ["runc"]
    assert config.handlers["runc"].runtime_type == "io.containerd.runc.v2"
    assert config.handlers["runc"].driver is Driver.CGROUPFS
    assert (
        config.handlers["runc"].line == DEFAULT_16.split("\n").index("            SystemdCgroup = false") + 1
    )
    assert config.default_runtime_name == "runc"
    assert config.sandbox_image == "registry.k8s.io/pause:3.6"
    assert config.legacy_systemd_cgroup is False
    assert config.grpc_address == "/run/containerd/containerd.sock"
    assert (config.root, config.state) == ("/var/lib/containerd", "/run/containerd")
    assert (config.imports, config.disabled_plugins, config.ignored_cri_tables) == ((), (), ())
    assert config.lines == {
        "version": 9,
        "imports": 2,
        "disabled_plugins": 1,
        "default_runtime_name": 35,
        "systemd_cgroup": 29,
    }


def test_versions_3_and_4_are_read() -> None:
    text = f"""\
version = {{}}
imports = ['/etc/containerd/conf.d/*.toml']
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.k8s.io/pause:3.10'
[{V3}.containerd]
  default_runtime_name = 'crun'
  [{V3}.containerd.runtimes.crun]
    runtime_type = 'io.containerd.runc.v2'
    [{V3}.containerd.runtimes.crun.options]
      BinaryName = '/usr/bin/crun'
      SystemdCgroup = true
[plugins.'io.containerd.server.v1.grpc']
  address = '/run/x.sock'
"""
    for version in (3, 4):
        config = read(text.replace("{}", str(version)).encode())
        assert config.version == version
        assert config.imports == ("/etc/containerd/conf.d/*.toml",)
        assert config.sandbox_image == "registry.k8s.io/pause:3.10"
        assert config.handlers["crun"].binary_name == "/usr/bin/crun"
        assert config.handlers["crun"].driver is Driver.SYSTEMD
        assert config.grpc_address == "/run/x.sock"
        assert settable(config) == ("crun",)


def test_tables_of_another_version_are_told_because_containerd_ignores_them() -> None:
    without_version = f"[{V2}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n".encode()
    config = read(without_version)
    assert (config.version, config.has_version, config.has_cri_section) == (1, False, False)
    assert config.ignored_cri_tables == (V2,)
    assert config.handlers == {}


def test_look_alikes_of_the_key_are_told() -> None:
    text = f"version = 2\n[{V2}.containerd.runtimes.runc.options]\nBinaryName = ''\nsystemd_cgroup = true\n".encode()
    assert read(text).handlers["runc"].misspelt == ("systemd_cgroup",)
    assert read(text).handlers["runc"].driver is None
    assert read(text).handlers["runc"].line == 4
    assert set_all(text, Driver.SYSTEMD).text == text + b"SystemdCgroup = true\n"


def test_a_key_in_another_letter_case_is_left_to_the_operator() -> None:
    text = f"version = 2\n[{V2}.containerd.runtimes.runc.options]\nsystemdCgroup = false\n".encode()
    with pytest.raises(UnsupportedShapeError, match="spell it SystemdCgroup") as caught:
        set_all(text, Driver.SYSTEMD)
    assert caught.value.line == 3


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ('runtime_type = "io.containerd.kata.v2"', "no runc"),
        ('runtime_type = "io.containerd.runsc.v1"', "no runc"),
        ('runtime_type = "io.containerd.runtime.v1.linux"', "systemd_cgroup"),
        ('runtime_root = ""', "no runtime_type"),
    ],
)
def test_handlers_of_another_kind_are_skipped_and_refused_by_name(kind: str, reason: str) -> None:
    text = f"version = 2\n[{V2}.containerd.runtimes.other]\n{kind}\n".encode()
    config = read(text)
    assert reason in str(unsettable(config.handlers["other"]))
    assert settable(config) == ("runc",)
    with pytest.raises(UnsupportedShapeError, match=reason) as caught:
        containerd.set_driver(text, Driver.SYSTEMD, ["other"])
    assert caught.value.line == 2


def test_only_the_named_handlers_are_set() -> None:
    edited = containerd.set_driver(NVIDIA.encode(), Driver.SYSTEMD, ["nvidia-cdi"])
    assert [edit.line for edit in edited.edits] == [25]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"version = 2\nversion = 2\n", 2),
        (b"version = 2\n[plugins\n", 2),
        (b"version = 2\n[plugins]\n[plugins]\n", 3),
        (b"version = 5\n", 1),
        (b"# x\nversion = '2'\n", 2),
        (b"version = true\n", 1),
        (b"version = 2\nimports = 'x'\n", 2),
        (b"version = 2\n[plugins]\n'io.containerd.grpc.v1.cri'.systemd_cgroup = 'true'\n", 3),
        (f"version = 2\n[{V2}.containerd]\nruntimes = 1\n".encode(), 3),
        (f"version = 2\n[{V2}.containerd.runtimes]\nrunc = 1\n".encode(), 3),
        (f"version = 2\n[{V2}.containerd.runtimes.runc]\noptions = 1\n".encode(), 3),
        (f"version = 2\n[{V2}.containerd.runtimes.runc.options]\nSystemdCgroup = 'true'\n".encode(), 3),
        (b"version = 2\nx = '\xff'\n", 2),
        (b"version = 2\nx = " + b"[" * 5000 + b"\n", 2),
        (b"version = 2\nx = " + b"1" * 5000 + b"\n", 2),
        (b"version = 2\nx = " + b"[" * 100 + b"]" * 100 + b"\n", 2),
        (b"version = 2\n" + b"x." * 10_000 + b"x = 1\n", 2),
        (b"version = 2\n[" + b"x." * 10_000 + b"x]\n", 2),
        (b"version = 2\nx = 2024-13-45\n", 2),
        (b"version = 2\nplugins = 1\n", 2),
    ],
)
def test_a_file_that_containerd_would_not_take_is_refused_with_its_line(text: bytes, line: int) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        set_all(text, Driver.SYSTEMD)
    assert caught.value.line == line


PARTS = [
    "[grpc]\n  address = '/x' # a\n",
    "[[stream]]\n  name = 'a'\n[[stream]]\n  name = 'b'\n",
    '[CRI]\n  sandbox_image = "p"\n',
    "  [CRI.cni]\n    bin_dir = '/b'\n\n",
    "[CRI.containerd]\n# remark\n",
    "[CRI.containerd]\nruntimes = {}\n",
    "[CRI.containerd.runtimes]\nrunc = {runtime_type='io.containerd.runc.v2'}\n",
    "[CRI.containerd.runtimes]\n  nvidia.options.BinaryName = 'n'\n  nvidia.runtime_type = 'io.containerd.runc.v2'\n",
    "    [CRI.containerd.runtimes.runc]\n      runtime_type = 'io.containerd.runc.v2'\n",
    "      [CRI.containerd.runtimes.runc.options]\n        SystemdCgroup = false\n        NoPivotRoot = false\n",
    '[CRI.containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n',
    "[CRI.containerd.runtimes.'odd name.x']\nruntime_type = 'io.containerd.runc.v1'\noptions = {}\n",
    "[timeouts]\n'a.b' = \"5s\"\nlist = [ # of\n  '[x]', # two\n  'y',\n]\n",
    "# SystemdCgroup = true\n",
]


@st.composite
def containerd_files(draw: st.DrawFn) -> bytes:
    version, cri = draw(
        st.sampled_from(
            [("", "plugins.cri"), ("version = 2\n", V2), ("version = 3\n", V3), ("version = 4 # x\n", V3)]
        ),
    )
    parts = draw(st.lists(st.sampled_from(PARTS), unique=True, max_size=6))
    text = version + "".join(parts).replace("CRI", cri)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        text = version + parts[0].replace("CRI", cri)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return (
        draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    ).encode()


@given(containerd_files(), st.sampled_from(list(Driver)))
@settings(deadline=None, max_examples=200)
def test_only_the_driver_of_the_handlers_changes_and_every_other_line_stays(
    text: bytes, driver: Driver
) -> None:
    wanted = settable(read(text))
    edited = set_all(text, driver)
    config = read(edited.text)
    assert {config.handlers[name].driver for name in wanted} <= {driver}
    assert set_all(edited.text, driver).edits == ()
    new = edited.text.decode().replace("\r\n", "\n").split("\n")
    for edit in edited.edits:
        assert edit.path_in_file.rsplit(".", 1)[-1] in new[edit.line - 1]
    touched = {new[edit.line - 1] for edit in edited.edits}
    old = [line for line in text.decode().replace("\r\n", "\n").split("\n") if line]
    gone = [line for line in old if line not in new]
    assert len(gone) <= len(touched)
    kept = iter(new)
    assert all(line in kept for line in old if line not in gone)
    assert (b"\r\n" in edited.text) == (b"\r\n" in text)


@given(st.binary(max_size=60) | st.text(alphabet="[]{}=.,'\"# \n\rplugins12-\\", max_size=60).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_junk_is_a_syntax_error_and_nothing_worse(junk: bytes) -> None:
    try:
        assert read(set_all(junk, Driver.SYSTEMD).text).handlers["runc"].systemd_cgroup
    except ConfigSyntaxError as error:
        lines = range(1, junk.count(b"\n") + 1 + 1)
        if error.line not in lines:
            raise

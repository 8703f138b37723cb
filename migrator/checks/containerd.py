# SPDX-License-Identifier: Apache-2.0
"""Checks of containerd's configuration: its versions, plugins, handlers and imports."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.checks.base import BLOCKER, INFO, WARNING, Check, command, version
from migrator.configs.containerd import DEFAULT_HANDLER, RUNC_TYPES, is_runc
from migrator.configs.gvisor import RUNTIME_TYPE as GVISOR
from migrator.facts.model import Facts, Handler
from migrator.findings import Finding

RUNC_V2 = "io.containerd.runc.v2"

CRI_PLUGINS = frozenset({"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"})
"""Names under which containerd's CRI plugin can be disabled, over its configuration versions (failure-modes 2.2)."""


def containerd_config_version_missing(facts: Facts) -> Iterator[Finding]:
    """Find a containerd configuration that is read as version 1."""
    runtime = facts.runtime
    present = any(each.present and each.path == runtime.config_file for each in facts.files)
    if runtime.kind == "containerd" and present and runtime.config_version == 1:
        yield Finding(
            id="containerd-config-version-missing",
            severity=WARNING,
            subject=runtime.config_file,
            summary="the file is read as configuration version 1, so tables of version 2 have no effect",
            detail="Without a `version` line containerd takes version 1. The plan writes the tables of the version "
            "that containerd really reads.",
            remediation=command("containerd", "config", "dump"),
            reference="F13",
        )


def containerd_key_misspelt(facts: Facts) -> Iterator[Finding]:
    """Find keys of a handler that look like SystemdCgroup and are not."""
    for each in facts.runtime.handlers:
        if facts.runtime.kind == "containerd" and each.misspelt:
            yield Finding(
                id="containerd-key-misspelt",
                severity=WARNING,
                subject=_place(each),
                summary=f"{', '.join(each.misspelt)} of handler {each.name} is not the key SystemdCgroup",
                detail="containerd says `Ignoring unknown key in TOML` and goes on with the default, which is cgroupfs.",
                remediation="spell it SystemdCgroup, or take it out",
                reference="F13",
            )


def containerd_tables_ignored(facts: Facts) -> Iterator[Finding]:
    """Find CRI tables that containerd passes over because the file is of another version."""
    runtime = facts.runtime
    if runtime.kind == "containerd" and runtime.ignored_cri_tables:
        yield Finding(
            id="containerd-tables-ignored",
            severity=WARNING,
            subject=runtime.config_file,
            summary=f"containerd reads version {runtime.config_version} and ignores "
            + ", ".join(runtime.ignored_cri_tables),
            detail="What stands there has no effect, and nothing says so. The plan writes the tables that count.",
            remediation=command("containerd", "config", "dump"),
            reference="F13",
        )


def runtime_type_missing(facts: Facts) -> Iterator[Finding]:
    """Find handlers that are written down without their type; since 2.0 the table of runc is merged with the built-in one."""
    running = version(facts.runtime.version)
    merged = facts.runtime.config_version >= 3 or (running is not None and running >= (2, 0))
    for each in facts.runtime.handlers:
        if (
            facts.runtime.kind == "containerd"
            and each.path
            and not each.runtime_type
            and not (merged and each.name == DEFAULT_HANDLER)
        ):
            yield Finding(
                id="runtime-type-missing",
                severity=WARNING,
                subject=_place(each),
                summary=f"handler {each.name} is written down without a runtime_type",
                detail="A table that is written by hand replaces the built-in one with all its keys, "
                "so its options, SystemdCgroup among them, belong to no runtime.",
                remediation=f'runtime_type = "{RUNC_V2}"',
                reference="F13",
            )


def _place(handler: Handler) -> str:
    return f"{handler.path}:{handler.line}" if handler.line else handler.path or f"handler {handler.name}"


def cri_disabled(facts: Facts) -> Iterator[Finding]:
    """Find containerd's CRI plugin switched off."""
    disabled = sorted(CRI_PLUGINS.intersection(facts.runtime.disabled_plugins))
    if facts.runtime.kind == "containerd" and disabled:
        yield Finding(
            id="cri-disabled",
            severity=BLOCKER,
            subject=facts.runtime.config_file,
            summary=f"disabled_plugins holds {', '.join(disabled)}: the kubelet cannot talk to this containerd",
            detail="The kubelet fails with `unknown service runtime.v1.RuntimeService`.",
            remediation="remove it from disabled_plugins, then "
            + command("systemctl", "restart", "containerd"),
            reference="F12",
        )


def legacy_systemd_cgroup(facts: Facts) -> Iterator[Finding]:
    """Find the old setting systemd_cgroup, which keeps the CRI plugin from loading."""
    if facts.runtime.kind == "containerd" and facts.runtime.legacy_systemd_cgroup:
        yield Finding(
            id="legacy-systemd-cgroup",
            severity=BLOCKER,
            subject=facts.runtime.config_file,
            summary="`systemd_cgroup = true` in the CRI table keeps the CRI plugin from loading with runc v2",
            detail="It is not the driver of today's runc; that is SystemdCgroup in the options of each handler.",
            remediation="remove the line `systemd_cgroup = true`",
            reference="F12",
        )


def runc_handlers(facts: Facts) -> list[Handler]:
    """Return containerd's handlers that take their driver from SystemdCgroup; other runtimes have none."""
    return (
        [each for each in facts.runtime.handlers if is_runc(each)]
        if facts.runtime.kind == "containerd"
        else []
    )


def _default(facts: Facts) -> Handler | None:
    return next((each for each in facts.runtime.handlers if each.is_default), None)


def _on_another_driver(facts: Facts) -> list[Handler]:
    """Return the runc handlers whose driver is not the default handler's; nothing stated is false."""
    default = _default(facts)
    if default is None:
        return []
    return [
        each for each in runc_handlers(facts) if bool(each.systemd_cgroup) != bool(default.systemd_cgroup)
    ]


def handlers_differ(facts: Facts) -> Iterator[Finding]:
    """Find handlers that are ahead of the default handler."""
    default = _default(facts)
    if default is None or default.systemd_cgroup:
        return
    for each in _on_another_driver(facts):
        yield Finding(
            id="handlers-differ",
            severity=WARNING,
            subject=f"handler {each.name}",
            summary=f"handler {each.name} uses systemd while the default handler {default.name} uses cgroupfs",
            detail="Pods of its runtime class fail now: runc expects slice:prefix:name and is given a path. "
            "The plan sets every runc handler alike.",
            reference="F11",
        )


def handler_left(facts: Facts) -> Iterator[Finding]:
    """Find handlers that stayed on cgroupfs when the default handler moved."""
    default = _default(facts)
    if default is None or not default.systemd_cgroup:
        return
    for each in _on_another_driver(facts):
        yield Finding(
            id="handler-left",
            severity=WARNING,
            subject=f"handler {each.name}",
            summary=f"handler {each.name} was left on cgroupfs while the default handler {default.name} uses systemd",
            detail="Pods of its runtime class run in literal `...slice:cri-containerd:<id>` cgroups, "
            "outside the limits of their pods, and nothing says so.",
            remediation=f"set SystemdCgroup = true in the options of handler {command(each.name)}, restart containerd, "
            "and delete the pods that use it",
            reference="F11",
        )


def handler_own_setting(facts: Facts) -> Iterator[Finding]:
    """Find handlers whose driver is set in a file of their own."""
    for each in facts.runtime.handlers:
        if facts.runtime.kind == "containerd" and each.runtime_type not in {*RUNC_TYPES, "", GVISOR}:
            yield Finding(
                id="handler-own-setting",
                severity=WARNING,
                subject=f"handler {each.name}",
                summary=f"handler {each.name} ({each.runtime_type}) is not runc: its driver is not set by containerd",
                detail="Kata has a file of its own, and so may others. The plan does not change it.",
                remediation="check its own configuration before pods of its runtime class come back",
                reference="F11",
            )


def default_handler_missing(facts: Facts) -> Iterator[Finding]:
    """Find a default handler that no file makes, with which the CRI plugin does not load."""
    handlers = facts.runtime.handlers
    if facts.runtime.kind == "containerd" and handlers and _default(facts) is None:
        yield Finding(
            id="default-handler-missing",
            severity=BLOCKER,
            subject=facts.runtime.config_file,
            summary=f"the default handler is none of {', '.join(each.name for each in handlers)}: containerd's CRI does not load",
            detail="containerd 1.5 to 1.7 has no handler runc of its own once a file, or an import that replaces the CRI "
            "table, names other handlers. The log says `no corresponding runtime configured`.",
            remediation="add the handler beside the others, or name one of them in default_runtime_name",
            reference="F12",
        )


def imports_present(facts: Facts) -> Iterator[Finding]:
    """Find imports of containerd's configuration, which can override what is written in the main file."""
    imports = facts.runtime.imports
    if facts.runtime.kind != "containerd" or not imports:
        return
    running = version(facts.runtime.version)
    replaces = running is None or running < (2, 0)
    rule = (
        "Before 2.0 a plugin section in an import replaces the whole table of the main file."
        if replaces
        else "Imports are merged into the main file, and the later file wins."
    )
    yield Finding(
        id="imports-present",
        severity=WARNING if replaces else INFO,
        subject=facts.runtime.config_file,
        summary=f"containerd's configuration imports {', '.join(imports)}",
        detail=rule,
        remediation=command("containerd", "config", "dump"),
        reference="F14",
    )


CHECKS = (
    Check(
        "containerd-config-version-missing",
        (WARNING,),
        ("F13",),
        "containerd reads its configuration as version 1.",
        containerd_config_version_missing,
    ),
    Check(
        "containerd-key-misspelt",
        (WARNING,),
        ("F13",),
        "A key looks like SystemdCgroup and is not.",
        containerd_key_misspelt,
    ),
    Check(
        "containerd-tables-ignored",
        (WARNING,),
        ("F13",),
        "containerd passes over CRI tables of another version than its configuration's.",
        containerd_tables_ignored,
    ),
    Check(
        "runtime-type-missing",
        (WARNING,),
        ("F13",),
        "A handler is written down without its type.",
        runtime_type_missing,
    ),
    Check("cri-disabled", (BLOCKER,), ("F12",), "containerd's CRI plugin is switched off.", cri_disabled),
    Check(
        "legacy-systemd-cgroup",
        (BLOCKER,),
        ("F12",),
        "The old setting `systemd_cgroup` keeps the CRI plugin from loading.",
        legacy_systemd_cgroup,
    ),
    Check(
        "handlers-differ",
        (WARNING,),
        ("F11",),
        "A runtime handler already uses systemd while the default does not.",
        handlers_differ,
    ),
    Check(
        "handler-left",
        (WARNING,),
        ("F11",),
        "A runtime handler stayed on cgroupfs while the default uses systemd.",
        handler_left,
    ),
    Check(
        "handler-own-setting",
        (WARNING,),
        ("F11",),
        "A handler other than runc has its driver in a file of its own.",
        handler_own_setting,
    ),
    Check(
        "default-handler-missing",
        (BLOCKER,),
        ("F12",),
        "containerd's default handler is not there, and its CRI plugin does not load.",
        default_handler_missing,
    ),
    Check(
        "imports-present",
        (WARNING, INFO),
        ("F14",),
        "containerd's configuration imports other files.",
        imports_present,
    ),
)

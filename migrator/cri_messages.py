# SPDX-License-Identifier: Apache-2.0
"""The few CRI messages that cgmigrate sends and reads, made at run time: no generated code in the tree.

Numbers and names are those of Kubernetes' `cri-api`, `pkg/apis/runtime/v1/api.proto`; `v1alpha2` has the same. A field that is
not in the table is skipped by protobuf. On the wire a `map<string, string>` is a repeated message of key and value, and an enum
is an int32, and so they are written here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_PAIRS = "repeated Pair"

TABLE: dict[str, dict[str, tuple[int, str]]] = {
    "Pair": {"key": (1, "string"), "value": (2, "string")},
    "VersionRequest": {"version": (1, "string")},
    "VersionResponse": {"runtime_name": (2, "string"), "runtime_version": (3, "string")},
    "StatusRequest": {"verbose": (1, "bool")},
    "StatusResponse": {"status": (1, "RuntimeStatus"), "info": (2, _PAIRS)},
    "RuntimeStatus": {"conditions": (1, "repeated RuntimeCondition")},
    "RuntimeCondition": {
        "type": (1, "string"),
        "status": (2, "bool"),
        "reason": (3, "string"),
        "message": (4, "string"),
    },
    "RuntimeConfigRequest": {},
    "RuntimeConfigResponse": {"linux": (1, "LinuxRuntimeConfiguration")},
    "LinuxRuntimeConfiguration": {"cgroup_driver": (1, "int32")},
    "PodSandboxMetadata": {
        "name": (1, "string"),
        "uid": (2, "string"),
        "namespace": (3, "string"),
        "attempt": (4, "uint32"),
    },
    "PodSandbox": {
        "id": (1, "string"),
        "metadata": (2, "PodSandboxMetadata"),
        "state": (3, "int32"),
        "labels": (5, _PAIRS),
        "annotations": (6, _PAIRS),
    },
    "ListPodSandboxRequest": {},
    "ListPodSandboxResponse": {"items": (1, "repeated PodSandbox")},
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, "string"), "verbose": (2, "bool")},
    "PodSandboxStatusResponse": {"info": (2, _PAIRS)},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "RemovePodSandboxResponse": {},
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "uint32")},
    "Container": {
        "id": (1, "string"),
        "pod_sandbox_id": (2, "string"),
        "metadata": (3, "ContainerMetadata"),
        "state": (6, "int32"),
        "labels": (8, _PAIRS),
        "annotations": (9, _PAIRS),
    },
    "ListContainersRequest": {},
    "ListContainersResponse": {"containers": (1, "repeated Container")},
    "ContainerStatusRequest": {"container_id": (1, "string"), "verbose": (2, "bool")},
    "ContainerStatusResponse": {"info": (2, _PAIRS)},
    "StopContainerRequest": {"container_id": (1, "string"), "timeout": (2, "int64")},
    "StopContainerResponse": {},
    "RemoveContainerRequest": {"container_id": (1, "string")},
    "RemoveContainerResponse": {},
}
"""Message → field → (number, type)."""


@cache
def messages() -> dict[str, Any]:
    """Return the message classes by name."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 late

    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": kinds.TYPE_STRING,
        "bool": kinds.TYPE_BOOL,
        "int32": kinds.TYPE_INT32,
        "int64": kinds.TYPE_INT64,
        "uint32": kinds.TYPE_UINT32,
    }
    file = descriptor_pb2.FileDescriptorProto(name="cgmigrate/cri.proto", package="cri", syntax="proto3")
    for message_name, fields in TABLE.items():
        message = file.message_type.add(name=message_name)
        for name, (number, spelled) in fields.items():
            kind = spelled.removeprefix("repeated ")
            field = message.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if kind != spelled else kinds.LABEL_OPTIONAL
            field.type = scalars.get(kind, kinds.TYPE_MESSAGE)
            if kind not in scalars:
                field.type_name = f".cri.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"cri.{name}")) for name in TABLE
    }

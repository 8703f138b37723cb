# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities (`100m`, `1.5Gi`, `2e3`) as the numbers that a kubelet writes into a cgroup of v1."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

_QUANTITY = re.compile(r"\+?(\d{1,18}(?:\.\d{0,9})?|\.\d{1,9})([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,2}|)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_FEWEST_SHARES, _MOST_SHARES = 2, 1 << 18


def number(text: str) -> Decimal | None:
    """Return a quantity as a number; None where it is none (k8s apimachinery `resource.Quantity`)."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    value, suffix = Decimal(found[1]), found[2]
    if suffix in _BINARY:
        return value * _BINARY[suffix]
    return value.scaleb(_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:]))


def limits(reserved: Mapping[str, str]) -> dict[str, int]:
    """Return what the kubelet writes for `kubeReserved` or `systemReserved`, by the setting of a slice on cgroup v1.

    A quantity that is none is left out; so is what has no setting (ephemeral-storage, hugepages).
    """
    found: dict[str, int] = {}
    for resource, text in reserved.items():
        value = number(text)
        if value is None:
            continue
        if resource == "cpu":  # k8s MilliCPUToShares
            shares = math.ceil(value * 1000) * 1024 // 1000
            found["CPUShares"] = min(max(_FEWEST_SHARES, shares), _MOST_SHARES)
        elif resource == "memory" and value:  # of 0 the kubelet writes nothing
            found["MemoryLimit"] = math.ceil(value)
        elif resource == "pid" and value:
            found["TasksMax"] = math.ceil(value)
    return dict(sorted(found.items()))

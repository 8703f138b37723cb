# SPDX-License-Identifier: Apache-2.0
"""The two spellings of a resource limit: the kernel's cgroup files and systemd's unit properties.

A number is an `int`, "no limit" is `UNLIMITED` (systemd's own UINT64_MAX), and `None` is "this side states nothing",
which is no disagreement: systemd prints `[not set]` for what nobody ever asked of it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from fractions import Fraction

UNLIMITED = 2**64 - 1

_V1_MEMORY_MAX = 2**63 - 1  # the kernel rounds it down to its page size before it shows it
_CENT = 10_000
"""Microseconds per second in one percent of a CPU: the grain of a quota under systemd (runc#4622)."""

_SHARES = range(2, 262_145)
"""What the kernel takes for cpu.shares."""

# Units of systemd.time(7) that `systemctl show` prints, in microseconds.
_SPANS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
    "month": 2_629_800_000_000,
    "y": 31_557_600_000_000,
}
_SPAN = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*(us|ms|s|min|h|d|w|month|y)(?=[\s\d]|$)\s*", re.ASCII)


def parse_count(text: str) -> int | None:
    """Read a number as a cgroup file or `systemctl show` writes it.

    `max`, `infinity`, `-1` and UINT64_MAX are `UNLIMITED`; empty, `[not set]` and what is no number are None.
    """
    text = text.strip()
    if text in ("max", "infinity", "-1"):
        return UNLIMITED
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    return UNLIMITED if len(digits) > 20 else min(int(digits or "0"), UNLIMITED)


def parse_memory(text: str, page_size: int = 4096) -> int | None:
    """Read bytes of memory; v1's page-aligned LONG_MAX is `UNLIMITED` like `max` and `infinity`."""
    value = parse_count(text)
    return UNLIMITED if value is not None and value >= page_align(_V1_MEMORY_MAX, page_size) else value


def page_align(value: int, page_size: int = 4096) -> int:
    """Round bytes down to whole pages, as the kernel stores them and as systemd compares them."""
    return value - value % page_size


def memory_agrees(kernel: int, unit: int, page_size: int = 4096) -> bool:
    """Tell whether a memory limit in the kernel is the one systemd states: equal in whole pages."""
    if UNLIMITED in (kernel, unit):
        return kernel == unit
    return page_align(kernel, page_size) == page_align(unit, page_size)


def parse_time_span(text: str) -> int | None:
    """Read a time span as `systemctl show` prints it (`250ms`, `1.240000s`, `1min 4s`, `infinity`) in microseconds.

    None is `[not set]`, or no time span at all. A bare number is microseconds (`busctl` prints those).
    """
    text = text.strip()
    number = parse_count(text)
    if number is not None:
        return number
    total, at = Fraction(0), 0
    while at < len(text):
        found = _SPAN.match(text, at)
        if found is None:
            return None
        total += Fraction(found[1]) * _SPANS[found[2]]
        at = found.end()
    return min(math.floor(total), UNLIMITED) if text else None


def quota_per_second(quota: int, period: int) -> int:
    """Return CPUQuotaPerSecUSec for a CFS quota and period: rounded up to 1 % of a CPU.

    Args:
        quota: microseconds per period; `UNLIMITED` stays so.
        period: microseconds; 0 (a file nobody could read) counts as the kernel's default of 100,000.
    """
    if quota >= UNLIMITED:
        return UNLIMITED
    per_second = quota * 1_000_000 // (period or 100_000)
    return -(-per_second // _CENT) * _CENT


def quota_agrees(quota: int, period: int, per_second: int) -> bool:
    """Tell whether a quota in the kernel is the one systemd states.

    The file may hold the quota as asked for (runc before 1.3.2) or as rounded to 1 %; both round to one property.
    """
    return quota_per_second(quota, period) == per_second


def parse_cpu_max(text: str) -> tuple[int, int] | None:
    """Read v2 `cpu.max` (`max 100000`, `25000 100000`) as (quota, period) in microseconds."""
    words = text.split()
    quota = parse_count(words[0]) if words else None
    period = parse_count(words[1]) if len(words) == 2 else 100_000
    return None if quota is None or period is None else (quota, period)


def weight_linear(shares: int) -> int:
    """Convert v1 shares to a v2 weight by the older formula (kubelet; runc before 1.3.2, crun before 1.23)."""
    return 0 if shares == 0 else 1 + ((min(max(shares, 2), 262_144) - 2) * 9_999) // 262_142


def weight_quadratic(shares: int) -> int:
    """Convert v1 shares to a v2 weight by the newer formula, quadratic in log2, which maps 1024 to 100."""
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def weight_compat(shares: int) -> int:
    """Convert v1 shares to a v2 weight as systemd itself does between CPUShares= and CPUWeight=."""
    return min(max(shares * 100 // 1024, 1), 10_000)


def weights(shares: int) -> frozenset[int]:
    """Return every v2 weight that stands for these shares on a sound node.

    Kubelet and runtime may convert differently on one node, so all are right (k/k#131216, failure-modes 4.3).
    """
    return frozenset({weight_linear(shares), weight_quadratic(shares), weight_compat(shares)})


def weight_agrees(kernel: int, unit: int) -> bool:
    """Tell whether two v2 weights are one: equal, or made from the same shares by different formulas."""
    formulas = (weight_linear, weight_quadratic, weight_compat)
    return kernel == unit or any(
        max(first.start, second.start) < min(first.stop, second.stop)
        for first in (_shares_of(kernel, formula) for formula in formulas)
        for second in (_shares_of(unit, formula) for formula in formulas)
    )


def _shares_of(weight: int, formula: Callable[[int], int]) -> range:
    """Return the shares that a formula turns into this weight; every formula is monotone."""
    return range(
        bisect_left(_SHARES, weight, key=formula) + _SHARES.start,
        bisect_right(_SHARES, weight, key=formula) + _SHARES.start,
    )

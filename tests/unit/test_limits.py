# SPDX-License-Identifier: Apache-2.0
"""The kernel's and systemd's spellings of one limit mean the same number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.limits import (
    UNLIMITED,
    memory_agrees,
    parse_count,
    parse_cpu_max,
    parse_memory,
    parse_time_span,
    quota_agrees,
    quota_per_second,
    weight_agrees,
    weight_compat,
    weight_linear,
    weight_quadratic,
    weights,
)

SPANS = [
    ("250ms", 250_000),
    ("1s", 1_000_000),
    ("1.240000s", 1_240_000),
    ("1.24s", 1_240_000),
    ("10ms", 10_000),
    ("1.500ms", 1_500),
    ("1min 4s", 64_000_000),
    ("1min 4.500s", 64_500_000),
    ("1h", 3_600_000_000),
    ("1month 2w 3d", 2_629_800_000_000 + 2 * 604_800_000_000 + 3 * 86_400_000_000),
    ("1y", 31_557_600_000_000),
    ("7us", 7),
    ("0", 0),
    ("250000", 250_000),
    ("infinity", UNLIMITED),
    ("18446744073709551615", UNLIMITED),
    ("[not set]", None),
    ("", None),
    ("soon", None),
    ("1s ago", None),
    ("s", None),
    ("1parsec", None),
    ("9" * 5000, UNLIMITED),
    ("9" * 5000 + "s", None),
    ("1." + "9" * 5000 + "s", None),
]


@pytest.mark.parametrize(("text", "microseconds"), SPANS)
def test_a_time_span_of_systemctl_is_read_in_microseconds(text: str, microseconds: int | None) -> None:
    assert parse_time_span(text) == microseconds


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100", 100),
        ("100\n", 100),
        ("max", UNLIMITED),
        ("infinity", UNLIMITED),
        ("-1", UNLIMITED),
        ("18446744073709551615", UNLIMITED),
        ("99999999999999999999999", UNLIMITED),
        ("[not set]", None),
        ("", None),
        ("-7", None),
        ("٣", None),
        ("9" * 5000, UNLIMITED),
        ("0" * 5000 + "7", 7),
    ],
)
def test_a_count_is_read_as_file_and_property_write_it(text: str, number: int | None) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize(
    ("text", "page_size", "number"),
    [
        ("33554432", 4096, 33_554_432),
        ("9223372036854771712", 4096, UNLIMITED),
        ("9223372036854710272", 65_536, UNLIMITED),
        ("9223372036854710272", 4096, 9_223_372_036_854_710_272),
        ("max", 4096, UNLIMITED),
        ("0", 4096, 0),
        ("[not set]", 4096, None),
    ],
)
def test_the_most_that_v1_can_hold_is_no_limit(text: str, page_size: int, number: int | None) -> None:
    assert parse_memory(text, page_size) == number


@pytest.mark.parametrize(
    ("kernel", "unit", "agrees"),
    [
        (33_554_432, 33_554_432, True),
        (33_554_432, 33_554_433, True),
        (33_554_432, 33_554_432 + 4095, True),
        (33_554_432, 33_554_432 + 4096, False),
        (UNLIMITED, UNLIMITED, True),
        (33_554_432, UNLIMITED, False),
        (UNLIMITED, 33_554_432, False),
    ],
)
def test_memory_limits_agree_in_whole_pages(kernel: int, unit: int, agrees: bool) -> None:
    assert memory_agrees(kernel, unit) == agrees


@given(st.integers(0, 2**60), st.sampled_from([4096, 16_384, 65_536]))
def test_a_limit_agrees_with_what_the_kernel_makes_of_it(asked: int, page_size: int) -> None:
    assert memory_agrees(asked // page_size * page_size, asked, page_size)
    assert not memory_agrees(asked // page_size * page_size + page_size, asked, page_size)


QUOTAS = [
    # quota, period, CPUQuotaPerSecUSec, quota as written back by newer runc
    (25_000, 100_000, 250_000, 25_000),
    (123_456, 100_000, 1_240_000, 124_000),
    (1_000, 100_000, 10_000, 1_000),
    (1_001, 100_000, 20_000, 2_000),
    (50_000, 50_000, 1_000_000, 50_000),
    (33_333, 100_000, 340_000, 34_000),
    (UNLIMITED, 100_000, UNLIMITED, UNLIMITED),
]


@pytest.mark.parametrize(("quota", "period", "per_second", "written"), QUOTAS)
def test_a_quota_is_rounded_up_to_one_percent(quota: int, period: int, per_second: int, written: int) -> None:
    assert quota_per_second(quota, period) == per_second
    assert quota_agrees(quota, period, per_second)
    assert quota_agrees(written, period, per_second)


@given(st.integers(1_000, 10**9), st.integers(1_000, 1_000_000))
def test_rounding_a_quota_never_lowers_it_and_is_done_once(quota: int, period: int) -> None:
    per_second = quota_per_second(quota, period)
    assert per_second % 10_000 == 0
    assert 0 <= per_second - quota * 1_000_000 // period < 10_000
    assert quota_agrees(per_second * period // 1_000_000, period, per_second)
    assert not quota_agrees(quota, period, per_second + 10_000)
    assert not quota_agrees(quota, period, UNLIMITED)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("max 100000\n", (UNLIMITED, 100_000)),
        ("25000 100000", (25_000, 100_000)),
        ("25000", (25_000, 100_000)),
        ("", None),
        ("much 100000", None),
        ("25000 often", None),
    ],
)
def test_cpu_max_is_a_quota_and_a_period(text: str, pair: tuple[int, int] | None) -> None:
    assert parse_cpu_max(text) == pair


# shares, linear, quadratic, systemd's own: the table of failure-modes 4.3
WEIGHTS = [
    (0, 0, 0, 1),
    (2, 1, 1, 1),
    (10, 1, 4, 1),
    (102, 4, 17, 9),
    (204, 8, 29, 19),
    (256, 10, 35, 25),
    (512, 20, 59, 50),
    (1024, 39, 100, 100),
    (2048, 79, 174, 200),
    (4096, 157, 303, 400),
    (8192, 313, 532, 800),
    (262_144, 10_000, 10_000, 10_000),
]


@pytest.mark.parametrize(("shares", "linear", "quadratic", "compat"), WEIGHTS)
def test_shares_become_a_weight_by_either_formula(
    shares: int, linear: int, quadratic: int, compat: int
) -> None:
    assert (weight_linear(shares), weight_quadratic(shares), weight_compat(shares)) == (
        linear,
        quadratic,
        compat,
    )
    assert weights(shares) == {linear, quadratic, compat}


@given(st.integers(2, 300_000), st.integers(2, 300_000))
def test_more_shares_never_weigh_less(some: int, other: int) -> None:
    less, more = sorted((some, other))
    for formula in (weight_linear, weight_quadratic, weight_compat):
        assert 1 <= formula(less) <= formula(more) <= 10_000


@given(st.integers(2, 262_144))
def test_weights_of_the_same_shares_agree_whoever_converted_them(shares: int) -> None:
    found = weights(shares)
    assert all(weight_agrees(kernel, unit) for kernel in found for unit in found)


@pytest.mark.parametrize(
    ("kernel", "unit", "agrees"),
    [
        (39, 100, True),
        (100, 39, True),
        (4, 17, True),
        (1, 9, False),
        (39, 174, False),
        (100, 10_000, False),
        (7, 7, True),
        (0, 100, False),
        (10_001, 10_001, True),
    ],
)
def test_weights_of_different_shares_do_not_agree(kernel: int, unit: int, agrees: bool) -> None:
    assert weight_agrees(kernel, unit) == agrees


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str) -> None:
    for parse in (parse_count, parse_memory, parse_time_span, parse_cpu_max):
        parse(text)

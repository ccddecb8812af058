"""The wait before a retry stays within its policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm.errors import SettingsError
from atm.retrying import JITTER, Retry, wait_ms


@given(st.integers(0, 10**7), st.floats(1, 100), st.integers(0, 10**9), st.integers(1, 10**6))
def test_an_exponential_wait_never_exceeds_its_cap(delay: int, rate: float, cap: int, retry: int) -> None:
    wait = wait_ms(strategy="EXPONENTIAL", delay_ms=delay, backoff_rate=rate, max_delay_ms=cap, retry=retry)
    assert 0 <= wait <= cap


@given(st.integers(100, 10**6), st.integers(1, 50))
def test_a_fixed_wait_is_the_same_each_time_but_for_the_jitter(delay: int, retry: int) -> None:
    wait = wait_ms(strategy="FIXED", delay_ms=delay, backoff_rate=9.0, max_delay_ms=10**7, retry=retry)
    assert delay * (1 - JITTER) - 1 <= wait <= delay


def test_an_exponential_wait_doubles() -> None:
    waits = [
        wait_ms(strategy="EXPONENTIAL", delay_ms=1000, backoff_rate=2, max_delay_ms=10**6, retry=n)
        for n in (1, 4)
    ]
    assert 800 <= waits[0] <= 1000
    assert 6400 <= waits[1] <= 8000


@pytest.mark.parametrize(
    "bad", [{"strategy": "SOMETIMES"}, {"delay": -1}, {"backoff_rate": 0.5}, {"max_delay": float("nan")}]
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Retry(**bad)  # type: ignore[arg-type]

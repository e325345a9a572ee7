"""How often a password may be tried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.access.throttle import ALL_NAMES, FREE, LONGEST, NAMES, WINDOW, Throttle
from dpanalytics.errors import TooManyRequests


class Seconds:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def wait_of(throttle: Throttle, name: str) -> float:
    try:
        throttle.check(name)
    except TooManyRequests as refused:
        return refused.retry_after
    return 0.0


def test_each_failure_after_some_doubles_the_wait_up_to_the_longest(seconds: Seconds) -> None:
    throttle = Throttle(seconds)
    waits = []
    for _ in range(FREE + 12):
        wait = wait_of(throttle, "ada")
        waits.append(wait)
        seconds.now += max(wait, WINDOW)  # the limit over all names is another test
        throttle.failed("ada")
    assert waits[:FREE] == [0.0] * FREE
    assert waits[FREE : FREE + 5] == [1, 2, 4, 8, 16]
    assert waits[-1] == LONGEST


def test_the_wait_ends_when_it_is_over_and_is_forgotten_after_success(seconds: Seconds) -> None:
    throttle = Throttle(seconds)
    for _ in range(FREE + 3):
        throttle.failed("ada")
    assert wait_of(throttle, "ada") == 8
    seconds.now += 7.5
    assert wait_of(throttle, "ada") == 0.5
    seconds.now += 0.5
    assert wait_of(throttle, "ada") == 0
    throttle.succeeded("ada")
    throttle.failed("ada")
    assert wait_of(throttle, "ada") == 0


def test_one_name_does_not_wait_for_another(seconds: Seconds) -> None:
    throttle = Throttle(seconds)
    for _ in range(FREE + 3):
        throttle.failed("ada")
    assert wait_of(throttle, "bob") == 0


def test_many_names_that_fail_make_everybody_wait(seconds: Seconds) -> None:
    throttle = Throttle(seconds)
    for number in range(ALL_NAMES):
        assert wait_of(throttle, "bob") == 0
        throttle.failed(f"guess{number}")
    assert wait_of(throttle, "bob") == WINDOW
    seconds.now += WINDOW
    assert wait_of(throttle, "bob") == 0


def test_memory_is_bounded(seconds: Seconds) -> None:
    throttle = Throttle(seconds)
    for number in range(3 * NAMES):
        throttle.failed(f"guess{number}")
    assert len(throttle) <= NAMES


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=60))
def test_who_guesses_gets_few_tries_whatever_the_rhythm(tries: list[tuple[str, float]]) -> None:
    seconds = Seconds()
    throttle, start, passed = Throttle(seconds), seconds.now, 0
    for name, pause in tries:
        seconds.now += pause
        if wait_of(throttle, name) == 0:
            passed += 1
            throttle.failed(name)
    windows = (seconds.now - start) / WINDOW + 1
    assert passed <= ALL_NAMES * windows

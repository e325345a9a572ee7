"""Every refusal of the service is the error of this package that it stands for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics import errors
from dpanalytics.api.problems import ALL, KINDS, problem_of, response_of
from dpanalytics.client.problems import (
    ServiceError,
    UnexpectedAnswer,
    UnknownProblem,
    error_of,
    retry_after,
)
from dpanalytics.client.wire import Reply
from dpanalytics.errors import (
    BudgetExceeded,
    DpAnalyticsError,
    ReleaseFailed,
    RequestMalformed,
    ServiceBusy,
    SignInRefused,
    TooManyRequests,
)

PROBLEM = {"content-type": "application/problem+json"}


def reply_of(error: DpAnalyticsError) -> Reply:
    """What the service itself makes of an error."""
    response = response_of(problem_of(error))
    return Reply(response.status_code, dict(response.headers), bytes(response.body))


def example_of(kind: type[DpAnalyticsError]) -> DpAnalyticsError:
    match kind:
        case errors.BudgetExceeded:
            return BudgetExceeded("in words", left_units=10**15 + 1, wider=2.5)
        case errors.RequestMalformed:
            return RequestMalformed("in words", faults=(("metrics.0", "is missing"),))
        case errors.ServiceBusy | errors.TooManyRequests:
            return kind("in words", retry_after=3)  # type: ignore[call-arg]
        case errors.CaseMissing | errors.SignInRefused | errors.ReleaseFailed:
            return kind()
        case errors.StudentRequestMissing:
            return kind()
        case _:
            return kind("in words")


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda k: k.__name__), ids=lambda k: k.__name__)
def test_an_error_of_the_service_is_the_same_error_here(kind: type[DpAnalyticsError]) -> None:
    thrown = example_of(kind)
    met = error_of(reply_of(thrown))
    if kind is DpAnalyticsError:
        assert type(met) is ServiceError
        return
    assert type(met) is kind
    assert str(met) == (KINDS[kind].fixed or str(thrown))
    if not isinstance(met, SignInRefused):  # why is for the service's own log
        assert vars(met) == vars(thrown)


@pytest.mark.parametrize("slug", sorted(ALL))
def test_no_problem_of_the_service_is_unknown(slug: str) -> None:
    body = json.dumps({"type": f"/problems/{slug}", "detail": "in words"}).encode()
    met = error_of(Reply(ALL[slug].status, PROBLEM, body))
    assert not isinstance(met, UnknownProblem)
    assert str(met) == "in words"


def test_a_problem_that_is_not_known_yet_is_a_clean_error() -> None:
    body = b'{"type": "/problems/consent-withdrawn", "title": "T", "detail": "why\\u001b[31m"}'
    met = error_of(Reply(451, PROBLEM, body))
    assert isinstance(met, UnknownProblem)
    assert (met.status, met.kind, str(met)) == (451, "/problems/consent-withdrawn", "why [31m")


@pytest.mark.parametrize("error", [KeyError, OSError, ValueError])
def test_a_type_names_errors_of_this_package_only(error: type[Exception]) -> None:
    body = json.dumps({"type": f"/problems/{error.__name__}", "detail": "x"}).encode()
    assert isinstance(error_of(Reply(400, PROBLEM, body)), UnknownProblem)


@given(st.integers(400, 599), st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_whatever_comes_back_is_one_error(status: int, body: bytes) -> None:
    for headers in (PROBLEM, {"content-type": "text/html"}, {}):
        assert isinstance(error_of(Reply(status, headers, body)), ServiceError)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
MEMBERS = ("title", "detail", "left_units", "times_wider", "errors", "retry_after")


@given(st.sampled_from(sorted(ALL)), st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_members_of_the_wrong_type_make_no_other_error(slug: str, members: dict[str, Any]) -> None:
    body = json.dumps({"type": f"/problems/{slug}"} | members).encode()
    met = error_of(Reply(400, PROBLEM, body))
    assert isinstance(met, DpAnalyticsError)
    assert str(met)
    assert str(met).isprintable()


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_wait_is_a_number_of_seconds_whatever_is_told(told: str, date: str) -> None:
    assert retry_after(Reply(503, {"retry-after": told, "date": date}, b"")) >= 0


def test_errors_keep_what_callers_may_read() -> None:
    met = error_of(reply_of(example_of(BudgetExceeded)))
    assert isinstance(met, BudgetExceeded)
    assert (met.left_units, met.wider) == (10**15 + 1, 2.5)
    for kind in (ServiceBusy, TooManyRequests):
        assert error_of(reply_of(example_of(kind))).retry_after == 3  # type: ignore[attr-defined]
    assert isinstance(error_of(reply_of(ReleaseFailed())), ReleaseFailed)
    assert isinstance(error_of(Reply(502, {}, b"<html>")), UnexpectedAnswer)

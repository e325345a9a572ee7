"""What may be asked of the service, as steps over `exchange`; no I/O, no address, no token."""

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from dpanalytics.client.exchange import Patience, Pause, Send, exchange
from dpanalytics.client.problems import UnexpectedAnswer
from dpanalytics.client.proof import Proof, proof_of
from dpanalytics.client.reading import (
    RECORD_FORMAT,
    answer_of,
    budget_of,
    estimate_of,
    json_of,
    page_of,
    release_of,
    view_of,
    views_of,
)
from dpanalytics.client.results import Answer, Budget, Estimate, Release, View
from dpanalytics.client.wire import Call, Reply
from dpanalytics.errors import NotPermitted, RequestError
from dpanalytics.query.builder import QuestionBuilder
from dpanalytics.query.request import Question, parse_question, parse_question_json, shortened

Asked = Question | QuestionBuilder | Mapping[str, Any] | str | bytes
"""A question as a value, as the builder left it, as a dictionary or as JSON."""

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
"""What a request id sent from here looks like."""
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
"""What a recorded one looks like; the command line takes more of them."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
PAGE = 100
"""Releases asked for at once."""
JSON = {"Accept": "application/json"}

T = TypeVar("T")
Steps = Generator[Send | Pause, Any, T]


@dataclass(frozen=True)
class UseCases:
    """What may be asked of the service, as steps; knows neither address nor token."""

    consumer: str | None
    patience: Patience
    clock: Callable[[], float]
    chance: Callable[[], float]
    new_id: Callable[[], str]

    def views(self) -> Steps[tuple[View, ...]]:
        """What may be asked about."""
        reply = yield from self._exchange("GET", "v1/views")
        return views_of(json_of(reply))

    def view(self, name: str) -> Steps[View]:
        """One view."""
        path = f"v1/views/{_checked_name(name)}"
        try:
            reply = yield from self._exchange("GET", path)
        except UnexpectedAnswer as error:
            if error.status != 404:
                raise
            raise _no_view(name) from None
        return view_of(json_of(reply))

    def estimate(self, question: Asked) -> Steps[Estimate]:
        """What a question would cost, and how accurate it would be."""
        body = json_of_question(question)
        reply = yield from self._exchange("POST", "v1/estimates", body=body)
        return estimate_of(json_of(reply))

    def ask(self, question: Asked, request_id: str | None) -> Steps[Answer]:
        """The id is made before anything is sent, and told with whatever goes wrong after."""
        body = json_of_question(question)
        named = _checked_key(self.new_id() if request_id is None else request_id)
        try:
            reply = yield from self._exchange(
                "POST", "v1/releases", body=body, headers={"Idempotency-Key": named}
            )
            return answer_of(reply, request_id=named)
        except BaseException as error:  # an interruption too: the debit may stand
            error.add_note(
                f"request id {named}: asking again with request_id={named!r} is charged once only"
            )
            error.request_id = named  # type: ignore[attr-defined]
            raise

    def release(self, request_id: str) -> Steps[Answer]:
        """An answer given before."""
        reply = yield from self._one(request_id)
        if json_of(reply).get("format") == RECORD_FORMAT:
            raise NotPermitted(
                "the answer of this release is not yours to see, only that it was given; "
                "use record() in place of release()"
            )
        return answer_of(reply, request_id=request_id)

    def proof(self, answer: Answer) -> Steps[Proof]:
        """That an answer is in the journal."""
        path = f"v1/releases/{_checked_id(answer.request_id)}/proof"
        reply = yield from self._exchange("GET", path)
        return proof_of(reply, answer)

    def record(self, request_id: str) -> Steps[Release]:
        """That an answer was given, without it."""
        reply = yield from self._one(request_id)
        return release_of(json_of(reply))

    def releases(self, most: int) -> Steps[tuple[Release, ...]]:
        """Records of answers, newest first, page after page."""
        if most < 1:
            raise RequestError(f"most {most}; must be at least 1")
        found: list[Release] = []
        params = {"limit": str(min(most, PAGE))}
        while True:
            reply = yield from self._exchange("GET", "v1/releases", params=params)
            page, following = page_of(json_of(reply))
            found += page
            if following is None or not page or len(found) >= most:
                return tuple(found[:most])
            # Of the address that is told, the query alone: the token stays with this service.
            params = dict(parse_qsl(urlsplit(following).query))

    def budget(self) -> Steps[Budget]:
        """What is granted, spent and left."""
        reply = yield from self._exchange("GET", "v1/budget")
        return budget_of(json_of(reply))

    def _one(self, request_id: str) -> Steps[Reply]:
        return self._exchange("GET", f"v1/releases/{_checked_id(request_id)}")

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Steps[Reply]:
        asker = {} if self.consumer is None else {"consumer": self.consumer}
        typed = {} if body is None else {"Content-Type": "application/json"}
        return exchange(
            Call(
                method,
                path,
                {**asker, **(params or {})},
                {**JSON, **typed, **(headers or {})},
                body,
            ),
            patience=self.patience,
            clock=self.clock,
            chance=self.chance,
        )


def json_of_question(asked: Asked) -> bytes:
    """A question as it travels.

    Raises:
        RequestError: it is malformed; the message says where.
    """
    match asked:
        case Question():
            question = asked
        case QuestionBuilder():
            question = parse_question(asked.payload)
        case str() | bytes():
            question = parse_question_json(asked)
        case _:
            question = parse_question(asked)
    return question.model_dump_json(by_alias=True, exclude_none=True).encode()


def _checked_key(request_id: str) -> str:
    if not isinstance(request_id, str) or not KEY.fullmatch(request_id):
        raise RequestError(
            f"request id {shortened(str(request_id))!r}; must be 8 to 64 letters, digits, dots, "
            "hyphens or underscores, a letter or digit the first"
        )
    return request_id


def _checked_id(request_id: str) -> str:
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise RequestError(f"request id {shortened(str(request_id))!r}: no answer has such a one")
    return request_id


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _no_view(name)
    return name


def _no_view(name: object) -> RequestError:
    return RequestError(f"no view {shortened(str(name))!r}; views() tells which there are")

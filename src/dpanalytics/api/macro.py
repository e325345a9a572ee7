"""Routes of the macro door: what may be asked about, what it costs, answers, and budgets.

Each route reads what came, calls one use case off the event loop, and says what it returned.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from dpanalytics.access.principal import Principal, Role
from dpanalytics.api import bodies
from dpanalytics.api.answers import OFFERED, Form, Rounding, choose_form, represented, snapshots_of
from dpanalytics.api.described import BODY, of_answer, of_json, refusals
from dpanalytics.api.problems import ALL, WHERE, kind_of
from dpanalytics.api.turns import Turns
from dpanalytics.errors import (
    DpAnalyticsError,
    MediaTypeRefused,
    ReleaseMissing,
    RequestError,
    RequestTooLarge,
    ServiceBusy,
)
from dpanalytics.query.answer import Answered
from dpanalytics.query.request import Question, parse_question_json
from dpanalytics.wiring import MacroDoor

MAX_BODY = 2**20
"""Longest question that is read, in bytes."""
KEY = r"^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$"
"""An idempotency key."""
REQUEST_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"
"""A request id; the command line takes more of them than there are keys."""
PAGE = 50
LONGEST_PAGE = 200
LARGEST = 2**53 - 1
"""Largest number of a journal's entry that a request may name; JSON's readers keep no larger."""
ASKED = ("sign-in-refused", "not-permitted", "too-many-requests", "service-busy", "journal-error")
"""Problems that every route with a sign-in may answer."""
"""PLACEHOLDER"""

"""Examples for the description of the micro door's routes: made up, and small."""

from collections.abc import Mapping
from typing import Any

from dpanalytics.disclosure.disclose import NOBODY as WORDS_FOR_NOBODY
from dpanalytics.disclosure.opening import IN_LIST

CAVEAT = (
    "These figures describe traces in computer systems. Students do not always follow typical "
    "patterns; nothing here says how a student will do. Ask, listen, and offer; do not conclude."
)

PROGRAMMES: Mapping[str, Any] = {
    "programmes": [
        {
            "name": "quiet_weeks",
            "title": "Offer support after two quiet weeks",
            "purpose": "offer-support",
            "indicators": ["days_since_activity"],
            "rule": "days_since_activity >= 14",
            "shows": ["student", "given_names", "family_name", "email"],
            "four_eyes": False,
            "days_open": 28,
            "caveat": CAVEAT,
            "approved_by": "Pro-Vice-Chancellor (Education)",
            "valid_until": "2027-07-31",
        }
    ]
}

RUN_ASKED: Mapping[str, Any] = {"as_of": "2026-11-02"}
OPENING_ASKED: Mapping[str, Any] = {
    "programme": "missed_work",
    "student": "20251234",
    "purpose": "advise-on-study",
    "reason": "Two assignments are missing and the seminar tutor asked me to get in touch.",
}
DECLINE_ASKED: Mapping[str, Any] = {"why": "The programme is not meant for placements."}
NOTE_ASKED: Mapping[str, Any] = {"text": "Wrote, and offered an appointment this week."}
OUTCOME_ASKED: Mapping[str, Any] = {"outcome": "support-accepted", "review_on": "2026-12-01"}
REVIEW_ASKED: Mapping[str, Any] = {"text": "The workshops helped; nothing more is wanted."}

CASE: Mapping[str, Any] = {
    "case": "7d1f0c9a21e45b6c8d9e0f1a2b3c4d5e",
    "programme": "missed_work",
    "title": "Offer study advice after missed work",
    "state": "opened",
    "requester": "Alex Tutor",
    "opened_at": "2026-11-02T10:04:00Z",
    "as_of": "2026-11-02",
    "reason": OPENING_ASKED["reason"],
    "lapses_on": "2026-11-30",
    "next_steps": ["close"],
    "outcome": None,
    "review_on": None,
    "notes": [],
}
LISTED: Mapping[str, Any] = {
    **CASE,
    "programme": "quiet_weeks",
    "title": "Offer support after two quiet weeks",
    "reason": None,
    "next_steps": ["read", "close"],
}
RUN: Mapping[str, Any] = {
    "programme": "quiet_weeks",
    "as_of": "2026-11-02",
    "words": IN_LIST,
    "cases": [LISTED],
}
AWAITING: Mapping[str, Any] = {**CASE, "next_steps": ["approve", "decline"]}
APPROVED: Mapping[str, Any] = {**CASE, "state": "approved", "next_steps": ["read", "close"]}
DECLINED: Mapping[str, Any] = {
    **CASE,
    "state": "closed",
    "next_steps": [],
    "notes": [{"kind": "declined", "at": "2026-11-02T11:00:00Z", "text": DECLINE_ASKED["why"]}],
}
NOTED: Mapping[str, Any] = {
    **CASE,
    "state": "contacted",
    "next_steps": ["read", "note", "conclude"],
    "notes": [{"kind": "contact", "at": "2026-11-03T09:30:00Z", "text": NOTE_ASKED["text"]}],
}
CONCLUDED: Mapping[str, Any] = {
    **NOTED,
    **OUTCOME_ASKED,
    "state": "concluded",
    "next_steps": ["read", "note", "review"],
}
REVIEWED: Mapping[str, Any] = {
    **CONCLUDED,
    "state": "reviewed",
    "next_steps": ["read", "note", "close"],
    "notes": [
        *NOTED["notes"],
        {"kind": "review", "at": "2026-12-01T09:00:00Z", "text": REVIEW_ASKED["text"]},
    ],
}
CLOSED: Mapping[str, Any] = {**REVIEWED, "state": "closed", "next_steps": []}

READING: Mapping[str, Any] = {
    "case": LISTED["case"],
    "state": "disclosed",
    "programme": "quiet_weeks",
    "title": "Offer support after two quiet weeks",
    "words": CAVEAT,
    "students": [
        {
            "identity": {
                "student": "20251234",
                "given_names": "Sam",
                "family_name": "Example",
                "email": "sam.example@example.ac.uk",
            },
            "figures": [
                {
                    "indicator": "days_since_activity",
                    "version": 1,
                    "title": "Days since the last activity",
                    "unit": "days",
                    "module": "AAA",
                    "presentation": "2026J",
                    "as_of": "2026-11-02",
                    "value": 17.0,
                    "why_missing": None,
                    "formula_in_words": "The day asked about, less the day of the last activity.",
                    "caveat": "Work away from the learning environment is not seen here.",
                    "middle": None,
                }
            ],
            "entry": 4711,
        }
    ],
}
NOBODY: Mapping[str, Any] = {
    **READING,
    "state": "opened",
    "words": WORDS_FOR_NOBODY,
    "students": [],
}

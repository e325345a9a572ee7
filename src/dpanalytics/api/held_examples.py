"""Examples for the description of the routes of students and of the office: made up, and small."""

from collections.abc import Mapping
from typing import Any

REFERENCE = "5f0c9a7e21d45f0c9a7e21d45f0c9a7e"

DECISION_ASKED: Mapping[str, Any] = {
    "scope": "individual_support",
    "decision": "withdraw",
    "text_version": 1,
}
REQUEST_ASKED: Mapping[str, Any] = {
    "kind": "correction",
    "words": "My registration for module BBB ended in March; it is still shown as running.",
}
ANSWER_ASKED: Mapping[str, Any] = {
    "words": "The registry has mended it; the next load, on Monday, brings it here."
}

CONSENTS: Mapping[str, Any] = {
    "consents": [
        {
            "scope": "individual_support",
            "title": "Results that name you, for your support",
            "in_force": True,
            "reason": "agreed",
            "why": "agreed, and the agreement holds",
            "since": "2026-09-20T10:04:00Z",
            "agreed_to_version": 1,
            "text": {
                "version": 1,
                "since": "2013-01-01",
                "question": "May trained and approved staff see a few figures with your name?",
                "agreeing": "Approved staff may see the indicators on your page.",
                "refusing": "No result that names you is shown to staff.",
                "changing": "You can pause, withdraw or renew at any time.",
            },
            "earlier_texts": [],
            "decisions": ["renew", "pause", "withdraw"],
        }
    ],
    "history": [
        {
            "scope": "individual_support",
            "decision": "give",
            "at": "2026-09-20T10:04:00Z",
            "channel": "self-service",
            "text_version": 1,
        }
    ],
}
INDICATORS: Mapping[str, Any] = {
    "indicators": [
        {
            "indicator": "days_since_activity",
            "version": 1,
            "title": "Days since last activity",
            "unit": "days",
            "module": "BBB",
            "presentation": "2026J",
            "as_of": "2026-11-02",
            "value": 3.0,
            "why_missing": None,
            "formula_in_words": "Days from your last recorded activity to that day.",
            "caveat": "Work away from the learning environment leaves no trace.",
            "middle": None,
        }
    ]
}
SOURCES: Mapping[str, Any] = {
    "sources": [
        {
            "name": "student_registration",
            "title": "Registrations",
            "description": "When students joined and left module presentations.",
            "system": "student records",
            "purposes": ["improve-support"],
            "retention_years": 6,
            "held": True,
        }
    ],
    "name_kept": True,
    "elsewhere": [
        {
            "title": "Payment of fees, and debt",
            "held_by": "Finance Office",
            "how_to_ask": "Ask the Finance Office to show you your account.",
            "address": "finance@example.ac.uk",
        }
    ],
}
DISCLOSURE: Mapping[str, Any] = {
    "entry": 4711,
    "at": "2026-11-02T10:04:00Z",
    "who": "Dr Example",
    "why": "Offer support after two quiet weeks",
    "purpose": "offer-support",
    "reason": None,
    "figures": [{"indicator": "days_since_activity", "version": 1}],
}
DISCLOSURES: Mapping[str, Any] = {"disclosures": [DISCLOSURE]}
REQUEST: Mapping[str, Any] = {
    "reference": REFERENCE,
    "kind": "correction",
    "words": REQUEST_ASKED["words"],
    "opened_at": "2026-11-02T10:04:00Z",
    "due_on": "2026-11-16",
    "state": "open",
    "answered_at": None,
    "answer": None,
}
REQUESTS: Mapping[str, Any] = {"requests": [REQUEST]}
DUE: Mapping[str, Any] = {
    "reference": REFERENCE,
    "kind": "correction",
    "opened_at": "2026-11-02T10:04:00Z",
    "due_on": "2026-11-16",
    "state": "open",
    "days_late": 2,
}
DUES: Mapping[str, Any] = {"requests": [DUE]}
ANSWERED: Mapping[str, Any] = {**DUE, "state": "answered", "days_late": 0}
IDENTITY: Mapping[str, Any] = {
    "student": "20251234",
    "given_names": "Example",
    "family_name": "Student",
    "email": "example.student@example.ac.uk",
    "others": {"preferred_name": ""},
    "name_removed": False,
}
REQUEST_OF: Mapping[str, Any] = {
    "request": {**DUE, "days_late": 0},
    "words": REQUEST_ASKED["words"],
    "identity": IDENTITY,
    "entry": 4712,
}
EXPORT: Mapping[str, Any] = {
    "made_at": "2026-11-03T08:30:00Z",
    "entry": 4713,
    "identity": IDENTITY,
    "name_in_journal": {"commitment": "ab" * 32, "salt": "cd" * 32},
    "consents": CONSENTS,
    "campaigns": [
        {"academic_year": "2026/27", "asked_on": "2026-08-01", "reminded_on": ["2026-10-15"]}
    ],
    "indicators": INDICATORS["indicators"],
    "sources": SOURCES,
    "records": [
        {
            "source": "student_registration",
            "title": "Registrations",
            "rows": [{"module": "BBB", "presentation": "2026J", "registered": -20}],
        }
    ],
    "disclosures": [DISCLOSURE],
    "cases": [
        {
            "case": REFERENCE,
            "programme": "Offer support after two quiet weeks",
            "reason": None,
            "opened_at": "2026-11-02T10:00:00Z",
            "state": "contacted",
            "outcome": None,
            "review_on": None,
            "notes": [
                {
                    "kind": "contact",
                    "at": "2026-11-02T11:00:00Z",
                    "who": "Dr Example",
                    "text": "Wrote, and offered an appointment this week.",
                }
            ],
        }
    ],
    "requests": [REQUEST],
    "not_in_it": ["Backups, which are overwritten in time."],
}

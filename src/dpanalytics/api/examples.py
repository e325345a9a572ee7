"""Examples for the description of the routes: of questions, of what is told, and of problems.

Made up, and small; a test holds each against the shape that it is an example of.
"""

from collections.abc import Mapping
from typing import Any

from dpanalytics import errors
from dpanalytics.api.problems import NOT_HERE, WHERE, Problem, internal_fault, problem_of

KEY = "5b0c6f0e-3d1a-4f57-9c3e-8a4d2f7e6b91"
TOO_LITTLE = (
    "quality-committee's grant for view enrolments, academic year 2013/14 has epsilon 0.2104 left "
    "at delta 1e-07; the question costs 0.5. What is left buys this question with margins 2.4 "
    "times as wide."
)

QUESTIONS: Mapping[str, Mapping[str, Any]] = {
    "withBudget": {
        "summary": "A budget offered; the answer tells its margins",
        "value": {
            "view": "enrolments",
            "academic_years": ["2013/14"],
            "purpose": "quality-review",
            "group_by": ["module"],
            "metrics": [
                {"metric": "students"},
                {"metric": "rate", "where": {"outcome": ["Withdrawn"]}},
            ],
            "epsilon": 0.1,
        },
    },
    "withAccuracy": {
        "summary": "An accuracy asked for; the estimate tells its price",
        "value": {
            "view": "submissions",
            "academic_years": ["2013/14"],
            "purpose": "quality-review",
            "filter": {"imd_band": {"from": "0-10%", "to": "40-50%"}},
            "group_by": ["assessment_type"],
            "metrics": [{"metric": "mean", "measure": "score", "margin": 1.5}],
            "reference_group": 1000,
        },
    },
}

VIEW: Mapping[str, Any] = {
    "name": "enrolments",
    "title": "Enrolments and their results",
    "description": "One row a student and module presentation.",
    "population": "all students on record",
    "purposes": ["improve-teaching", "quality-review"],
    "academic_years": ["2013/14", "2014/15"],
    "dimensions": [
        {
            "name": "academic_year",
            "title": "Academic year",
            "values": ["2013/14", "2014/15"],
            "constant": True,
        },
        {
            "name": "outcome",
            "title": "Result",
            "values": ["Pass", "Distinction", "Fail", "Withdrawn"],
            "constant": False,
        },
    ],
    "measures": [
        {
            "name": "credits",
            "title": "Credits that the student takes at the time",
            "unit": "credits",
            "low": 0,
            "high": 655,
            "decimals": 0,
            "combine": "max",
            "order_by": None,
            "optional": False,
        }
    ],
    "contributions": [{"by": ["outcome"], "groups": 3}],
    "snapshots": [
        {
            "academic_year": "2013/14",
            "snapshot": "enrolments@2013/14#1-5f0c9a7e21d4",
            "data_as_of": "2026-03-02T04:10:00Z",
        }
    ],
}

ESTIMATE: Mapping[str, Any] = {
    "rho_units": "312500000",
    "allowed": True,
    "charges": "grant-and-cap",
    "groups": 7,
    "population": "all students on record",
    "reference_group": 500,
    "margins": {
        "students": {"margin": 41.0, "in": "students"},
        "rate(outcome=Withdrawn)": {
            "margin": 0.091,
            "in": "share, at most, in a group of 500 students",
        },
    },
    "years": [
        {
            "academic_year": "2013/14",
            "epsilon": 0.0999,
            "delta": 1e-07,
            "share_of_grant": 0.0025,
            "granted": 3.0,
            "left_before": 3.0,
            "left_after": 2.996,
            "refusal": None,
        }
    ],
}

ANSWER: Mapping[str, Any] = {
    "confidence": 0.95,
    "digest": "2d5b7c2f0f5b8f8a1c9d3e4a5b6c7d8e9f00112233445566778899aabbccddee",
    "dimensions": ["module"],
    "format": "dpanalytics/release/v1",
    "notes": ["Of one student, at most so many groups count in an academic year: 3 of module."],
    "population": "all students on record",
    "question": {
        "academic_years": ["2013/14"],
        "filter": {"module": ["AAA"]},
        "group_by": ["module"],
        "metrics": ["students"],
        "noise": [{"students": "20.9165"}],
        "snapshots": ["enrolments@2013/14#1-5f0c9a7e21d4"],
        "view": "enrolments",
    },
    "rho_units": "312500000",
    "rows": [
        {
            "estimate": 382,
            "group": {"module": "AAA"},
            "high": 423,
            "item": None,
            "low": 341,
            "margin": 41,
            "metric": "students",
            "students": None,
            "swamped": False,
            "unit": "students",
        }
    ],
    "title": "Enrolments and their results",
}

CSV = (
    "module,metric,item,unit,estimate,margin,low,high,swamped\r\n"
    "AAA,students,,students,382.0,41.0,341.0,423.0,false\r\n"
)

RECORD: Mapping[str, Any] = {
    "format": "dpanalytics/release-record/v1",
    "request_id": KEY,
    "consumer": "quality-committee",
    "purpose": "quality-review",
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "rho_units": "312500000",
    "digest": ANSWER["digest"],
    "debited_at": "2026-03-04T09:30:12Z",
    "debit_seq": 41,
    "released_at": "2026-03-04T09:30:12Z",
    "repeats": None,
}

RECORDS: Mapping[str, Any] = {
    "releases": [RECORD],
    "next": "/v1/releases?limit=1&before=41",
}

BUDGET: Mapping[str, Any] = {
    "consumer": "quality-committee",
    "grants": [
        {
            "academic_year": "2013/14",
            "view": "enrolments",
            "epsilon": 3.0,
            "delta": 1e-07,
            "granted_units": "125912345678",
            "spent_units": "312500000",
            "left_units": "125599845678",
            "epsilon_left": 2.996,
            "approved_by": "PVC Education",
            "valid_until": "2027-07-31",
            "withdrawn": False,
        }
    ],
    "caps": [
        {
            "academic_year": "2013/14",
            "epsilon": 10.0,
            "delta": 1e-07,
            "granted_units": "1115912345678",
            "spent_units": "312500000",
            "left_units": "1115599845678",
            "epsilon_left": 9.998,
            "approved_by": "Data Protection Officer",
            "valid_until": "2027-07-31",
            "withdrawn": False,
        }
    ],
}

ENTRIES: Mapping[str, Any] = {
    "entries": [
        {
            "seq": 41,
            "at": "2026-03-02T10:15:00.123456Z",
            "kind": "release",
            "text": '{"at":"2026-03-02T10:15:00.123456Z","body":"9f2c0f3e8f6c8a55c9d6bb9b7a7f2e41'
            '0b6d1c0e5a7f4f0d8f6b3a1c2e9d7b60","debit":40,"kind":"release",'
            f'"request":"{KEY}","seq":41}}',
        }
    ],
    "next": None,
}

TOTALS: Mapping[str, Any] = {
    "totals": [
        {
            "consumer": "quality-committee",
            "view": "enrolments",
            "academic_year": "2013/14",
            "purpose": "quality-review",
            "debits": 12,
            "repeats": 1,
            "rho_units": "312500000",
        }
    ],
    "acts": [
        {
            "programme": "quiet_weeks",
            "purpose": "offer-support",
            "runs": 4,
            "cases": 2,
            "disclosures": 17,
        }
    ],
}

RECONCILIATION: Mapping[str, Any] = {"releases": 12, "snapshots": 9, "faults": []}

_ROOT = "682975250e0da877c51cdfc2ae726f80ab01a7a3ae9154d9fddd71e49f2cb0f5"
_PATH = ["VC1Y+87H64T/w9pVbFYK4nOcmqruzcW3HB2fKbTuK1Y="]

CHECKPOINT: Mapping[str, Any] = {
    "note": "example.ac.uk/journal\n42\naCl1JQ4NqHfFHN/CrnJvgKsBp6OukVTZ/d1x5J8ssPU=\n\n"
    "\u2014 example.ac.uk/journal c8lS8tBlp+nzNmjQEXX37bOEYfO6Kd93V11CgCQgPrU+CO1ujLj0Dy1nA9HT8o"
    "itWSNUWgkdWTEpQSN1GYznIws+Dws=\n",
    "key": "example.ac.uk/journal+73c952f2+AcstMk5H5S/x9tjvGfDrkacE7UzKNRq2ybd2X6INIUcD",
}

CONSISTENCY: Mapping[str, Any] = {
    "old": {"size": 41, "root": _ROOT[::-1]},
    "new": {"size": 42, "root": _ROOT},
    "path": _PATH,
}

PROOF: Mapping[str, Any] = {
    "head": {"size": 42, "root": _ROOT},
    "note": CHECKPOINT["note"],
    "entries": [{"seq": 41, "text": ENTRIES["entries"][0]["text"], "path": _PATH}],
}

HEALTH: Mapping[str, Any] = {"status": "ok"}

PROBLEM_PAGE: Mapping[str, Any] = {
    "type": "/problems/grant-expired",
    "title": "Grant expired",
    "status": 403,
    "when": "The grant is past its last day. Nothing was charged.",
    "remedy": "It must be approved again; answers already paid for are still returned.",
}

_MET = (
    errors.SnapshotError("no snapshot of view enrolments for 2014/15; the data steward builds it"),
    errors.RequestError("no view 'grades'; declared are enrolments, submissions"),
    errors.RequestMalformed(
        "question refused: epsilon: input should be greater than 0 (got -1.0)",
        faults=(("epsilon", "Input should be greater than 0"),),
    ),
    errors.PurposeRefused(
        "purpose 'marking' is refused: learner analytics is never used for progression, "
        "assessment, award or marking (policy 2.3, 2.5)"
    ),
    errors.ReleaseMissing("no release of that id is yours"),
    errors.StudentRequestMissing(),
    errors.ConsentError("version 1 of the text was replaced; version 2 is in force"),
    errors.RequestTooLarge("the question is longer than 1048576 bytes"),
    errors.MediaTypeRefused("the body must be a question in JSON, of type application/json"),
    errors.NotAcceptable(
        "the header Accept takes none of the forms that there are; allowed: application/json, "
        "text/csv, application/vnd.apache.parquet, application/vnd.apache.arrow.stream"
    ),
    errors.SignInRefused(),
    errors.NotPermitted("you may not ask as this consumer; yours: quality-committee"),
    errors.GrantMissing(
        "quality-committee has no grant for view submissions, academic year 2012/13; a data "
        "steward can declare one under budgets/"
    ),
    errors.GrantExpired(
        "quality-committee's grant for view enrolments, academic year 2013/14 was valid until "
        "2027-07-31; it must be approved again"
    ),
    errors.BudgetExceeded(TOO_LITTLE, left_units=1720000000, wider=2.4),
    errors.ReleaseFailed(),
    errors.ServiceBusy("too much is waiting in the service; nothing was begun", retry_after=1),
    errors.TooManyRequests("600 requests in a minute, which is as many as may", retry_after=1),
    errors.CaseMissing(),
    errors.DisclosureRefused(
        "the case is not approved yet; a second person decides on it", reason="not-approved"
    ),
    errors.JournalError("not shown"),
    errors.RequestIdReused("the request id stands for another question; use a new one"),
)

PROBLEMS: Mapping[str, Problem] = {
    problem.type.removeprefix(WHERE): problem
    for problem in (
        *map(problem_of, _MET),
        internal_fault(),
        *(
            Problem(type=WHERE + slug, title=kind.title, status=kind.status, detail=kind.when)
            for slug, kind in NOT_HERE.items()
        ),
    )
}
"""A problem document of each kind that a route may answer, by its name."""

REVIEWS: Mapping[str, Any] = {
    "within_days": 60,
    "reviews": [
        {
            "subject": "grant",
            "name": "quality-committee: enrolments 2013/14",
            "owner": "Academic Quality Committee",
            "approved_by": "PVC Education",
            "evidence": "Minute 2026/22 of the Education Committee",
            "valid_until": "2027-07-31",
            "state": "due",
        },
        {
            "subject": "cap",
            "name": "2013/14",
            "owner": "Academic Registrar",
            "approved_by": "Data Protection Officer",
            "evidence": "Minute 2026/14 of the Data Protection Board",
            "valid_until": "2027-07-31",
            "state": "due",
        },
    ],
}

REPORTS: Mapping[str, Any] = {
    "reports": [
        {
            "academic_year": "2013/14",
            "edition": 1,
            "written_on": "2026-11-24",
            "address": "/v1/reports/2013-14",
        }
    ]
}

REPORT: Mapping[str, Any] = {
    "institution": "Example University",
    "academic_year": "2013/14",
    "period": {"first": "2013-08-01", "last": "2014-07-31"},
    "edition": 1,
    "written_on": "2026-11-24",
    "answers": [
        {
            "topic": "stages",
            "request_id": "annual-report.2013-14.1.stages",
            "figures": [
                {
                    "group": {"programme": "quiet_weeks", "stage": "contacted"},
                    "item": None,
                    "unit": "students",
                    "estimate": 140,
                    "margin": 14,
                    "low": 126,
                    "high": 154,
                    "swamped": False,
                }
            ],
            "population": "students who agreed to the combining of sources",
            "epsilon": 0.4311,
            "missing": None,
        }
    ],
    "journal": {
        "entries": 41,
        "root": "9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c5f0c",
        "last_entry": "2026-11-23",
    },
}

REGISTER: Mapping[str, Any] = {
    "as_of": "2026-11-02T10:04:00Z",
    "digest": "5f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c",
    "sources": [{"name": "student_registration", "title": "Registrations", "retention_years": 6}],
    "views": [{"declared": {"name": "enrolments"}, "population": "all students on record"}],
    "consumers": [{"name": "quality-committee", "title": "Quality Committee", "grants": []}],
    "caps": [
        {
            "academic_year": "2013/14",
            "allowed": {"epsilon": 10.0, "delta": 1e-07, "times": 22100.0},
            "spent": {"epsilon": 0.5, "delta": 1e-07, "times": 1.65},
            "approved_by": "Data Protection Officer",
        }
    ],
    "journal": {
        "entries": 41,
        "root": "9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c9a7e21d45f0c5f0c",
        "last_entry": "2026-11-01",
    },
}

NAMED: Mapping[str, Mapping[str, Any]] = {
    **QUESTIONS,
    "health": {"value": HEALTH},
    "views": {"value": {"views": [VIEW]}},
    "view": {"value": VIEW},
    "estimate": {"value": ESTIMATE},
    "answer": {"summary": "As whoever asked sees it", "value": ANSWER},
    "record": {"summary": "As an auditor sees it", "value": RECORD},
    "records": {"value": RECORDS},
    "table": {"value": CSV},
    "budget": {"value": BUDGET},
    "entries": {"value": ENTRIES},
    "totals": {"value": TOTALS},
    "checkpoint": {"value": CHECKPOINT},
    "reconciliation": {"value": RECONCILIATION},
    "consistency": {"value": CONSISTENCY},
    "proof": {"value": PROOF},
    "page": {"value": PROBLEM_PAGE},
    "reviews": {"value": REVIEWS},
    "reports": {"value": REPORTS},
    "report": {"summary": "Shortened", "value": REPORT},
    "report-page": {
        "summary": "Shortened",
        "value": "<!DOCTYPE html><title>Learner analytics: annual report 2013/14</title>",
    },
    "register": {"summary": "Shortened", "value": REGISTER},
    **{
        slug: {"summary": problem.title, "value": problem.model_dump(exclude_none=True)}
        for slug, problem in PROBLEMS.items()
    },
}
"""All examples, by the name that the description has them under."""

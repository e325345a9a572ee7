"""Annual reports made by hand: a full year, an empty one, and one with a single question."""

from dataclasses import replace
from datetime import date, timedelta

from dpanalytics.openness.annual import (
    Agreed,
    Annual,
    Answer,
    Figure,
    Missing,
    ProgrammeTold,
    Topic,
)
from dpanalytics.openness.register import JournalTold, Loss, Spending
from dpanalytics.openness.reviews import Review, State, Subject
from dpanalytics.openness.yearly import (
    Acts,
    Adopted,
    CampaignStep,
    Questions,
    Refused,
    Requests,
    Year,
    period_of,
)

POPULATION = "students who agreed to the combining of sources"
FIRST, LAST = date(2026, 8, 1), date(2027, 7, 31)


def count(estimate: float, margin: float, **group: str) -> Figure:
    low, high = max(0, estimate - margin), max(0, estimate + margin)
    swamped = margin >= estimate
    return Figure(group, None, "students", estimate, margin, low, high, swamped)


def share(item: str, estimate: float, margin: float, **group: str) -> Figure:
    low, high = max(0.0, estimate - margin), min(1.0, estimate + margin)
    return Figure(group, item, "share", estimate, margin, low, high, margin >= 0.25)


def spending(consumer: str | None, view: str | None, allowed: float, spent: float) -> Spending:
    return Spending(
        consumer,
        view,
        "2026/27",
        Loss(allowed, 1e-7, 22100.0),
        Loss(spent, 1e-7, 30.6 if spent else 1.0),
        LAST,
        None if consumer else "Academic Registrar",
        "PVC Education",
        "Minute 2026/22 of the Education Committee",
        expired=False,
        withdrawn=False,
    )


NOTHING_DONE = Year((), (), (), Acts({}, {}, 0, 0, 0), (), (), (), ())
MISSING = tuple(
    Answer(topic, f"annual-report.2026-27.1.{topic}", missing=why)
    for topic, why in zip(
        Topic, (Missing.NO_SNAPSHOT, Missing.SPENT, Missing.NO_GRANT), strict=True
    )
)

EMPTY = Annual(
    institution="Example University",
    academic_year="2026/27",
    period=period_of("2026/27"),
    edition=1,
    written_on=date(2026, 11, 24),
    year=NOTHING_DONE,
    consumers={},
    views={},
    titles={},
    grants=(),
    cap=None,
    programmes=(),
    answers=MISSING,
    agreed=(),
    reviews=(),
    contact=None,
    rules="ab" * 32,
    journal=JournalTold(1, "0f" * 32, date(2026, 8, 1)),
)

ONE_QUESTION = replace(
    EMPTY,
    year=replace(
        NOTHING_DONE,
        questions=(Questions("quality-committee", "enrolments", "quality-review", 1, 0),),
    ),
    consumers={"quality-committee": "Academic Quality Committee"},
    views={"enrolments": "Enrolments and their results"},
    grants=(spending("quality-committee", "enrolments", 3, 0.4),),
    cap=spending(None, None, 10, 0.4),
)


def _stages() -> tuple[Figure, ...]:
    held = {"missed_work": (120, 60, 41, 28), "quiet_weeks": (1310, 180, 140, 2)}
    names = ("listed", "shown", "contacted", "concluded")
    return tuple(
        count(number, 14, programme=programme, stage=stage)
        for programme, numbers in held.items()
        for stage, number in zip(names, numbers, strict=True)
    )


def _results() -> tuple[Figure, ...]:
    held = {
        "none": (0.41, 0.12, 0.01),
        "listed": (0.34, 0.05, 0.05),
        "shown": (0.35, 0.06, 0.08),
        "contacted": (0.38, 0.06, 0.1),
        "concluded": (0.5, 0.1, 0.3),
    }
    return tuple(
        share(result, (passed, failed)[number], margin, stage=stage)
        for number, result in enumerate(("Pass", "Fail"))
        for stage, (passed, failed, margin) in held.items()
    )


FULL = Annual(
    institution="Example University",
    academic_year="2026/27",
    period=period_of("2026/27"),
    edition=2,
    written_on=date(2026, 11, 24),
    year=Year(
        questions=(
            Questions("annual-report", "support", "annual-report", 3, 0),
            Questions("quality-committee", "enrolments", "quality-review", 1037, 2),
        ),
        refused=(
            Refused("quality-committee", "purpose-forbidden", 2),
            Refused("quiet_weeks", "progression", 1),
            Refused("stewards", "excluded-category", 1),
            Refused("other", "other", 1),
        ),
        programmes=(
            Adopted("quiet_weeks", "offer-support", "PVC Education", FIRST, LAST),
            Adopted("missed_work", "offer-support", "PVC Education", FIRST, LAST),
        ),
        acts=Acts({"quiet_weeks": 14, "missed_work": 9}, {"quiet_weeks": 3}, 41, 63, 38),
        requests=(Requests("access", 9, 7, 1, 1, 0), Requests("correction", 14, 12, 1, 0, 1)),
        campaign=(CampaignStep("2026/27", "opened", date(2026, 9, 14)),),
        rules_changed=(date(2026, 8, 20),),
        restored=(date(2026, 10, 2),),
    ),
    consumers={
        "quality-committee": "Academic Quality Committee",
        "annual-report": "Annual report on learner analytics",
    },
    views={"enrolments": "Enrolments and their results", "support": "Support and results"},
    titles={"quiet_weeks": "Students who go quiet", "missed_work": "Students who miss work"},
    grants=(
        spending("annual-report", "support", 2, 1.39),
        spending("quality-committee", "enrolments", 3, 2.2),
    ),
    cap=spending(None, None, 10, 3.42),
    programmes=tuple(
        ProgrammeTold(name, title, "offer-support", "PVC Education", FIRST, LAST, runs, asked)
        for name, title, runs, asked in (
            ("missed_work", "Students who miss work", 9, 0),
            ("quiet_weeks", "Students who go quiet", 14, 3),
        )
    ),
    answers=(
        Answer(Topic.STAGES, "annual-report.2026-27.2.stages", _stages(), POPULATION, 0.6629),
        Answer(
            Topic.OUTCOMES,
            "annual-report.2026-27.2.outcomes",
            tuple(
                count(number, 12, programme="quiet_weeks", case_outcome=outcome)
                for outcome, number in (("support-accepted", 80), ("no-reply", -3))
            ),
            POPULATION,
            0.6629,
        ),
        Answer(Topic.RESULTS, "annual-report.2026-27.2.results", _results(), POPULATION, 0.956),
    ),
    agreed=tuple(
        Agreed(date(2026, 9, 20) + timedelta(days=20 * n), share(scope, first + 0.035 * n, 0.02))
        for n in range(4)
        for scope, first in (("combine_sources", 0.31), ("special_category", 0.1))
    ),
    reviews=(
        Review(
            Subject.GRANT,
            "quality-committee: enrolments 2026/27",
            "Academic Quality Committee",
            "PVC Education",
            "budgets/quality-committee.yaml",
            date(2026, 9, 30),
            State.EXPIRED,
        ),
        Review(
            Subject.PROGRAMME,
            "quiet_weeks",
            "urn:staff",
            "PVC Education",
            "schemas/programmes/quiet_weeks.yaml",
            LAST,
            State.IN_FORCE,
        ),
    ),
    contact="Data Protection Officer, dpo@example.ac.uk",
    rules="ab" * 32,
    journal=JournalTold(1284, "0f" * 32, date(2026, 11, 23)),
)

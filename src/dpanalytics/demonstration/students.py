"""Synthetic students and what they do: who they are, enrolments, submissions, clicks, consents.

Pure. The assumptions, all made up: deprivation and schooling shift ability and drive; drive and
ability make engagement; engagement keeps students enrolled, brings clicks and submissions, and
with ability makes the marks; marks make the result. Shares of results are set, near those that
OULAD's authors report.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl

from dpanalytics.demonstration.curriculum import Bools, Curriculum, Floats, Ints

NONE: Final = np.iinfo(np.int64).min
"""Stands for a day that is missing."""

REGIONS: Final = {
    "East Anglian Region": 0.10, "East Midlands Region": 0.07, "Ireland": 0.04,
    "London Region": 0.10, "North Region": 0.06, "North Western Region": 0.09, "Scotland": 0.10,
    "South East Region": 0.07, "South Region": 0.09, "South West Region": 0.08, "Wales": 0.06,
    "West Midlands Region": 0.08, "Yorkshire Region": 0.06,
}  # fmt: skip
SCHOOLING: Final = {
    "No Formal quals": (0.011, -0.9),
    "Lower Than A Level": (0.404, -0.35),
    "A Level or Equivalent": (0.43, 0.15),
    "HE Qualification": (0.145, 0.4),
    "Post Graduate Qualification": (0.01, 1.0),
}
"""Highest education: share of students, and by how much it shifts ability."""
AGES: Final = {"0-35": 0.70, "35-55": 0.293, "55<=": 0.007}
BANDS: Final = (*(f"{low}-{low + 10}%" for low in range(0, 100, 10)), "?")
"""Index of multiple deprivation: the first band is the most deprived, `?` is missing."""
BAND_SHARES: Final = (0.10, 0.11, 0.115, 0.11, 0.10, 0.098, 0.09, 0.09, 0.087, 0.075, 0.025)
CREDITS: Final = {30: 0.12, 60: 0.52, 90: 0.10, 120: 0.20, 150: 0.025, 180: 0.028, 240: 0.007}
RESULTS: Final = ("Withdrawn", "Fail", "Pass", "Distinction")
WITHDRAWN_SHARE: Final = 0.31
FAIL_SHARE: Final = 0.31
"""Of those who stay to the end."""
DISTINCTION_SHARE: Final = 0.135
"""Of those who stay to the end."""
FIRST_CLICK_DAY: Final = -25


@dataclass(frozen=True)
class Students:
    """One entry per student; `ability` and `drive` are in standard deviations and not written."""

    identifier: Ints
    gender: list[str]
    region: list[str]
    schooling: list[str]
    band: Ints
    """Index into `BANDS`."""
    age: Ints
    """Index into `AGES`, at the first enrolment."""
    disability: list[str]
    ability: Floats
    drive: Floats


@dataclass(frozen=True)
class Enrolments:
    """One entry per student and presentation, sorted by presentation, then student."""

    student: Ints
    """Index into `Students`."""
    presentation: Ints
    """Index into `Curriculum`."""
    earlier_attempts: Ints
    credits: Ints
    age: Ints
    registered: Ints
    """Day of registration, or `NONE`."""
    unregistered: Ints
    """Day of unregistration, or `NONE`."""
    first: Ints
    """First day on which the student may click."""
    last: Ints
    """Last day on which the student clicks or submits; before `first` for those never active."""
    engagement: Floats
    quality: Floats
    """Of the work handed in, in standard deviations."""
    result: Ints
    """Index into `RESULTS`."""


def draw_students(rng: np.random.Generator, count: int) -> Students:
    """That many students."""
    region = _choose(rng, REGIONS, count)
    schooling = _indices(rng, [share for share, _ in SCHOOLING.values()], count)
    band = _indices(rng, BAND_SHARES, count)
    abroad = (np.array(region) == "Ireland") & (rng.random(count) < 0.6)
    band = np.where(abroad, len(BANDS) - 1, band)  # the index is one of England, Scotland, Wales
    comfort = np.where(band == len(BANDS) - 1, 0.0, (band - 4.5) / 2.9)
    age = _indices(rng, list(AGES.values()), count)
    shift = np.array([shift for _, shift in SCHOOLING.values()])
    return Students(
        identifier=np.sort(rng.choice(900_000, size=count, replace=False) + 100_000),
        gender=_choose(rng, {"F": 0.455, "M": 0.545}, count),
        region=region,
        schooling=[list(SCHOOLING)[i] for i in schooling.tolist()],
        band=band,
        age=age,
        disability=_choose(rng, {"N": 0.903, "Y": 0.097}, count),
        ability=shift[schooling] + 0.22 * comfort + 0.85 * rng.standard_normal(count),
        drive=0.18 * comfort + 0.2 * (age > 0) + 0.95 * rng.standard_normal(count),
    )


def draw_enrolments(
    rng: np.random.Generator, students: Students, curriculum: Curriculum
) -> Enrolments:
    """Each student's enrolments: one mostly, several for 12 students in 100."""
    student, presentation = _places(rng, len(students.identifier), curriculum)
    count = len(student)
    length = curriculum.length[presentation]
    hardness = curriculum.hardness[presentation]
    ability, drive = students.ability[student], students.drive[student]
    engagement = 0.7 * drive + 0.3 * ability + 0.6 * rng.standard_normal(count)
    leaning = 0.6 * hardness - 0.6 * engagement - 0.3 * ability + rng.logistic(size=count)
    withdrawn = _highest(leaning, WITHDRAWN_SHARE)
    quality = 0.7 * ability + 0.5 * engagement - 0.3 * hardness + 0.3 * rng.standard_normal(count)
    result = _results(quality + 0.5 * rng.standard_normal(count), withdrawn)

    registered = -1 - rng.gamma(2.0, 35.0, count).astype(np.int64)
    late = rng.random(count) < 0.03
    registered = np.where(late, rng.integers(0, 21, count), np.maximum(registered, -320))
    left = _leaving_days(rng, registered, length)
    drifted = (result == RESULTS.index("Fail")) & (rng.random(count) < 0.4)
    drift = (length * rng.uniform(0.1, 0.9, count)).astype(np.int64)
    last = np.where(withdrawn, np.minimum(left - 1, length), np.where(drifted, drift, length))
    lost = rng.random(count)
    later = np.array([code.startswith("2014") for code in curriculum.presentation])[presentation]
    has_birthday = rng.random(len(students.age)) < 0.03  # the same answer in every enrolment
    older = later & (students.age[student] == 0) & has_birthday[student]
    return Enrolments(
        student=student,
        presentation=presentation,
        earlier_attempts=_attempts(rng, student, presentation, curriculum),
        credits=np.array(list(CREDITS))[_indices(rng, list(CREDITS.values()), count)],
        age=students.age[student] + older,
        registered=np.where(lost < 0.0014, NONE, registered),
        unregistered=np.where(withdrawn & (lost < 0.992), left, NONE),
        first=np.maximum(registered, FIRST_CLICK_DAY),
        last=last,
        engagement=engagement,
        quality=quality,
        result=result,
    )


def draw_submissions(
    rng: np.random.Generator, enrolments: Enrolments, curriculum: Curriculum
) -> pl.DataFrame:
    """Columns enrolment, assessment (indices), day, banked, score (None where not marked)."""
    per_presentation = np.bincount(curriculum.assessment_of, minlength=len(curriculum.length))
    start = np.cumsum(per_presentation) - per_presentation
    counts = per_presentation[enrolments.presentation]
    enrolment = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(enrolment)) - np.repeat(np.cumsum(counts) - counts, counts)
    assessment = start[enrolments.presentation[enrolment]] + nth

    size = len(enrolment)
    due = curriculum.assessment_day[assessment]
    exam = curriculum.is_exam[assessment]
    last = enrolments.last[enrolment]
    careful = 1 / (1 + np.exp(-(1.5 + 0.9 * enrolments.engagement[enrolment])))
    banked = ~exam & (enrolments.earlier_attempts[enrolment] > 0) & (rng.random(size) < 0.1)
    handed_in = (due <= last) & (banked | (rng.random(size) < careful))
    handed_in &= ~exam | curriculum.records_exam[enrolments.presentation[enrolment]]

    slip = np.where(rng.random(size) < 0.15, rng.integers(1, 11, size), -rng.integers(0, 5, size))
    day = np.where(banked, -1, np.where(exam, due, np.minimum(due + slip, last)))
    lost = 20 * np.exp(-0.5 * enrolments.quality[enrolment] + 0.6 * rng.standard_normal(size))
    score = np.clip(np.rint(100 - lost), 0, 100).astype(np.int64)
    frame = pl.DataFrame(
        {
            "enrolment": enrolment,
            "assessment": assessment,
            "day": day,
            "banked": banked.astype(np.int64),
            "score": score,
        }
    ).with_columns(score=pl.when(pl.Series(rng.random(size) >= 0.001)).then("score"))
    return frame.filter(pl.Series(handed_in))


def draw_clicks(
    rng: np.random.Generator, enrolments: Enrolments, curriculum: Curriculum, rows: int
) -> pl.DataFrame:
    """Columns enrolment, page (indices), day, clicks; about five rows a sitting."""
    days = np.maximum(enrolments.last - enrolments.first + 1, 0)
    appeal = days * np.exp(0.7 * enrolments.engagement)
    sittings = -(-rows // 5)
    enrolment = np.sort(_indices(rng, appeal, sittings))
    fade = rng.random(sittings) ** 1.2  # a little less towards the end
    day = enrolments.first[enrolment] + (days[enrolment] * fade).astype(np.int64)
    sitting = np.concatenate([np.arange(sittings), rng.integers(0, sittings, rows)])[:rows]
    pages = np.bincount(curriculum.page_of, minlength=len(curriculum.length))
    where = enrolments.presentation[enrolment[sitting]]
    rank = (pages[where] * rng.random(rows) ** 3).astype(np.int64)  # few pages draw most
    return pl.DataFrame(
        {
            "enrolment": enrolment[sitting],
            "page": (np.cumsum(pages) - pages)[where] + rank,
            "day": day[sitting],
            "clicks": np.ceil(rng.lognormal(0.6, 1.2, rows)).astype(np.int64),
        }
    )


def draw_consents(rng: np.random.Generator, identifiers: pl.Series, *, today: date) -> pl.DataFrame:
    """Decisions by students in the last hundred days; four in five end up agreeing to combining."""
    count = len(identifiers)
    combining = rng.random(count) < 0.86
    decided = rng.integers(0, 70, count)
    first = pl.DataFrame(
        {
            "student": identifiers,
            "combine_sources": combining,
            "individual_support": rng.random(count) < np.where(combining, 0.75, 0.1),
            "special_category": rng.random(count) < np.where(combining, 0.4, 0.03),
            "decided_on": pl.Series(decided, dtype=pl.Int32),
        }
    ).filter(pl.Series(rng.random(count) >= 0.05))
    changed = first.filter(pl.Series(rng.random(len(first)) < 0.03)).with_columns(
        combine_sources=~pl.col("combine_sources"),
        decided_on=pl.col("decided_on") + 30,
    )
    scopes = ("combine_sources", "individual_support", "special_category")
    return (
        pl.concat([first, changed])
        .sort("decided_on", "student")
        .with_columns(
            *(
                pl.when(scope).then(pl.lit("yes")).otherwise(pl.lit("no")).alias(scope)
                for scope in scopes
            ),
            decided_on=pl.lit(today - timedelta(days=100)) + pl.duration(days="decided_on"),
        )
    )


def _choose(rng: np.random.Generator, shares: dict[str, float], count: int) -> list[str]:
    values = list(shares)
    return [values[i] for i in _indices(rng, list(shares.values()), count).tolist()]


def _indices(
    rng: np.random.Generator, weights: Floats | list[float] | tuple[float, ...], count: int
) -> Ints:
    """Indices drawn with the weights, by inversion: much faster than `choice` for many."""
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    drawn = np.searchsorted(edges, rng.random(count) * edges[-1], side="right")
    indices: Ints = np.minimum(drawn, len(edges) - 1).astype(np.int64)
    return indices


def _highest(values: Floats, share: float) -> Bools:
    """True for that share of the values, from the top."""
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[np.argsort(-values, kind="stable")[: round(share * len(values))]] = True
    return chosen


def _places(rng: np.random.Generator, students: int, curriculum: Curriculum) -> tuple[Ints, Ints]:
    """Student and presentation of each enrolment, sorted by presentation, then student."""
    several = np.where(rng.random(students) < 0.117, 2, 1)
    several += (several == 2) & (rng.random(students) < 0.07)
    several += (several == 3) & (rng.random(students) < 0.1)
    # Presentations without replacement by weight: the highest of log weight plus Gumbel noise
    # (Efraimidis and Spirakis 2006).
    keys = np.log(curriculum.share) + rng.gumbel(size=(students, len(curriculum.share)))
    ranked = np.argsort(-keys, axis=1, kind="stable")
    student, nth = np.nonzero(np.arange(ranked.shape[1]) < several[:, None])
    presentation = ranked[student, nth]
    order = np.lexsort((student, presentation))
    return student[order], presentation[order]


def _attempts(
    rng: np.random.Generator, student: Ints, presentation: Ints, curriculum: Curriculum
) -> Ints:
    """Earlier attempts at the module: those on file, and some from before the files begin."""
    code = np.unique(curriculum.module, return_inverse=True)[1][presentation]
    order = np.lexsort((presentation, code, student))
    same = (np.diff(student[order], prepend=-1) == 0) & (np.diff(code[order], prepend=-1) == 0)
    position = np.arange(len(order))
    begins = np.maximum.accumulate(np.where(same, 0, position))
    on_file = np.empty_like(student)
    on_file[order] = position - begins
    before: Ints = _indices(rng, [0.885, 0.09, 0.019, 0.004, 0.002], len(student))
    return before + on_file


def _results(mark: Floats, withdrawn: Bools) -> Ints:
    result = np.full(len(mark), RESULTS.index("Pass"))
    stayed = np.flatnonzero(~withdrawn)
    result[stayed[_highest(-mark[stayed], FAIL_SHARE)]] = RESULTS.index("Fail")
    result[stayed[_highest(mark[stayed], DISTINCTION_SHARE)]] = RESULTS.index("Distinction")
    result[withdrawn] = RESULTS.index("Withdrawn")
    return result


def _leaving_days(rng: np.random.Generator, registered: Ints, length: Ints) -> Ints:
    """The day on which a student would leave: three in ten before the first day."""
    count = len(registered)
    before = (registered * rng.random(count)).astype(np.int64)
    during = 1 + (length * rng.beta(1.0, 1.9, count)).astype(np.int64)
    early = (rng.random(count) < 0.3) & (registered < 0)
    return np.maximum(np.where(early, before, during), registered + 1)

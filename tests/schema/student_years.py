"""Records of two students in several years, and the promise that a view must keep of them."""

import datetime as dt
import random

import polars as pl

from .small_sources import SOURCES, as_multiset, frame_of, of_student, run

STUDENTS = [bytes([i]) * 16 for i in range(2)]
TERMS = ["13J", "14B", "14J"]
YEAR_OF_TERM = {"13J": "2013/14", "14B": "2013/14"}
CASE = "CASE {} WHEN '13J' THEN '2013/14' WHEN '14B' THEN '2013/14' ELSE '2014/15' END"


def random_frames(chance: random.Random):
    """Records of two students with missing values, extremes and many repeats."""

    def maybe(value):
        return None if chance.random() < 0.2 else value

    colours = ["red", "green", "blue"]
    people = [
        {
            "student": chance.choice(STUDENTS),
            "colour": maybe(chance.choice(colours)),
            "note": maybe(chance.choice(["", "12", "a", "Añb", "-3", "1e3", *TERMS])),
            "n": chance.choice([-3, 0, 1, 7, 2**31 - 1]),
            "m": maybe(chance.randint(-9, 9)),
            "big": maybe(chance.choice([-(2**40), 0, 5, 2**62])),
            "weight": maybe(chance.choice([0, 50, 125, -350])),
            "born": maybe(dt.date(2013, chance.randint(1, 12), 1)),
            "seen": maybe(dt.datetime(2013, 1, chance.randint(1, 28), tzinfo=dt.UTC)),
            "flag": maybe(chance.random() < 0.5),
            "term": maybe(chance.choice(TERMS)),
        }
        for _ in range(chance.randint(0, 14))
    ]
    events = [
        {
            "student": chance.choice(STUDENTS),
            "colour": maybe(chance.choice(colours)),
            "n": chance.randint(-3, 3),
            "page": chance.randint(0, 3),
            "term": maybe(chance.choice(TERMS)),
        }
        for _ in range(chance.randint(0, 14))
    ]
    pages = [
        {
            "page": page,
            "colour": chance.choice([*colours, "grey"]),
            "title": maybe("a"),
            "term": maybe(chance.choice(TERMS)),
        }
        for page in range(chance.randint(0, 4))
    ]
    return {
        "people": frame_of(SOURCES["people"], people),
        "events": frame_of(SOURCES["events"], events),
        "pages": frame_of(SOURCES["pages"], pages),
    }


def with_year(frame, told, pages):
    """The frame with the year of each record, as the text `told` says it is worked out."""
    terms = frame["term"]
    for key in ("colour", "page"):
        if f"[pages.term by {key}={key}]" in told:
            meant = {}
            for value, term in zip(pages[key].to_list(), pages["term"], strict=True):
                meant.setdefault(value, set()).update({term} - {None})
            only = {value: next(iter(t)) for value, t in meant.items() if len(t) == 1}
            terms = [only.get(value) for value in frame[key]]
            told = told.replace(f"([pages.term by {key}={key}])", "term")
            told = told.replace(f"[pages.term by {key}={key}]", "term")
    assert told in ("term", CASE.format("term"))
    if told != "term":
        terms = [YEAR_OF_TERM.get(term, "2014/15") for term in terms]
    return frame.with_columns(year=pl.Series(list(terms), dtype=pl.String))


def parts_of(frames, years):
    """The records of each student and year, with the year."""
    dated = {
        name: with_year(frame, years[name], frames["pages"]) if name in years else frame
        for name, frame in frames.items()
    }
    every = {year for name in years for year in dated[name]["year"]}
    for student in STUDENTS:
        own = of_student(dated, student)
        for year in every:
            yield (
                year,
                {
                    name: frame.filter(pl.col("year").eq_missing(year)).drop("year")
                    if name in years
                    else frame
                    for name, frame in own.items()
                },
            )


def is_per_student_and_year(sql, frames, years, run=run):
    """Whether the view of all is the view of each student's year, put together."""
    found = []
    for year, part in parts_of(frames, years):
        rows = run(sql, part)
        if not set(rows["academic_year"]) <= {year}:
            return False
        found += as_multiset(rows)
    return as_multiset(run(sql, frames)) == sorted(found)

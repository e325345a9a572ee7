"""A synthetic university on disk: seven files in the shape of OULAD, and consents.

Everything is drawn from a seed (`curriculum.py`, `students.py`); no record of a real person goes
in. Headers, quoting and spellings of missing values are those of the Open University Learning
Analytics Dataset (Kuzilek, Hlosta and Zdrahal, Scientific Data 4:170171, 2017), so what loads one
loads the other.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from dpanalytics.demonstration.curriculum import Curriculum, Ints, draw_curriculum
from dpanalytics.demonstration.students import (
    AGES,
    BANDS,
    NONE,
    RESULTS,
    Enrolments,
    Students,
    draw_clicks,
    draw_consents,
    draw_enrolments,
    draw_students,
    draw_submissions,
)
from dpanalytics.errors import IngestError

FEWEST_STUDENTS: Final = 100
MARKER: Final = "SYNTHETIC.txt"
CONSENTS: Final = "consents.csv"
UNQUOTED: Final = frozenset({"studentAssessment", "studentVle"})
"""Files written without quotes; all others quote every value."""


@dataclass(frozen=True)
class University:
    """What was written and where."""

    directory: Path
    files: tuple[Path, ...]
    """The seven files; named after OULAD's."""
    consents: Path
    students: int
    enrolments: int
    submissions: int
    clicks: int
    """Rows of clicks, not clicks."""


def write_university(
    directory: Path,
    *,
    today: date,
    students: int = 30_000,
    clicks: int = 1_000_000,
    seed: int = 2013,
) -> University:
    """Write a university that does not exist; the same day, seed and sizes write the same bytes.

    Args:
        directory: Made where it is missing; files of the same names are written over.
        today: Before which students decided about consent; an old decision would have lapsed.
        students: Distinct students, 100 or more; there are about an eighth more enrolments.
        clicks: Rows of clicks.
        seed: Not below 0.

    Raises:
        ValueError: A size or the seed is too small.
    """
    if students < FEWEST_STUDENTS or clicks < 0 or seed < 0:
        raise ValueError(
            f"students {students}, clicks {clicks}, seed {seed}; "
            f"must be at least {FEWEST_STUDENTS}, 0 and 0"
        )
    # One stream of random numbers a table: more clicks leave the students as they are.
    taught, people, enrolled, handed_in, clicked, agreed, spelt = np.random.default_rng(seed).spawn(
        7
    )
    curriculum = draw_curriculum(taught)
    population = draw_students(people, students)
    enrolments = draw_enrolments(enrolled, population, curriculum)
    submissions = draw_submissions(handed_in, enrolments, curriculum)
    visits = draw_clicks(clicked, enrolments, curriculum, clicks)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text(
        f"This university does not exist. Its students, their records and their consents were "
        f"drawn from random numbers (seed {seed}); a likeness to any person is chance.\n",
        encoding="utf-8",
    )
    who = pl.DataFrame(
        {
            "code_module": [curriculum.module[p] for p in enrolments.presentation.tolist()],
            "code_presentation": [
                curriculum.presentation[p] for p in enrolments.presentation.tolist()
            ],
            "id_student": population.identifier[enrolments.student],
        }
    )
    tables = {
        "courses": _courses(curriculum),
        "assessments": _assessments(curriculum),
        "vle": _pages(curriculum),
        "studentInfo": _information(spelt, who, population, enrolments),
        "studentRegistration": who.with_columns(
            date_registration=_days(enrolments.registered),
            date_unregistration=_days(enrolments.unregistered),
        ),
        "studentAssessment": _submissions(submissions, who, curriculum),
        "studentVle": _visits(visits, who, curriculum),
    }
    files = tuple(_write(table, directory / f"{name}.csv") for name, table in tables.items())
    consents = draw_consents(agreed, pl.Series(population.identifier), today=today)
    consents.write_csv(directory / CONSENTS)
    return University(
        directory=directory,
        files=files,
        consents=directory / CONSENTS,
        students=students,
        enrolments=len(who),
        submissions=len(submissions),
        clicks=len(visits),
    )


def write_consents(students_csv: Path, target: Path, *, today: date, seed: int = 2013) -> Path:
    """Make up consents for the students of a real `studentInfo.csv`, and say so in a file beside.

    Raises:
        IngestError: The file can't be read, or has no column `id_student`.
    """
    try:
        read = pl.read_csv(students_csv, columns=["id_student"], infer_schema=False)
    except (OSError, pl.exceptions.PolarsError):  # an engine's message may carry a value
        raise IngestError(f"{students_csv}: is no CSV file with a column id_student") from None
    identifiers = read["id_student"].drop_nulls().unique().sort()
    target.parent.mkdir(parents=True, exist_ok=True)
    (target.parent / MARKER).write_text(
        f"The decisions in {target.name} are made up (seed {seed}); no student took them.\n",
        encoding="utf-8",
    )
    draw_consents(np.random.default_rng(seed), identifiers, today=today).write_csv(target)
    return target


def _courses(curriculum: Curriculum) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "code_module": curriculum.module,
            "code_presentation": curriculum.presentation,
            "module_presentation_length": curriculum.length,
        }
    )


def _assessments(curriculum: Curriculum) -> pl.DataFrame:
    """The day of every other presentation's exam is missing."""
    unknown = curriculum.is_exam & (curriculum.assessment_of % 2 == 0)
    return pl.DataFrame(
        {
            "code_module": [curriculum.module[p] for p in curriculum.assessment_of.tolist()],
            "code_presentation": [
                curriculum.presentation[p] for p in curriculum.assessment_of.tolist()
            ],
            "id_assessment": curriculum.assessment_id,
            "assessment_type": curriculum.assessment_kind,
            "date": _days(np.where(unknown, NONE, curriculum.assessment_day)),
            "weight": curriculum.assessment_weight,
        }
    )


def _pages(curriculum: Curriculum) -> pl.DataFrame:
    week = _days(np.where(curriculum.page_week < 0, NONE, curriculum.page_week))
    return pl.DataFrame(
        {
            "id_site": curriculum.page_id,
            "code_module": [curriculum.module[p] for p in curriculum.page_of.tolist()],
            "code_presentation": [curriculum.presentation[p] for p in curriculum.page_of.tolist()],
            "activity_type": curriculum.page_kind,
            "week_from": week,
            "week_to": week,
        }
    )


def _information(
    rng: np.random.Generator, who: pl.DataFrame, students: Students, enrolments: Enrolments
) -> pl.DataFrame:
    """One band is spelt in two ways, as happens where two systems fill one file."""
    index = enrolments.student.tolist()
    band = pl.Series([BANDS[i] for i in students.band[enrolments.student].tolist()])
    careless = pl.Series(rng.random(len(who)) < 0.3) & (band == "10-20%")
    return who.with_columns(
        gender=pl.Series([students.gender[i] for i in index]),
        region=pl.Series([students.region[i] for i in index]),
        highest_education=pl.Series([students.schooling[i] for i in index]),
        imd_band=pl.select(pl.when(careless).then(pl.lit("10-20")).otherwise(band)).to_series(),
        age_band=pl.Series([list(AGES)[i] for i in enrolments.age.tolist()]),
        num_of_prev_attempts=pl.Series(enrolments.earlier_attempts),
        studied_credits=pl.Series(enrolments.credits),
        disability=pl.Series([students.disability[i] for i in index]),
        final_result=pl.Series([RESULTS[i] for i in enrolments.result.tolist()]),
    )


def _submissions(
    submissions: pl.DataFrame, who: pl.DataFrame, curriculum: Curriculum
) -> pl.DataFrame:
    return submissions.sort("assessment", "enrolment").select(
        id_assessment=pl.lit(pl.Series(curriculum.assessment_id)).gather("assessment"),
        id_student=pl.lit(who["id_student"]).gather("enrolment"),
        date_submitted="day",
        is_banked="banked",
        score="score",
    )


def _visits(visits: pl.DataFrame, who: pl.DataFrame, curriculum: Curriculum) -> pl.DataFrame:
    chosen = who[visits["enrolment"]]
    return chosen.with_columns(
        id_site=pl.lit(pl.Series(curriculum.page_id)).gather(visits["page"]),
        date=visits["day"],
        sum_click=visits["clicks"],
    ).sort("code_module", "code_presentation", "date", maintain_order=True)


def _days(days: Ints) -> pl.Series:
    """Days as text, `?` where missing."""
    numbers = pl.Series(days)
    return pl.select(
        pl.when(numbers == NONE).then(pl.lit("?")).otherwise(numbers.cast(pl.String))
    ).to_series()


def _write(table: pl.DataFrame, path: Path) -> Path:
    table.write_csv(path, quote_style="never" if path.stem in UNQUOTED else "always")
    return path

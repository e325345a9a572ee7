"""A home whose declarations hold a special category case, and a clock that tests set."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.homes import create_home
from tests.conftest import ROOT

CASE = """
name: access
title: Adjustments in time
aspect: How soon adjustments to materials are in place.
evidence: A pilot study of two modules, on file with the office.
opens: [{source: student_info, columns: [disability]}]
views: [access]
approved_by: Data Protection Officer
approved_on: 2026-10-01
valid_until: 2026-10-31
"""

VIEW = """
name: access
title: Enrolments by declared disability
description: One row a student and module.
purposes: [quality-review]
academic_years: [2012/13, 2013/14, 2014/15]
sql: |
  SELECT
    student,
    CASE code_presentation
      WHEN '2013B' THEN '2012/13'
      WHEN '2013J' THEN '2013/14'
      WHEN '2014B' THEN '2013/14'
      WHEN '2014J' THEN '2014/15'
    END AS academic_year,
    code_module AS module,
    code_presentation AS presentation,
    disability
  FROM student_info
grain: [module, presentation]
dimensions:
  - {name: module, title: Module, values: [AAA, BBB, CCC, DDD, EEE, FFF, GGG]}
  - {name: presentation, title: Presentation, values: [2013B, 2013J, 2014B, 2014J]}
  - {name: disability, title: Declared disability, values: [N, Y], constant: true}
contributions:
  - {by: [module, presentation], groups: 2}
"""

GRANT = """
consumer: access-review
title: Review of access
purposes: [quality-review]
grants:
  - view: access
    academic_year: 2013/14
    epsilon: 5
    delta: 1.0e-7
    valid_until: 2099-07-31
    approved_by: PVC Education
"""

HEADER = (
    "id_student,code_module,code_presentation,gender,region,highest_education,imd_band,age_band,"
    "num_of_prev_attempts,studied_credits,disability,final_result\n"
)

IN_FORCE = datetime(2026, 10, 5, 9, tzinfo=UTC)
LAST_SECOND = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
EXPIRED = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    """Tells the moment that a test set."""

    def __init__(self, now: datetime = IN_FORCE) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def declarations(root: Path, *, case: str | None = CASE) -> Path:
    """The shipped declarations, with a view of special category data and the case that opens it."""
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / "schemas/cases").mkdir(exist_ok=True)
    if case is not None:
        (root / "schemas/cases/access.yaml").write_text(case)
        (root / "schemas/views/access.yaml").write_text(VIEW)
        (root / "budgets/access-review.yaml").write_text(GRANT)
    return root


def home_of(folder: Path) -> Settings:
    """A home with these declarations."""
    root = declarations(folder / "declared")
    create_home(folder / "home", declarations=root)
    return load_settings(folder / "home", environ={})


def enrolments(*students: tuple[str, str], presentation: str = "2013J") -> str:
    """Enrolments of students, each with Y or N for a declared disability."""
    rows = (
        f"{name},AAA,{presentation},F,Scotland,HE Qualification,0-10%,0-35,0,60,{disability},Pass"
        for name, disability in students
    )
    return HEADER + "".join(f"{row}\n" for row in rows)


def decisions(*lines: str) -> str:
    """Decisions of students: lines of student, three answers and a day."""
    head = "student,combine_sources,individual_support,special_category,decided_on\n"
    return head + "".join(f"{line}\n" for line in lines)

"""What the synthetic university teaches: modules, presentations, assessments, pages.

Pure. Codes and kinds are those that the declarations of OULAD's files allow; numbers are made up.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FIRST_ASSESSMENT_ID: Final = 1_001
FIRST_PAGE_ID: Final = 500_001
EXAM: Final = "Exam"


@dataclass(frozen=True)
class Module:
    """A module and how it is taught."""

    code: str
    share: float
    """Of all enrolments, over all its presentations."""
    presentations: tuple[str, ...]
    """Year, then B (starts in February) or J (starts in October)."""
    tutor_marked: int
    computer_marked: int
    pages: int
    """Of the learning environment, in each presentation."""
    hardness: float
    """Standard deviations by which an outcome is lower than in the average module."""
    records_exam: bool = False
    """Whether exam marks stand among the submissions."""


EVERY_START: Final = ("2013B", "2013J", "2014B", "2014J")
MODULES: Final = (
    Module("AAA", 0.023, ("2013J", "2014J"), 5, 0, 200, -0.4),
    Module("BBB", 0.243, EVERY_START, 6, 5, 290, -0.1),
    Module("CCC", 0.136, ("2014B", "2014J"), 4, 4, 210, 0.3, records_exam=True),
    Module("DDD", 0.192, EVERY_START, 6, 0, 420, 0.2, records_exam=True),
    Module("EEE", 0.090, ("2013J", "2014B", "2014J"), 4, 0, 110, -0.2),
    Module("FFF", 0.238, EVERY_START, 5, 7, 490, 0.1),
    Module("GGG", 0.078, ("2013J", "2014B", "2014J"), 3, 6, 120, -0.5),
)

PAGE_KINDS: Final = {
    "resource": 0.42, "subpage": 0.165, "oucontent": 0.157, "url": 0.14, "forumng": 0.03,
    "quiz": 0.02, "page": 0.016, "oucollaborate": 0.013, "questionnaire": 0.01, "ouwiki": 0.008,
    "dataplus": 0.005, "externalquiz": 0.004, "glossary": 0.004, "ouelluminate": 0.003,
    "dualpane": 0.003, "repeatactivity": 0.0005, "htmlactivity": 0.0005, "sharedsubpage": 0.0005,
    "folder": 0.0005,
}  # fmt: skip
"""Kinds of pages and their shares; the first page of a presentation is its home page."""


@dataclass(frozen=True)
class Curriculum:
    """All presentations with their assessments and pages, as columns; day 0 is the first day."""

    module: list[str]
    presentation: list[str]
    length: Ints
    """Days that a presentation takes."""
    share: Floats
    """Of all enrolments."""
    hardness: Floats
    records_exam: Bools
    assessment_of: Ints
    """Per assessment: the index of its presentation; assessments stand in their order."""
    assessment_kind: list[str]
    assessment_day: Ints
    assessment_weight: list[str]
    """Per cent of the mark, as text."""
    page_of: Ints
    """Per page: the index of its presentation."""
    page_kind: list[str] = field(repr=False)
    page_week: Ints
    """The only week in which a page is used; below 0 for the whole presentation."""

    @property
    def is_exam(self) -> Bools:
        """Per assessment: whether it is an exam."""
        return np.array([kind == EXAM for kind in self.assessment_kind])

    @property
    def assessment_id(self) -> Ints:
        """Identifiers of the assessments."""
        return np.arange(len(self.assessment_kind)) + FIRST_ASSESSMENT_ID

    @property
    def page_id(self) -> Ints:
        """Identifiers of the pages."""
        return np.arange(len(self.page_kind)) + FIRST_PAGE_ID


def draw_curriculum(rng: np.random.Generator) -> Curriculum:
    """The curriculum; only the pages depend on chance."""
    taught = [(module, code) for module in MODULES for code in module.presentations]
    length = np.array([268 if code.endswith("J") else 240 for _, code in taught])
    size = np.array([m.share / len(m.presentations) * _rush(code) for m, code in taught])
    assessments = [
        (index, *one)
        for index, (module, _) in enumerate(taught)
        for one in _assessments(module, int(length[index]))
    ]
    pages = np.array([module.pages for module, _ in taught])
    kinds = list(PAGE_KINDS)
    chances = np.array(list(PAGE_KINDS.values()))
    page_kind = rng.choice(kinds, size=pages.sum(), p=chances / chances.sum())
    page_kind[np.cumsum(pages) - pages] = "homepage"
    page_of = np.repeat(np.arange(len(taught)), pages)
    one_week = (rng.random(pages.sum()) < 0.17) & (page_kind != "homepage")
    week = rng.integers(0, length[page_of] // 7, size=pages.sum())
    return Curriculum(
        module=[module.code for module, _ in taught],
        presentation=[code for _, code in taught],
        length=length,
        share=size / size.sum(),
        hardness=np.array([module.hardness for module, _ in taught]),
        records_exam=np.array([module.records_exam for module, _ in taught]),
        assessment_of=np.array([index for index, *_ in assessments]),
        assessment_kind=[kind for _, kind, _, _ in assessments],
        assessment_day=np.array([day for _, _, day, _ in assessments]),
        assessment_weight=[weight for *_, weight in assessments],
        page_of=page_of,
        page_kind=page_kind.tolist(),
        page_week=np.where(one_week, week, -1),
    )


def _rush(presentation: str) -> float:
    """October draws more students than February."""
    return 1.25 if presentation.endswith("J") else 0.85


def _assessments(module: Module, length: int) -> list[tuple[str, int, str]]:
    """Kind, day and weight: tutor-marked and computer-marked in turn, the exam last."""
    tutor = [
        round(length * (k + 0.5) / (module.tutor_marked + 0.3)) for k in range(module.tutor_marked)
    ]
    computer = [
        round(length * (k + 0.9) / (module.computer_marked + 0.6))
        for k in range(module.computer_marked)
    ]
    weight = (100 - 2 * module.computer_marked) / module.tutor_marked
    whole = int(weight * 2) / 2  # to the nearest half below; the last one takes what is left
    weights = [whole] * (module.tutor_marked - 1)
    weights.append(100 - 2 * module.computer_marked - sum(weights))
    listed = [("TMA", day, f"{w:g}") for day, w in zip(tutor, weights, strict=True)]
    listed += [("CMA", day, "2") for day in computer]
    return [*sorted(listed, key=lambda one: one[1]), (EXAM, length, "100")]

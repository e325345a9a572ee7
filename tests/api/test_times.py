"""Response time classes over HTTP: the whole application, with a real journal and real clocks.

What is planted here is more work than any student makes, so that it is there to be found: what
padding that is missing would show. `tests/query/test_timing.py` has the statistics of little work.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from dpanalytics.query.timing import at_once
from dpanalytics.settings import load_settings
from tests.api.serving import COMMITTEE, Standing, standing

CLASS = 0.25
"""Seconds; the default of `time_class_ms`."""
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"metrics": [{"metric": "students"}]},
    {"metrics": [{"metric": "histogram", "dimension": "outcome"}]},
    {
        "group_by": ["module"],
        "academic_years": ["2013/14", "2014/15"],
        "metrics": [{"metric": "students"}, {"metric": "mean", "measure": "credits"}],
    },
)
"""Of little work and of more."""


class Asking:
    """Asks a service new questions, one after another, with work planted where rows are read."""

    def __init__(self, service: Standing) -> None:
        self.service = service
        self.planted = 0.0
        self._number = count(1)
        door = service.served.app.state.door
        self.hold_back = door.desk("quality-committee").hold_back
        service.served.app.state.door = self
        self._door = door

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def desk(self, consumer: str) -> Any:
        def held(work: Callable[[], bytes]) -> bytes:
            def planted() -> bytes:
                time.sleep(self.planted)
                return work()

            return self.hold_back(planted)

        return dataclasses.replace(self._door.desk(consumer), hold_back=held)

    def took(self, question: dict[str, Any]) -> float:
        """Seconds from the request to its answer, which was not known before."""
        number = next(self._number)
        new = {
            "view": "enrolments",
            "academic_years": ["2013/14"],
            "purpose": "quality-review",
            "epsilon": round(0.001 + number * 1e-7, 9),
        }
        begun = time.perf_counter()
        answered = self.service.ask(new | question, key=f"question-{number}", token=COMMITTEE)
        spent = time.perf_counter() - begun
        assert answered.status_code == 201, answered.text
        return spent


@contextmanager
def asking(home: Path) -> Iterator[Asking]:
    quick = {"requests_per_minute": 1_000_000}
    settings = load_settings(home, environ={}).model_copy(update=quick)
    assert settings.time_class_ms == CLASS * 1000
    with standing(settings) as service:
        there = Asking(service)
        there.took(QUESTIONS[0])  # imports, caches
        yield there


def test_no_answer_comes_before_its_class_ends_and_most_come_soon_after(home: Path) -> None:
    """For work of 0 to 120 ms more, so that an answer fills one class or two.

    That none comes earlier holds always. That more than half come within half a class after the
    end of one leaves the machine 125 ms for all else: sign-in, plan, debit, record and reply.
    """
    spent = []
    with asking(home) as there:
        for n in range(9):
            there.planted = 0.04 * (n % 4)
            spent.append(there.took(QUESTIONS[n % 3]))
    assert min(spent) >= CLASS
    after = sorted(math.fmod(seconds, CLASS) for seconds in spent)
    assert after[len(after) // 2] < CLASS / 2


def test_without_classes_answers_would_come_when_their_work_ends(home: Path) -> None:
    """As one of five within 250 ms shows, and work of half a second that no answer comes before."""
    spent = {}
    with asking(home) as there:
        there.hold_back = at_once
        for planted in (0.0, 2 * CLASS):
            there.planted = planted
            spent[planted] = [there.took(QUESTIONS[n % 3]) for n in range(5)]
    assert min(spent[0.0]) < CLASS
    assert min(spent[2 * CLASS]) >= 2 * CLASS

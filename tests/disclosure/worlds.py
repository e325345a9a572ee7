"""Small worlds of records, and what indicators come to, told once more in plain Python."""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from math import floor
from pathlib import Path

import polars as pl

from dpanalytics.disclosure.formulas import Missing
from dpanalytics.disclosure.indicators import compute
from dpanalytics.schema.declared import read_declarations
from dpanalytics.store.sources import storage_schema

DECLARED = read_declarations(Path(__file__).parents[2])
INDICATORS = tuple(DECLARED.indicators.values())
BASIS = DECLARED.basis
AS_OF = date(2014, 3, 20)
STARTS = {p.name: p.first for p in BASIS.presentations}


class FakeLoad:
    def __init__(self, name, loaded_at, key_id):
        self.id, self.loaded_at, self.key_id = f"load-of-{name}", loaded_at, key_id
        self.dropped_columns = ("disability",)  # of student_info, as long as no case is in force


class World:
    """Records of every source in memory, as the store keeps them."""

    def __init__(self, records, *, loaded_on=date(2030, 1, 1), declared=DECLARED.sources):
        self.records = {name: list(rows) for name, rows in records.items()}
        self.declared = declared
        self.loaded_on = defaultdict(lambda: loaded_on)
        self.keys = {}

    def loads(self, name):
        if self.records.get(name) is None:
            return ()
        moment = datetime.combine(self.loaded_on[name], time(3), UTC)
        key = None if self.declared[name].is_public else self.keys.get(name, "key")
        return (FakeLoad(name, moment, key),)

    def scan(self, source):
        rows = self.records.get(source.name) or []
        schema = storage_schema(source)
        plain = [{name: row.get(name) for name in schema} for row in rows]
        return pl.DataFrame(plain, schema=schema, orient="row").lazy()

    def of(self, student):
        """The same with the records of one student alone, and public tables."""
        alone = World({}, declared=self.declared)
        alone.loaded_on = self.loaded_on
        alone.records = {
            name: [r for r in rows if self.declared[name].is_public or r["student"] == student]
            for name, rows in self.records.items()
        }
        return alone


def computed(world, *, as_of=AS_OF, indicators=INDICATORS, middles=(), **more):
    return compute(
        indicators,
        world,
        declared=world.declared,
        basis=more.pop("basis", BASIS),
        as_of=as_of,
        middles=middles,
        cases=more.pop("cases", {}),
        today=more.pop("today", AS_OF),
        **more,
    )


def rows_of(world, **more):
    """Each row's indicators: a value, or the reason why there is none."""
    found = {}
    made = computed(world, **more)
    for row in made.rows().iter_rows(named=True):
        key = (row["student"], row["module"], row["presentation"])
        assert key not in found
        found[key] = {
            i.name: row[i.name]
            if row[f"{i.name}.missing"] is None
            else Missing(row[f"{i.name}.missing"])
            for i in made.indicators
        }
        for i in made.indicators:
            assert (row[i.name] is None) != (row[f"{i.name}.missing"] is None)
    return found


def enrolment(student, module="AAA", presentation="2013J"):
    return {
        "student": student, "code_module": module, "code_presentation": presentation,
        "gender": "F", "region": "Wales", "highest_education": "HE Qualification",
        "age_band": "0-35", "num_of_prev_attempts": 0, "studied_credits": 60,
        "final_result": "Pass",
    }  # fmt: skip


def clicks(student, day, count=1, module="AAA", presentation="2013J"):
    return {
        "student": student, "code_module": module, "code_presentation": presentation,
        "id_site": 1, "date": day, "sum_click": count,
    }  # fmt: skip


def assessment(number, due, module="AAA", presentation="2013J", kind="TMA"):
    return {
        "code_module": module, "code_presentation": presentation, "id_assessment": number,
        "assessment_type": kind, "date": due, "weight": 1000,
    }  # fmt: skip


def submission(student, number, day, score=50, banked=0):
    return {
        "student": student, "id_assessment": number, "date_submitted": day, "score": score,
        "is_banked": banked,
    }  # fmt: skip


def registration(student, joined, left=None, module="AAA", presentation="2013J"):
    return {
        "student": student, "code_module": module, "code_presentation": presentation,
        "date_registration": joined, "date_unregistration": left,
    }  # fmt: skip


EMPTY = {
    "student_info": [], "student_vle": [], "assessments": [], "student_assessment": [],
    "student_registration": [],
}  # fmt: skip


def world(**records):
    return World(EMPTY | records)


def half_up(number):
    return floor(Fraction(number) + Fraction(1, 2))


class Oracle:
    """What the formulas say, student by student and record by record, without the engine."""

    def __init__(self, world, *, as_of=AS_OF, middles=()):
        self.world, self.as_of, self.middles = world, as_of, middles

    def rows(self):
        running = {p.name for p in BASIS.presentations if p.first <= self.as_of <= p.last}
        keys = {
            (r["student"], r["code_module"], r["code_presentation"])
            for r in self.world.records["student_info"]
            if r["code_presentation"] in running
        }
        return {key: self.of(*key) for key in keys}

    def of(self, student, module, presentation):
        today = (self.as_of - STARTS[presentation]).days

        def mine(name):
            return [
                r
                for r in self.world.records[name]
                if (r["student"], r["code_module"], r["code_presentation"])
                == (student, module, presentation)
            ]

        visits = [r for r in mine("student_vle") if r["date"] <= today]
        work = self.handed_in(student, module, presentation, today)
        registered = mine("student_registration")
        return {
            "activity_own_2_weeks": self.own(visits, today, 2),
            "activity_own_4_weeks": self.own(visits, today, 4),
            "activity_middle_2_weeks": self.middle(visits, today, 2, module, presentation),
            "activity_middle_4_weeks": self.middle(visits, today, 4, module, presentation),
            "days_since_activity": today - max(r["date"] for r in visits)
            if visits
            else Missing.NO_RECORD,
            "late_submissions": sum(
                1
                for w in work.values()
                if not w["banked"] and w["due"] is not None and w["day"] > w["due"]
            ),
            "missed_submissions": self.missed(registered, work, module, presentation, today),
            "score_trend": self.trend(work),
            "registration_changes": sum(
                1
                for r in registered
                for day in (r["date_registration"], r["date_unregistration"])
                if day is not None and max(0, today - 28) < day <= today
            )
            if registered
            else Missing.NO_RECORD,
        }

    @staticmethod
    def by_week(visits):
        weeks = defaultdict(int)
        for visit in visits:
            if visit["date"] >= 0:
                weeks[visit["date"] // 7] += visit["sum_click"]
        return weeks

    @staticmethod
    def recent(today, count):
        whole = [week for week in range(60) if 7 * week + 6 <= today]
        return whole[-count:] if len(whole) >= count else None, whole

    def own(self, visits, today, count):
        if not visits:
            return Missing.NO_RECORD
        weeks = self.by_week(visits)
        last, whole = self.recent(today, count)
        before = [w for w in whole if weeks and min(weeks) <= w and w not in (last or whole)]
        if not before:
            return Missing.TOO_EARLY
        average = Fraction(sum(weeks[w] for w in before), len(before))
        if average == 0:
            return Missing.NOTHING_EARLIER
        return half_up(100 * Fraction(sum(weeks[w] for w in last), count) / average)

    def middle(self, visits, today, count, module, presentation):
        if not visits:
            return Missing.NO_RECORD
        last, _ = self.recent(today, count)
        if last is None:
            return Missing.TOO_EARLY
        place = (f"activity_middle_{count}_weeks", module, presentation, last[0], last[-1])
        found = [
            m
            for m in self.middles
            if (m.indicator, m.module, m.presentation, m.first_week, m.last_week) == place
        ]
        if not found:
            return Missing.NO_MIDDLE
        if found[0].value <= found[0].margin or found[0].value <= 0:
            return Missing.MIDDLE_TOO_COARSE
        weeks = self.by_week(visits)
        return half_up(100 * sum(weeks[w] for w in last) / Fraction(found[0].value))

    def due(self, module, presentation):
        rows = self.world.records["assessments"]
        once = [r for r in rows if sum(o["id_assessment"] == r["id_assessment"] for o in rows) == 1]
        return {
            r["id_assessment"]: r["date"]
            for r in once
            if (r["code_module"], r["code_presentation"]) == (module, presentation)
            and r["assessment_type"] in ("TMA", "CMA")
        }

    def handed_in(self, student, module, presentation, today):
        due, work = self.due(module, presentation), {}
        for number in due:
            rows = [
                r
                for r in self.world.records["student_assessment"]
                if r["student"] == student
                and r["id_assessment"] == number
                and r["date_submitted"] <= today
            ]
            if rows:
                scored = [r for r in rows if r["score"] is not None]
                latest = max(scored, key=lambda r: (r["date_submitted"], r["score"]), default=None)
                work[number] = {
                    "day": min(r["date_submitted"] for r in rows),
                    "due": due[number],
                    "banked": any(r["is_banked"] == 1 for r in rows),
                    "score": latest and latest["score"],
                }
        return work

    def missed(self, registered, work, module, presentation, today):
        if not registered:
            return Missing.NO_RECORD
        count = 0
        for number, due in self.due(module, presentation).items():
            if due is None or due >= today or number in work:
                continue
            for row in registered:
                joined, left = row["date_registration"], row["date_unregistration"]
                gone = left is not None and left <= today and due >= left
                if (joined is None or due >= joined) and not gone:
                    count += 1
                    break
        return count

    @staticmethod
    def trend(work):
        scored = sorted(
            (w["day"], number, w["score"])
            for number, w in work.items()
            if not w["banked"] and w["score"] is not None
        )
        scores = [score for *_, score in scored]
        latest, before = scores[-2:], scores[:-2]
        if not before:
            return Missing.TOO_FEW
        rise = Fraction(sum(latest), 2) - Fraction(sum(before), len(before))
        return half_up(10 * rise)


def day_of(presentation, day):
    return STARTS[presentation] + timedelta(days=day)

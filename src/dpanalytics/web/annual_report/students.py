"""What the year's figures about students say, in words: who agreed, and what came of support.

Pure. Each figure is a release, told with its margin; nothing is said about causes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from dpanalytics.openness.annual import NOBODY, Agreed, Annual, Answer, Missing, Topic
from dpanalytics.web.annual_report.document import (
    Block,
    Chart,
    Column,
    Heading,
    Mark,
    Notice,
    Points,
    Prose,
    Table,
)
from dpanalytics.web.format import day, estimate, in_full, noisy, span

STAGES: Mapping[str, str] = {
    "none": "No case",
    "listed": "Found, name not shown",
    "shown": "Name shown to staff",
    "contacted": "Contacted",
    "concluded": "Contacted and concluded",
}
"""How far a case came, in words."""
OUTCOMES: Mapping[str, str] = {
    "support-accepted": "Support was accepted",
    "support-declined": "Support was declined",
    "no-need": "No need was found",
    "referred": "Referred elsewhere",
    "no-reply": "No reply came",
    "not-contacted": "Not contacted",
}
"""What staff noted at the end of a case, in words."""
SCOPES: Mapping[str, str] = {
    "combine_sources": "Combining records of several systems",
    "special_category": "Use of sensitive data",
}
WHY: Mapping[Missing, str] = {
    Missing.NOT_DECLARED: "the view that these figures come from is not declared",
    Missing.NO_SNAPSHOT: "no snapshot of these records has been built for the year",
    Missing.NO_GRANT: "no budget has been approved for these figures",
    Missing.GRANT_EXPIRED: "the budget for these figures has passed its last day",
    Missing.SPENT: "the budget for these figures is spent",
    Missing.NOT_ANSWERED: "the view does not hold what these figures need, or was declared anew",
}


def consent(report: Annual) -> Iterator[Block]:
    """What share of the students had agreed, now and by day."""
    yield Prose(
        "Students are asked whether records of several systems may be combined, and whether "
        "sensitive data may be used. No answer means no. The shares below are of all students who "
        f"have records of {report.academic_year}, counted with noise after a snapshot."
    )
    if not report.agreed:
        yield Notice(
            "No share can be given: none is recorded yet. One is recorded after each snapshot."
        )
    else:
        yield from _over_time(report.agreed)
    if report.year.campaign:
        yield Heading("The yearly question")
        yield Points(
            tuple(
                f"{day(each.day)}: "
                + (
                    f"students were asked for {each.academic_year}"
                    if each.step == "opened"
                    else f"reminders were listed for {each.academic_year}"
                )
                for each in report.year.campaign
            )
        )


def _over_time(agreed: Sequence[Agreed]) -> Iterator[Block]:
    """Shares by day, as a chart of all of them and a table of the last of each month."""
    months: dict[tuple[int, int, str], Agreed] = {}
    for each in agreed:
        months[each.day.year, each.day.month, each.share.item or ""] = each
    what = "Students who had agreed, as a share of all students"
    if len({each.day for each in agreed}) > 1:
        yield Chart(
            "days",
            what,
            "Share of the students",
            "; ".join(
                f"{_scope(each)}, {day(each.day)}: {in_full(each.share)}"
                for each in months.values()
            )
            + ".",
            tuple(
                Mark(
                    each.day.isoformat(),
                    _scope(each),
                    each.share.estimate,
                    each.share.low,
                    each.share.high,
                )
                for each in agreed
            ),
        )
    yield Table(
        f"{what}: the last figure of each month",
        (
            Column("Day of the snapshot"),
            Column("Agreed to"),
            Column("Share", number=True),
            Column("Between", number=True),
        ),
        tuple(
            (day(each.day), _scope(each), estimate(each.share), span(each.share))
            for each in months.values()
        ),
    )


def _scope(each: Agreed) -> str:
    item = each.share.item or ""
    return SCOPES.get(item, item)


def _none(what: str, answer: Answer) -> Notice:
    why = WHY[answer.missing] if answer.missing is not None else ""
    return Notice(f"{what} can’t be given: {why}.")


def effect(report: Annual) -> Iterator[Block]:
    """What came of support, beside those who had none."""
    population = next((each.population for each in report.answers if each.population), None)
    yield Prose(
        "These figures carry noise. Beside each stands its margin: the exact figure lies within it "
        "95 times in 100. "
        + (f"They are of {population}; nothing is known here of others. " if population else "")
        + "A figure is called too uncertain where it can’t be told from the noise."
    )
    yield Heading("How far cases came")
    yield from _counts(
        report,
        Topic.STAGES,
        dimension="stage",
        spoken=STAGES,
        what="Students by how far their case came",
        head="How far the case came",
    )
    yield Heading("What staff noted at the end")
    yield from _counts(
        report,
        Topic.OUTCOMES,
        dimension="case_outcome",
        spoken=OUTCOMES,
        what="Students by what came of their case",
        head="What came of it",
    )
    yield Heading("Results, with and without a case")
    yield from _results(report)


def _counts(
    report: Annual, topic: Topic, *, dimension: str, spoken: Mapping[str, str], what: str, head: str
) -> Iterator[Block]:
    """Counts of students by programme and one dimension, as a chart and a table."""
    answer = report.answer(topic)
    if answer.missing is not None:
        yield _none(what, answer)
        return
    order = list(spoken)
    rows = sorted(
        answer.figures,
        key=lambda f: (
            f.group["programme"],
            order.index(f.group[dimension]) if f.group[dimension] in order else math.inf,
        ),
    )
    named = [
        (
            report.titles.get(each.group["programme"], _plain(each.group["programme"])),
            spoken.get(each.group[dimension], each.group[dimension]),
            each,
        )
        for each in rows
    ]
    yield Chart(
        "bars",
        what,
        "Students",
        "; ".join(f"{programme}, {place}: {in_full(each)}" for programme, place, each in named)
        + ".",
        tuple(
            Mark(place, programme, each.estimate, each.low, each.high)
            for programme, place, each in named
        ),
    )
    yield Table(
        what,
        (
            Column("Programme"),
            Column(head),
            Column("Students", number=True),
            Column("Between", number=True),
        ),
        tuple((programme, place, estimate(each), span(each)) for programme, place, each in named),
    )


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _results(report: Annual) -> Iterator[Block]:
    answer = report.answer(Topic.RESULTS)
    what = "Results by how far a case came"
    if answer.missing is not None:
        yield _none(what, answer)
        return
    yield Notice(
        "A difference between these groups is not the effect of support. Programmes look for "
        "students who differ from others to begin with, and staff decide whom to contact. The "
        "nearest comparison is with students whom a programme found and nobody was shown; the "
        "group without a case differs most."
    )
    stages = [stage for stage in STAGES if any(f.group["stage"] == stage for f in answer.figures)]
    results = list(dict.fromkeys(f.item or "" for f in answer.figures))
    found = {(f.group["stage"], f.item or ""): f for f in answer.figures}
    yield Chart(
        "points",
        what,
        "Share of the students of the group",
        "; ".join(
            f"{result}: "
            + ", ".join(
                f"{STAGES[stage].lower()} {in_full(found[stage, result])}" for stage in stages
            )
            for result in results
        )
        + ".",
        tuple(
            Mark(
                result,
                STAGES[stage],
                found[stage, result].estimate,
                found[stage, result].low,
                found[stage, result].high,
            )
            for result in results
            for stage in stages
        ),
    )
    yield Table(
        f"{what}: share of the students of the group with that result",
        (Column("Group"), *(Column(result, number=True) for result in results)),
        tuple(
            (
                STAGES[stage] + (" (for comparison)" if stage in (NOBODY, "listed") else ""),
                *(noisy(found[stage, result]) for result in results),
            )
            for stage in stages
        ),
    )
    yield Prose(
        "A student of several modules counts under each of their results, so the shares of a group "
        "can add up to more than 100%."
    )

"""The appendix of the annual report: how its figures were made, in words for everybody.

Pure. For members of committees and students' representatives: no formula, and every limit named.
"""

from collections.abc import Iterator

from dpanalytics.openness.annual import CONSUMER, EDITIONS, Annual, Topic
from dpanalytics.web.annual_report.document import Block, Column, Heading, Points, Prose, Table
from dpanalytics.web.format import as_likely, chance, counted, day, figure

TOPICS = {
    Topic.STAGES: "How far cases came",
    Topic.OUTCOMES: "What staff noted at the end",
    Topic.RESULTS: "Results, with and without a case",
}


def method(report: Annual) -> Iterator[Block]:
    """The appendix."""
    yield Heading("Which figures are exact, and which carry noise")
    yield Points(
        (
            "Exact: what offices and staff did. Questions, refusals, what was spent of the privacy "
            "budget, searches of programmes, approvals, readings and closings of cases, and "
            "answers to requests. Each is an entry of the journal, which auditors read and count.",
            "With noise: everything that is counted over students and their records. How many "
            "agreed, how many were found, contacted or supported, what came of it, and results.",
            "Approvals, readings and closings are told for all programmes and the whole period "
            "together, never by month, programme or outcome: in a small group such a number could "
            "tell what one student decided.",
        )
    )
    yield Heading("Whom the noise protects")
    yield Prose(
        "One student, with everything that stands about them in the records of one academic year: "
        "all their modules, cases and decisions together. The figures would look nearly the same "
        "if the student had no records here at all, and nobody can tell from them which was the "
        "case. It holds even against somebody who knows everything about everybody else."
    )
    yield Heading("How the noise is made")
    yield Prose(
        "Students are counted in groups that were fixed beforehand, and each student can change "
        "only a few of the counts, by a bounded amount. To each count a random whole number is "
        "added, most often a small one (the discrete Gaussian mechanism, drawn by the OpenDP "
        "library). It is drawn once. The result is recorded before anybody sees it, and whoever "
        "asks again is told the same, so the noise can’t be averaged away. Shares are worked out "
        "from noisy counts, and nothing is taken from the exact ones after that."
    )
    yield Heading("What a margin means")
    yield Prose(
        "The size of the noise is known, so the margin is too: 120 ± 14 means that the exact "
        "figure lies between 106 and 134, 95 times in 100. It speaks of the noise alone. It does "
        "not speak of records that are wrong or missing, or of students who did not agree and so "
        "are not counted. In a small group the margin is as wide as in a large one, so small "
        "groups tell little: that is on purpose."
    )
    yield Heading("What the figures cost")
    yield from _cost(report)
    yield Heading("What the comparison can’t tell")
    yield Points(
        (
            "Whether support helped. Students of whom a case was opened differ from others before "
            "anybody does anything: a programme’s rule found them for that reason.",
            "What would have happened to the same students without support. Nobody was chosen by "
            "lot, and no group was left without help for the sake of a comparison.",
            "Anything about students who did not agree. Those who agree may differ from those who "
            "do not, in ways that nobody here can see.",
            "Anything about one student. A person is more than traces in computer systems, and "
            "does not have to behave as others did.",
        )
    )
    yield Heading("How to check this report")
    told = report.journal
    newest = f"; its newest entry is of {day(told.last_entry)}" if told.last_entry else ""
    yield Prose(
        f"When it was written, the journal had {counted('entry', 'entries')(told.entries)}"
        f"{newest}. "
        f"The root of its tree was {told.root}. The rules in force had the digest {report.rules}. "
        "Auditors can verify the journal without trusting the service, and find each release below "
        "in it under its name."
    )
    yield Points(
        tuple(
            f"{TOPICS[each.topic]}: {each.request_id}"
            for each in report.answers
            if each.missing is None
        )
        or ("No release was made for this report.",)
    )
    if report.year.rules_changed:
        days = ", ".join(day(each) for each in report.year.rules_changed)
        yield Prose(f"The rules were changed in the period on {days}.")
    if report.year.restored:
        days = ", ".join(day(each) for each in report.year.restored)
        yield Prose(f"The journal was restored from a backup on {days}.")
    if report.contact is not None:
        yield Prose(f"Questions about this report: {report.contact}.")


def _cost(report: Annual) -> Iterator[Block]:
    yield Prose(
        f"The report has a budget of its own ({CONSUMER}), within the limit of the year. It pays "
        f"for {counted('edition')(EDITIONS)} of a year’s report. Writing an edition again costs "
        "nothing, and tells the same figures."
    )
    paid = [each for each in report.answers if each.epsilon is not None]
    if paid:
        yield Table(
            "What this edition cost each student of the year",
            (Column("Figures"), Column("Epsilon", number=True)),
            tuple((TOPICS[each.topic], figure(each.epsilon or 0.0)) for each in paid),
        )
    own = [each for each in report.grants if each.consumer == CONSUMER]
    for each in own:
        yield Prose(
            f"Of the budget for questions about {report.views.get(each.view or '', each.view)}, "
            f"epsilon {figure(each.spent.epsilon)} of {figure(each.allowed.epsilon)} is spent: "
            "whatever could follow for a student from these figures is at most "
            f"{as_likely(each.spent.times)} as if the student had no records here, but for a "
            f"chance of {chance(each.allowed.delta)}."
        )

"""What was done in the year: questions, budgets, acts of staff, requests, approvals, in words.

Pure. All of it is declared, charged, or an act that stands in the journal.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dpanalytics.openness.annual import CONSUMER, Annual
from dpanalytics.openness.register import Spending
from dpanalytics.openness.reviews import Review, State, Subject
from dpanalytics.openness.yearly import EXCLUDED, OTHER, STEWARDS, Acts, Questions
from dpanalytics.schema.coverage import CONSUMER as COVERAGE
from dpanalytics.web.annual_report.document import (
    Block,
    Card,
    Cards,
    Column,
    Heading,
    Notice,
    Points,
    Prose,
    Table,
)
from dpanalytics.web.format import as_likely, chance, counted, day, figure, noisy

THEMSELVES = frozenset({CONSUMER, COVERAGE})
"""Consumers that ask by themselves, for no committee."""
REQUESTS: Mapping[str, str] = {
    "correction": "Correction of what is held",
    "access": "A copy of what is held",
    "erasure": "Erasure",
}
REASONS: Mapping[str, str] = {
    "purpose-forbidden": "a purpose that the policy forbids",
    "purpose-not-granted": "a purpose that it is not approved for",
    "progression": "a decision on progression",
    "assessment": "assessing a student",
    "award": "a decision on an award",
    "marking": "marking",
    EXCLUDED: "records that are never used",
    OTHER: "a purpose that is not on the list",
}
STATES: Mapping[State, str] = {
    State.EXPIRED: "expired: refused",
    State.DUE: "due for review",
    State.NOT_YET: "not yet in force",
    State.IN_FORCE: "in force",
}
SUBJECTS: Mapping[Subject, str] = {
    Subject.GRANT: "Budget",
    Subject.CAP: "Limit of a year",
    Subject.CASE: "Case for sensitive data",
    Subject.PROGRAMME: "Programme",
}


def brief(report: Annual) -> Iterator[Block]:
    """The year in a few figures and sentences."""
    year, acts = report.year, report.year.acts
    asked = [each for each in year.questions if each.consumer not in THEMSELVES]
    answered = sum(each.answered for each in asked)
    cards = [Card(f"{answered:,}", "questions of committees about the year’s records answered")]
    if report.cap is not None:
        cards.append(
            Card(
                f"{figure(report.cap.spent.epsilon)} of {figure(report.cap.allowed.epsilon)}",
                "of the year’s privacy budget spent (epsilon)",
            )
        )
    cards.append(Card(f"{acts.disclosed:,}", "times staff read a case with a name"))
    agreed = [each.share for each in report.agreed if each.share.item == "combine_sources"]
    if agreed:
        cards.append(Card(noisy(agreed[-1]), "of the students had agreed to combining records"))
    opened = sum(each.opened for each in year.requests)
    if opened:
        in_time = sum(each.in_time for each in year.requests)
        cards.append(Card(f"{in_time:,} of {opened:,}", "requests of students answered in time"))
    yield Cards(tuple(cards))
    yield Points(tuple(_sentences(report, asked)))
    if any(answer.missing is not None for answer in report.answers):
        yield Notice(
            "Some figures about students could not be given; each section says which, and why."
        )


def _sentences(report: Annual, asked: Sequence[Questions]) -> Iterator[str]:
    year, acts = report.year, report.year.acts
    answered, consumers = sum(q.answered for q in asked), len({q.consumer for q in asked})
    if answered:
        yield (
            f"{counted('question')(answered)} about the records of {report.academic_year} "
            f"{'was' if answered == 1 else 'were'} answered, for "
            f"{counted('committee')(consumers)}. Every answer "
            "carries noise, so that it tells next to nothing of any one student."
        )
    else:
        yield f"No committee has been answered about the records of {report.academic_year}."
    forbidden = sum(each.times for each in year.refused)
    if forbidden:
        yield (
            f"{counted('request')(forbidden)} {'was' if forbidden == 1 else 'were'} refused for "
            f"{'its purpose' if forbidden == 1 else 'their purposes'}."
        )
    else:
        yield "Nothing had to be refused for its purpose."
    if report.programmes or acts.disclosed:
        yield (
            f"{counted('programme')(len(report.programmes))} of support could be acted under; "
            f"staff read a case with a name {counted('time')(acts.disclosed)}, each time written "
            "down before the name was shown."
        )
    else:
        yield "No programme of support was in force, so no member of staff saw a name."
    expired = sum(each.state is State.EXPIRED for each in report.reviews)
    if expired:
        yield (
            f"{counted('approval')(expired)} {'has' if expired == 1 else 'have'} passed the last "
            "day. Nothing new is charged, computed or shown under an approval after it, until it "
            "is approved again."
        )


def statistics(report: Annual) -> Iterator[Block]:
    """What was asked and answered, and what was refused."""
    yield Prose(
        "Committees ask for statistics and get figures with noise. A question counts here when it "
        f"is about the records of {report.academic_year}, whenever it was asked. An answer that "
        "another committee had been given before can be told again without drawing new noise."
    )
    if report.year.questions:
        yield Table(
            f"Questions about the records of {report.academic_year}",
            (
                Column("Who asked"),
                Column("About"),
                Column("For"),
                Column("Answered", number=True),
                Column("Told again", number=True),
            ),
            tuple(
                (
                    report.consumers.get(each.consumer, each.consumer),
                    report.views.get(each.view, each.view),
                    each.purpose.replace("-", " "),
                    f"{each.answered:,}",
                    f"{each.repeated:,}",
                )
                for each in report.year.questions
            ),
        )
    else:
        yield Prose("None was answered.")
    yield Heading("Refusals")
    yield Prose(
        "What is asked for a purpose that the policy forbids, or that was not approved, is refused "
        "and written down. Questions that were badly put, or that the budget did not hold, are not "
        "recorded, since nothing was done about them."
    )
    if report.year.refused:
        yield Table(
            "Refusals in the period",
            (Column("Asked by or under"), Column("Wanted for"), Column("Times", number=True)),
            tuple(
                (_who(each.by, report), REASONS[each.reason], f"{each.times:,}")
                for each in report.year.refused
            ),
        )
    else:
        yield Prose("There were none in the period.")


def _who(name: str, report: Annual) -> str:
    if name == OTHER:
        return "Nobody that is declared"
    if name == STEWARDS:
        return "Data stewards"
    return report.consumers.get(name) or report.titles.get(name) or name


def budgets(report: Annual) -> Iterator[Block]:
    """What may be learnt of the year, and what was."""
    yield Prose(
        "Every answer tells a little about the students behind it. That is measured in epsilon "
        "and added up, and two limits hold: one for each committee and view, and one for the year "
        "over all of them together, since committees can compare notes."
    )
    if report.cap is None:
        yield Notice(f"No limit is declared for {report.academic_year}, so nothing is answered.")
    else:
        cap = report.cap
        yield Prose(
            f"Over all committees together, epsilon {figure(cap.spent.epsilon)} of "
            f"{figure(cap.allowed.epsilon)} is spent. Whatever could follow for a student from all "
            f"answers about the year together is so far at most {as_likely(cap.spent.times)} "
            "as if the student had no records here, but for a very small chance "
            f"({chance(cap.allowed.delta)}). Approved by {cap.approved_by}{_until(cap)}."
        )
    if report.grants:
        yield Table(
            f"Budgets for the records of {report.academic_year}",
            (
                Column("Whose"),
                Column("For questions about"),
                Column("Epsilon spent", number=True),
                Column("Of", number=True),
                Column("Last day"),
            ),
            tuple(
                (
                    report.consumers.get(each.consumer or "", each.consumer or ""),
                    report.views.get(each.view or "", each.view or ""),
                    figure(each.spent.epsilon),
                    figure(each.allowed.epsilon),
                    f"{day(each.valid_until)}{_ended(each)}",
                )
                for each in report.grants
            ),
        )
        yield Prose(
            "Epsilons of single budgets do not add up to the epsilon of the year: several losses "
            "together are less than their sum."
        )
    else:
        yield Prose(f"No committee has a budget for the records of {report.academic_year}.")


def _until(cap: Spending) -> str:
    """The last day of a cap as the end of a sentence; nothing where it has none."""
    if cap.valid_until is None:
        return ""
    return f", valid until {day(cap.valid_until)}{_ended(cap)}"


def _ended(each: Spending) -> str:
    if each.withdrawn:
        return "; no longer declared"
    return "; expired" if each.expired else ""


def support(report: Annual) -> Iterator[Block]:
    """Programmes, and what staff did under them."""
    acts = report.year.acts
    yield Prose(
        "Approved staff may see derived figures with a student’s name, only where the student "
        "agreed, and only under an approved programme. Each reading is written down before the "
        "name is shown, and the student sees who looked, when and why."
    )
    if not report.programmes:
        yield Prose("No programme was in force in the period.")
    if report.programmes:
        yield _programmes(report)
    if report.programmes or any((acts.approved, acts.disclosed, acts.closed)):
        yield from _acts(acts)


def _programmes(report: Annual) -> Table:
    return Table(
        "Programmes that were in force in the period",
        (
            Column("Programme"),
            Column("Purpose"),
            Column("Approved"),
            Column("Last day"),
            Column("Searches", number=True),
            Column("Single students asked for", number=True),
        ),
        tuple(
            (
                each.title,
                each.purpose.replace("-", " "),
                f"by {each.approved_by} on {day(each.approved_on)}",
                day(each.valid_until),
                f"{each.runs:,}",
                f"{each.asked_for:,}",
            )
            for each in report.programmes
        ),
    )


def _acts(acts: Acts) -> Iterator[Block]:
    yield Table(
        "Acts of staff in the period, under all programmes together",
        (Column("Act"), Column("Times", number=True)),
        (
            ("A programme’s rule was run to find students", f"{sum(acts.runs.values()):,}"),
            ("A case of one named student was asked for", f"{sum(acts.asked_for.values()):,}"),
            ("A second person approved a case", f"{acts.approved:,}"),
            ("A case was read with a name", f"{acts.disclosed:,}"),
            ("A case was closed", f"{acts.closed:,}"),
        ),
    )
    yield Prose(
        "These are entries of the journal, one for each act, and auditors count the same. They "
        "count acts, not students: a case can be read more than once. How many students they were "
        "about is told below, with noise."
    )


def requests(report: Annual) -> Iterator[Block]:
    """What students asked for, and whether it was answered in time."""
    yield Prose(
        "Students may ask for a correction, for a copy of what is held, or for erasure. Each "
        "request has a day by which it is to be answered."
    )
    if not report.year.requests:
        yield Prose("None was made in the period.")
        return
    yield Table(
        "Requests that were made in the period, as of the day of this report",
        (
            Column("What was asked for"),
            Column("Made", number=True),
            Column("Answered in time", number=True),
            Column("Answered late", number=True),
            Column("Open, not yet due", number=True),
            Column("Overdue", number=True),
        ),
        tuple(
            (
                REQUESTS.get(each.kind, each.kind),
                f"{each.opened:,}",
                f"{each.in_time:,}",
                f"{each.late:,}",
                f"{each.waiting:,}",
                f"{each.overdue:,}",
            )
            for each in report.year.requests
        ),
    )


def reviews(report: Annual) -> Iterator[Block]:
    """Every approval, the most urgent first."""
    if not report.reviews:
        yield Prose("Nothing is approved, so nothing may be done.")
        return
    yield Prose(
        "Every budget, limit, programme and case for sensitive data has an office that approved "
        "it, and a last day. From the second after it the software refuses."
    )
    yield Table(
        "Approvals as of the day of this report, the most urgent first",
        (
            Column("What"),
            Column("Whose"),
            Column("Number", number=True),
            Column("Approved by"),
            Column("Last day"),
            Column("Stands"),
        ),
        tuple((*named[:2], f"{number:,}", *named[2:]) for named, number in _alike(report).items()),
    )


def _alike(report: Annual) -> Counter[tuple[str, str, str, str, str]]:
    """How many approvals are told in the same words, in their order."""
    return Counter(
        (
            SUBJECTS[each.subject],
            _whose(each),
            each.approved_by,
            day(each.valid_until),
            STATES[each.state],
        )
        for each in report.reviews
    )


def _whose(review: Review) -> str:
    return review.owner if review.subject in (Subject.GRANT, Subject.CAP) else review.name

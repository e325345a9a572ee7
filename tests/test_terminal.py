"""What stands in a terminal: whole figures on any width, plain text, one sentence on the budget."""

import dataclasses
import io
import json
from datetime import date
from typing import Any

import pytest

from dpanalytics.ledger.accounts import Account
from dpanalytics.ledger.loss import Rho, rho_of
from dpanalytics.ledger.verify import Fault, Verification
from dpanalytics.query.answer import Answered
from dpanalytics.query.estimate import Estimate, YearEstimate
from dpanalytics.terminal import (
    budget_table,
    console,
    show_answer,
    show_estimate,
    show_verification,
    show_wide,
)

DELTA = 1e-7


def answered(rows: list[dict[str, Any]], *dimensions: str) -> Answered:
    content = {
        "title": "Results",
        "population": "all students on record",
        "dimensions": list(dimensions),
        "notes": ["A note."],
        "rows": rows,
    }
    return Answered("r1", json.dumps(content).encode(), charged=True, cost=Rho(1))


def row(group: dict[str, str], metric: str, estimate: float, **more: Any) -> dict[str, Any]:
    plain = {"item": None, "unit": "students", "margin": 4, "swamped": False, "students": None}
    ends = {"low": estimate - 4, "high": estimate + 4}
    return {"group": group, "metric": metric, "estimate": estimate} | plain | ends | more


def shown(answer: Answered, *, width: int = 80, hesa: bool = False) -> str:
    text = io.StringIO()
    show_answer(console(text, width=width), answer, hesa=hesa)
    return text.getvalue()


def estimate(*, refusal: str | None = None, margin: float = 25.0, of: str = "students") -> Estimate:
    year = YearEstimate("2013/14", 0.5, DELTA, 0.1, 3.0, 2.9, None if refusal else 2.8, refusal)
    return Estimate(Rho(10**9), {"m": (margin, of)}, (year,), 7, 500, "all students on record")


def shown_estimate(told: Estimate) -> str:
    text = io.StringIO()
    show_estimate(console(text, width=80), told)
    return text.getvalue()


def test_an_answer_says_who_is_in_it_what_it_cost_and_what_to_know() -> None:
    text = shown(answered([row({"module": "AAA"}, "students", 458)], "module"))
    assert text.startswith("Results: all students on record\n")
    assert "458 ± 4" in text
    assert "± holds 95 times in 100" in text
    assert text.endswith("A note.\nRequest id r1; charged now.\n")


def test_items_head_columns_by_themselves_and_their_metric_is_named_once() -> None:
    rows = [
        row({"module": "AAA"}, "histogram(outcome)", 10, item=item) for item in ("Pass", "Fail")
    ]
    text = shown(answered(rows, "module"))
    assert text.count("histogram(outcome)") == 1
    assert "Columns headed by a value are of histogram(outcome)." in text


@pytest.mark.parametrize("value", ["[red]AAA", "[/b]", ":smile:", "[link=x]"])
def test_values_are_shown_as_they_are(value: str) -> None:
    assert value in shown(answered([row({"module": value}, f"rate({value})", 3)], "module"))


WIDE = answered(
    [
        row({"module": module, "region": "South East Region"}, "histogram(outcome)", n, item=item)
        for module, n in (("AAA", 1234), ("BBB", -56))
        for item in ("Pass", "Distinction", "Fail", "Withdrawn")
    ]
    + [
        row({"module": module, "region": "South East Region"}, "rate(outcome=Withdrawn|Fail)", 0.25)
        | {"unit": "share", "margin": 0.051}
        for module in ("AAA", "BBB")
    ],
    "module",
    "region",
)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 200])
def test_on_any_width_every_figure_and_value_is_whole(width: int) -> None:
    text = shown(WIDE, width=width)
    table = text.splitlines()[1:-1]
    assert max(map(len, table)) <= width
    assert "…" not in text
    for cell in ("1,234 ± 4", "-56 ± 4", "25.0 ± 5.1 %", "South East Region", "AAA", "BBB"):
        assert any(cell in line for line in table), cell
    for head in ("Pass", "Distinction", "Fail", "Withdrawn"):
        assert head in text


def test_what_fits_is_one_table_and_what_does_not_repeats_the_groups() -> None:
    assert shown(WIDE, width=200).count("┏") == 1
    narrow = shown(WIDE, width=60)
    assert narrow.count("┏") > 1
    assert narrow.count("South East Region") == 2 * narrow.count("┏")


def test_an_answer_without_groups_or_lines_is_shown() -> None:
    assert "458 ± 4" in shown(answered([row({}, "students", 458)]), width=12)
    text = io.StringIO()
    show_wide(console(text, width=10), ["a long head", "another long head"], [], dimensions=1)


def test_an_estimate_says_in_a_sentence_whether_the_budget_allows_it() -> None:
    assert shown_estimate(estimate()).endswith("The budget allows it.\n")
    text = shown_estimate(estimate(refusal="The grant holds too little."))
    assert text.endswith("It would be refused now, for 2013/14: The grant holds too little.\n")


@pytest.mark.parametrize(
    ("margin", "of", "expected"),
    [
        (25.0, "students", "± 25 "),
        (1234.5, "points", "± 1,234 "),
        (12.345, "points", "± 12.3 "),
        (0.00123, "points", "± 0.00123 "),
        (0.02, "share, at most", "± 2 %"),
        (0.01234, "share of the students", "± 1.23 %"),
    ],
)
def test_margins_are_readable(margin: float, of: str, expected: str) -> None:
    assert expected in shown_estimate(estimate(margin=margin, of=of))


def test_a_budget_says_what_is_left_and_until_when() -> None:
    cap = rho_of(3.0, DELTA)
    account = Account(
        kind="grant",
        consumer="committee",
        view="weekly_activity",
        academic_year="2013/14",
        cap=cap,
        spent=Rho(cap.units // 2),
        epsilon=3.0,
        delta=DELTA,
        valid_until=date(2027, 7, 31),
        approved_by="PVC Education",
    )
    text = io.StringIO()
    console(text, width=80).print(budget_table([account]))
    (line,) = (line for line in text.getvalue().splitlines() if "weekly_activity" in line)
    for told in ("2013/14", " 3 ", "1e-07", "50.0%", "2.", "2027-07-31"):
        assert told in line


def test_a_fault_of_no_entry_is_said_so() -> None:
    text = io.StringIO()
    faults = (Fault(3, "is forged"), Fault(None, "the balances differ"))
    found = Verification(4, 0, 0, b"", ("4 entries " + "x" * 100,), faults)
    show_verification(console(text, width=40), found)
    assert text.getvalue().splitlines() == [
        "proved: 4 entries " + "x" * 100,
        "FAULT at entry 3: is forged",
        "FAULT: the balances differ",
    ]


def test_an_estimate_says_what_asking_is_charged_to() -> None:
    told = shown_estimate(estimate())
    assert told.endswith("The budget allows it.\n")
    assert "paid for before" not in told
    own = shown_estimate(dataclasses.replace(estimate(), charges="nothing"))
    assert own.endswith("It was paid for before: asking again charges nothing.\n")
    assert "The budget allows it." not in own
    other = shown_estimate(dataclasses.replace(estimate(refusal="Too little."), charges="grant"))
    assert "it is charged to the grant, not to the cap" in other
    assert "It would be refused now, for 2013/14: Too little." in other

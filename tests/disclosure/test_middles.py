"""The middle of a module is a release of the macro door, kept as it was told."""

import shutil
import stat
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.disclosure.formulas import Missing
from dpanalytics.disclosure.middles import Middle, read_middles, with_newer, write_middles
from dpanalytics.errors import DeclarationError, IngestError
from dpanalytics.schema.indicator import Presentation
from dpanalytics.wiring.macro import open_macro
from dpanalytics.wiring.micro import open_micro
from dpanalytics.wiring.middles import CONSUMER, QUESTIONS_OF_A_GRANT, release_middles

AS_OF = date(2014, 4, 1)


def middle(value="61.25", margin="11.01", **changes):
    plain = {
        "indicator": "i", "module": "AAA", "presentation": "2013J", "first_week": 3,
        "last_week": 4, "value": Decimal(value), "margin": Decimal(margin), "release": "r",
        "unit": "clicks", "released_on": AS_OF,
    }  # fmt: skip
    return Middle(**plain | changes)


decimals = st.decimals(-(10**6), 10**6, places=4)
made = st.builds(middle, value=decimals, margin=decimals, module=st.text(), last_week=st.integers())


@pytest.mark.parametrize(
    ("value", "margin", "words"),
    [
        ("61.25", "11.01", "about 61.3 clicks (give or take 11.1)"),
        ("60", "20.0", "about 60 clicks (give or take 20)"),
        ("100.04", "0.001", "about 100 clicks (give or take 0.1)"),
    ],
)
def test_it_is_told_as_about_so_much(value, margin, words):
    assert middle(value, margin).in_words == words


@given(st.lists(made))
def test_what_was_kept_is_read_back(tmp_path_factory, middles):
    path = tmp_path_factory.mktemp("kept") / "middles.json"
    write_middles(path, middles)
    assert read_middles(path) == tuple(middles)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_newer_release_takes_the_place_of_the_one_of_the_same_weeks():
    old, other = middle(), middle(last_week=5)
    new = middle("70", module="BBB")
    assert with_newer([old, other], [new]) == (other, new)


def test_no_file_means_none_and_a_damaged_one_is_refused(tmp_path):
    assert read_middles(tmp_path / "none.json") == ()
    for content in ("", "{}", '{"middles": [{"value": "x"}]}', '{"middles": 3}'):
        (tmp_path / "damaged.json").write_text(content)
        with pytest.raises(IngestError, match=r"damaged\.json: is not readable"):
            read_middles(tmp_path / "damaged.json")


@pytest.mark.parametrize(
    ("first", "year"),
    [(date(2013, 8, 1), "2013/14"), (date(2013, 7, 31), "2012/13"), (date(1999, 9, 1), "1999/00")],
)
def test_a_presentation_is_of_the_year_from_august_in_which_it_begins(first, year):
    assert Presentation(name="p", first=first, last=date(2030, 1, 1)).academic_year == year


@pytest.mark.slow
def test_the_middles_are_releases_that_are_paid_for_once_a_snapshot(settings, small_university):
    told = release_middles(settings, as_of=AS_OF)
    assert [(a.indicator, a.presentation, a.charged, a.refusal) for a in told] == [
        ("activity_middle_2_weeks", "2013J", True, None),
        ("activity_middle_2_weeks", "2014B", True, None),
        ("activity_middle_4_weeks", "2013J", True, None),
        ("activity_middle_4_weeks", "2014B", True, None),
    ]
    kept = read_middles(settings.middles)
    assert {m.place for m in kept} == {(a.indicator, a.presentation, *a.weeks) for a in told}
    with open_macro(settings) as door:
        for each in kept:
            answered = door.release(each.release, consumers=frozenset({CONSUMER}))
            row = next(r for r in answered.content["rows"] if r["group"]["module"] == each.module)
            assert (float(each.value), float(each.margin)) == (row["estimate"], row["margin"])
        spent = {a.academic_year: a for a in door.accounts(CONSUMER) if a.kind == "grant"}
        year = spent["2013/14"]
        assert 0 < year.spent.units <= 4 * year.cap.units // QUESTIONS_OF_A_GRANT
        assert spent["2014/15"].spent.units == 0
    # The same day, and any other day of its week: nothing is paid for twice.
    again = release_middles(settings, as_of=AS_OF)
    assert not any(asked.charged for asked in again)
    assert read_middles(settings.middles) == kept
    # The micro door tells them beside each figure that compares with one.
    lines = (small_university / "consents.csv").read_text().splitlines()[1:]
    with open_micro(settings) as micro:
        shown = [
            figure
            for student in sorted({line.split(",")[0] for line in lines})[:40]
            for figure in micro.own_figures(student, as_of=AS_OF)
            if figure.indicator.formula.type == "against_middle"
        ]
    # Of so few students the noise leaves little: the value may be missing, the middle is told.
    assert shown
    assert {figure.middle for figure in shown} <= set(kept)
    assert Missing.NO_MIDDLE not in {figure.missing for figure in shown}


def test_without_a_grant_of_its_own_nothing_is_asked(settings, tmp_path):
    shutil.copytree(settings.declarations / "schemas", tmp_path / "declared/schemas")
    shutil.copytree(settings.declarations / "budgets", tmp_path / "declared/budgets")
    (tmp_path / "declared/budgets/indicators.yaml").unlink()
    bare = settings.model_copy(update={"declarations": tmp_path / "declared"})
    with pytest.raises(DeclarationError, match=r"budgets/indicators\.yaml"):
        release_middles(bare, as_of=AS_OF)

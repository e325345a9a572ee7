"""A grant that is withdrawn while a service stands open over it."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dpanalytics.errors import GrantMissing
from dpanalytics.query.answer import Prepared
from dpanalytics.query.builder import ask
from dpanalytics.query.timing import at_once
from dpanalytics.settings import Settings
from dpanalytics.wiring.macro import GRANTS_KEPT, open_macro

CONSUMER = "quality-committee"
YEAR = "2013/14"
COUNTED = ask("enrolments", years=[YEAR], purpose="quality-review").group_by("module").students()


def withdraw(declarations: Path) -> None:
    """Leave the consumer no grant in these declarations."""
    path = declarations / "budgets" / f"{CONSUMER}.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("grants:")] + "grants: []\n")


def test_it_pays_for_nothing_at_once_and_is_forgotten_within_the_moment(
    settings: Settings, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    for kept in ("schemas", "budgets"):
        shutil.copytree(root / kept, tmp_path / "declared" / kept)
    settings = settings.model_copy(update={"declarations": tmp_path / "declared"})
    with open_macro(settings) as door:
        desk = replace(door.desk(CONSUMER), hold_back=at_once)
        assert desk.answer(COUNTED.spending(epsilon=0.02)).charged
        withdraw(tmp_path / "declared")
        with open_macro(settings) as adopted:
            assert [a for a in adopted.accounts(CONSUMER) if a.kind == "grant"] == []
        waiting = desk.prepare(COUNTED.spending(epsilon=0.03), request_id="later")
        assert isinstance(waiting, Prepared)
        with pytest.raises(GrantMissing):
            desk.complete(waiting)
        time.sleep(GRANTS_KEPT)
        with pytest.raises(GrantMissing):
            desk.prepare(COUNTED.spending(epsilon=0.03), request_id="later")

"""The office's list on the command line: references and days, no student and no word of one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dpanalytics.cli import main
from dpanalytics.settings import load_settings
from tests.consent.registers import ADA, BOB, home_at
from tests.consent.test_requests import WORDS, desk_at
from tests.ledger.fakes import Clock

Run = Callable[[], tuple[object, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    home_at(tmp_path)
    (tmp_path / "settings.toml").write_text('declarations = "."\n')

    def one() -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["requests", "--home", str(tmp_path)])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return one


def test_what_is_overdue_is_listed_first_with_its_days(run: Run, tmp_path: Path) -> None:
    assert "0 open, 0 overdue" in run()[1]
    clock = Clock(datetime.now(UTC) - timedelta(days=20))
    with desk_at(load_settings(tmp_path, environ={}), clock) as desk:
        late = desk.open(ADA, words=WORDS)
        clock.forward(days=20)
        fresh = desk.open(BOB, words=WORDS)
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "2 open, 1 overdue" in out
    first, second = (out.index(each.reference[:6]) for each in (late, fresh))
    assert first < second
    assert "6" in out
    assert WORDS not in out
    assert ADA.hex() not in out

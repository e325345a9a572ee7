"""The micro door opens on a home with both keys, and tells a stranger nothing."""

from datetime import date
from pathlib import Path

import pytest

from dpanalytics.errors import ConfigurationError
from dpanalytics.settings import Settings
from dpanalytics.vault.keys import create_key
from dpanalytics.wiring.micro import open_micro

from .doors import home_at, name_of, staff

ROOT = Path(__file__).parents[2]


def micro_home(directory: Path) -> Settings:
    made = home_at(directory)
    settings = Settings(home=directory, declarations=ROOT)
    settings.vault_key.parent.mkdir(mode=0o700)
    assert made.database == settings.database
    return settings


def test_without_its_keys_the_micro_door_stays_shut(tmp_path):
    settings = micro_home(tmp_path)
    for key in (settings.vault_key, settings.pseudonym_key):
        with pytest.raises(ConfigurationError), open_micro(settings):
            pass
        create_key(key)
    with open_micro(settings) as door:
        door.check_ready()
        tutor = staff(trained_on=date.today())
        assert {p.name for p in door.interventions.programmes(tutor)} == {
            "quiet_weeks",
            "missed_work",
        }
        assert door.disclosures_of(name_of(0)) == ()
        assert door.own_figures(name_of(0)) == ()

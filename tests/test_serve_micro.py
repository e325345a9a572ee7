"""The micro service as a process, beside the macro service, over one home."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from dpanalytics.access.accounts import add_account
from dpanalytics.settings import load_settings
from dpanalytics.wiring.auditor import open_auditor
from tests.api.conftest import singing_home  # noqa: F401  a fixture
from tests.api.microhome import AGREED_AND_QUIET, AS_OF, REASON, TUTORS, number
from tests.services import PASSWORD, PATIENCE, QUESTION, Service, environment, service, started

TUTOR = "tutor"
RUN = {"as_of": AS_OF.isoformat()}


@pytest.fixture
def home(singing_home: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A home with a tutor who signs in."""
    home = tmp_path / "home"
    shutil.copytree(singing_home, home)
    settings = load_settings(home, environ={})
    add_account(
        settings.accounts_file,
        settings.local_tokens_key,
        name=TUTOR,
        password=PASSWORD,
        roles=["staff"],
        entitlements=[TUTORS],
        trained_on=datetime.now(UTC).date(),
        declared_consumers=[],
    )
    return home


def told_by(process: Service) -> str:
    """All that a service wrote to standard error, once it has ended."""
    assert process.process.stderr is not None
    return process.process.stderr.read()


@pytest.mark.slow
def test_both_services_work_beside_each_other_and_each_ends_by_itself(home: Path) -> None:
    with (
        service(home, door="micro") as micro,
        service(home) as macro,
        micro.client(name=TUTOR) as tutor,
        macro.client() as committee,
    ):
        run = tutor.post("/v1/programmes/quiet_weeks/runs", json=RUN)
        asked = committee.post(
            "/v1/releases", json=QUESTION, headers={"idempotency-key": "beside-each-other"}
        )
        assert (run.status_code, asked.status_code) == (200, 201)
        shown = {
            student["identity"]["student"]
            for case in run.json()["cases"]
            for student in tutor.post(f"/v1/cases/{case['case']}/read").json()["students"]
        }
        assert {number(n) for n in AGREED_AND_QUIET} <= shown
        # Signed in at either door, and let in by one's role only.
        assert httpx.get(f"{macro.address}/v1/cases", headers=tutor.headers).status_code == 404
        assert committee.get(f"{micro.address}/v1/cases").status_code == 403
        assert (micro.stop(), macro.stop()) == (0, 0)
        log = told_by(micro)
        assert "/v1/cases/{case}/read" in log
        assert "anar" not in log
        assert TUTOR not in log
    with open_auditor(load_settings(home, environ={})) as auditor:
        assert auditor.verify().passed
        assert len(list(auditor.entries(kind="disclosure"))) == len(shown)


@pytest.mark.slow
def test_several_processes_of_the_micro_service_share_one_home(home: Path) -> None:
    with (
        service(home, door="micro", workers=2, time_class_ms=5) as micro,
        micro.client(name=TUTOR) as tutor,
    ):
        asked = {
            "programme": "quiet_weeks",
            "student": number(AGREED_AND_QUIET[0]),
            "purpose": "offer-support",
            "reason": REASON,
            "as_of": AS_OF.isoformat(),
        }
        for _ in range(6):
            opened = tutor.post("/v1/cases", json=asked, headers={"connection": "close"})
            assert opened.status_code == 201
            read = tutor.post(f"{opened.headers['location']}/read", headers={"connection": "close"})
            assert len(read.json()["students"]) == 1
        assert len(micro.workers()) == 2
        assert micro.stop() == 0


@pytest.mark.slow
def test_the_macro_service_runs_where_no_key_and_no_identity_is(home: Path) -> None:
    settings = load_settings(home, environ={})
    settings.vault_key.unlink()
    settings.pseudonym_key.unlink()
    for file in (settings.vault_file, settings.register_file):
        file.unlink()
        file.mkdir()  # and can't be made anew
        file.chmod(0)
    shutil.rmtree(settings.sources)
    with service(home) as macro, macro.client() as committee:
        asked = committee.post(
            "/v1/releases", json=QUESTION, headers={"idempotency-key": "without-any-key"}
        )
        assert asked.status_code == 201


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vault.key", "pseudonym.key"])
def test_the_micro_service_starts_with_its_keys_only(home: Path, name: str) -> None:
    (home / "keys" / name).unlink()
    environ = environment(home, local_accounts=True)
    with started("serve", "micro", "--port", "0", environ=environ) as process:
        out, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert name in error
    assert "Traceback" not in error

"""Time stamps of checkpoints, by an authority that stands beside the tests."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.timestamp import StampRefused, read_roots, request_stamp, stamped_at
from tests.ledger.authority import Authority, authority_at

TEXT = "example.ac.uk/journal\n41\nLe0jXtGWoUu4ZkJ3ggyoAEUJMx7WHO8hcJ4gkXThFNs=\n"


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with authority_at(tmp_path_factory.mktemp("authority") / "home") as authority:
        yield authority


@pytest.fixture
def authority(standing: Authority) -> Authority:
    standing.replays, standing.status = None, 200
    return standing


@pytest.fixture(scope="module")
def answer(standing: Authority) -> bytes:
    return request_stamp(TEXT, url=standing.url)


def test_an_authority_says_when_a_text_was_there(authority: Authority, answer: bytes) -> None:
    at = stamped_at(answer, TEXT, roots=read_roots(authority.root))
    assert at.tzinfo is UTC
    assert abs(datetime.now(UTC) - at) < timedelta(hours=1)


def test_openssl_finds_the_same(authority: Authority, answer: bytes, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(TEXT)
    (tmp_path / "answer.tsr").write_bytes(answer)
    verify = ("ts", "-verify", "-data", "text", "-in", "answer.tsr", "-CAfile", authority.root)
    subprocess.run(["openssl", *verify], cwd=tmp_path, check=True, capture_output=True)


def test_a_stamp_of_another_text_is_refused(authority: Authority, answer: bytes) -> None:
    with pytest.raises(StampRefused, match="of another checkpoint"):
        stamped_at(answer, TEXT.replace("41", "42"), roots=read_roots(authority.root))


def test_a_stamp_of_another_authority_is_refused(answer: bytes, tmp_path: Path) -> None:
    with authority_at(tmp_path / "other") as other:
        roots = read_roots(other.root)
    with pytest.raises(StampRefused, match="not of an authority under these"):
        stamped_at(answer, TEXT, roots=roots)


def test_an_answer_to_an_earlier_request_is_refused(authority: Authority, answer: bytes) -> None:
    authority.replays = answer
    with pytest.raises(StampRefused, match="another request"):
        request_stamp(TEXT, url=authority.url)


def test_an_authority_that_does_not_answer_is_told(authority: Authority, tmp_path: Path) -> None:
    authority.replays = b"<html>"
    with pytest.raises(StampRefused, match="not a time stamp"):
        request_stamp(TEXT, url=authority.url)
    authority.replays = b"x" * 200_000
    with pytest.raises(ConfigurationError, match="too long"):
        request_stamp(TEXT, url=authority.url)
    authority.status = 503
    with pytest.raises(ConfigurationError, match="status 503"):
        request_stamp(TEXT, url=authority.url)
    with pytest.raises(ConfigurationError, match="does not answer"):
        request_stamp(TEXT, url="http://127.0.0.1:1/")
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="no certificates"):
        read_roots(tmp_path / "none.pem")


@settings(max_examples=60)
@given(data=st.data())
def test_a_changed_answer_tells_no_other_time(
    standing: Authority, answer: bytes, data: st.DataObject
) -> None:
    """A byte that is not signed may change; then it still says the time that was signed."""
    roots = read_roots(standing.root)
    place = data.draw(st.integers(0, len(answer) - 1))
    other = data.draw(st.integers(1, 255)) ^ answer[place]
    changed = answer[:place] + bytes([other]) + answer[place + 1 :]
    with suppress(StampRefused):
        assert stamped_at(changed, TEXT, roots=roots) == stamped_at(answer, TEXT, roots=roots)

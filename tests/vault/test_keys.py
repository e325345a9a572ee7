import os

import pytest

from dpanalytics.errors import ConfigurationError
from dpanalytics.vault.keys import create_key, finish_rotation, prepare_rotation, read_key


def test_a_key_is_32_random_bytes_that_only_its_owner_reads(tmp_path):
    create_key(tmp_path / "a")
    create_key(tmp_path / "b")
    assert len(read_key(tmp_path / "a")) == 32
    assert read_key(tmp_path / "a") != read_key(tmp_path / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0o777)
    try:
        create_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path):
    create_key(tmp_path / "key")
    key = read_key(tmp_path / "key")
    with pytest.raises(ConfigurationError, match="never overwritten"):
        create_key(tmp_path / "key")
    assert read_key(tmp_path / "key") == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601, 0o700])
def test_a_key_that_others_may_use_is_refused(tmp_path, mode):
    create_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ConfigurationError, match="must be 0600"):
        read_key(tmp_path / "key")


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(tmp_path, length):
    path = tmp_path / "key"
    path.write_bytes(b"s" * length)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="must hold 32 bytes") as caught:
        read_key(path)
    assert "sss" not in str(caught.value)


def test_what_is_no_plain_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="not a plain file"):
        read_key(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_key(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="can't be made"):
        create_key(tmp_path / "no such directory" / "key")


def test_a_rotation_leaves_no_other_name_of_a_key_that_a_killed_process_made(tmp_path):
    path = tmp_path / "vault.key"
    create_key(path)
    for left, name in ((".vault.key.k1", path), (".vault.key.next.k2", path)):
        (tmp_path / left).hardlink_to(name)
    prepare_rotation(path)
    finish_rotation(path)
    assert [each.name for each in tmp_path.iterdir()] == ["vault.key"]

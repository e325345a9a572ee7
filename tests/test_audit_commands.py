"""Commands of auditors, as they are typed: where the journal is, and in an audit office."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dpanalytics.client import Answer
from dpanalytics.client.proof import proof_of
from dpanalytics.client.wire import Reply
from dpanalytics.ledger.note import Note, VerifierKey
from dpanalytics.query.request import parse_question
from dpanalytics.settings import load_settings
from dpanalytics.wiring.macro import open_desk
from tests.api.serving import QUESTION
from tests.ledger.authority import authority_at
from tests.test_cli import ROOT, Ran, done, refused, run

__all__ = ["run"]  # a fixture

Run = Callable[..., Ran]
ORIGIN = "example.ac.uk/journal"


@pytest.fixture
def at(home: Path) -> tuple[str, Path]:
    """The option that names a home in which a question was asked."""
    with open_desk(load_settings(home, environ={}), "quality-committee") as desk:
        desk.answer(parse_question(QUESTION), request_id="asked-once")
    return "--home", home


@pytest.fixture
def keys(run: Run, at: tuple[str, Path], tmp_path: Path) -> Path:
    """The journal's verifier key, in a file."""
    file = tmp_path / "keys.txt"
    file.write_text(done(run("ledger", "key", "--origin", ORIGIN, *at)))
    return file


def grown(at: tuple[str, Path]) -> None:
    with open_desk(load_settings(at[1], environ={}), "quality-committee") as desk:
        desk.answer(parse_question(QUESTION | {"epsilon": 0.2}))


def test_the_key_is_made_once_and_others_can_read_its_public_half_only(
    run: Run, at: tuple[str, Path], keys: Path
) -> None:
    key = VerifierKey.parse(keys.read_text())
    assert key.name == ORIGIN
    assert done(run("ledger", "key", *at)) == keys.read_text()
    assert "there is a key already" in refused(run("ledger", "key", "--origin", "other", *at))
    settings = load_settings(at[1], environ={})
    assert settings.signing_key.stat().st_mode & 0o777 == 0o600
    assert settings.signing_public.stat().st_mode & 0o777 == 0o644


def test_the_public_half_lies_where_a_service_without_keys_reads_it(
    run: Run, at: tuple[str, Path], keys: Path
) -> None:
    settings = load_settings(at[1], environ={})
    for again in (("upgrade",), ("ledger", "checkpoint")):
        assert settings.published_key.read_bytes() == keys.read_bytes()
        settings.published_key.unlink()  # as in a home of an earlier release
        done(run(*again, *at))
    assert settings.published_key.read_bytes() == keys.read_bytes()
    assert settings.published_key.parent != settings.signing_key.parent


def test_without_a_key_nothing_is_signed(run: Run, at: tuple[str, Path]) -> None:
    assert "dpanalytics ledger key" in refused(run("ledger", "checkpoint", *at))
    named = VerifierKey.parse(done(run("ledger", "key", *at))).name
    assert named.startswith("dpanalytics.invalid/journal-")
    assert done(run("ledger", "checkpoint", *at)).startswith(named)


def test_an_export_is_verified_with_a_pin_of_before(
    run: Run, at: tuple[str, Path], keys: Path, tmp_path: Path
) -> None:
    pin, export = tmp_path / "pin", tmp_path / "export"
    pin.write_text(done(run("ledger", "checkpoint", *at)))
    grown(at)
    done(run("ledger", "export", export, "--with-answers", "--format", "parquet", *at))
    told = done(run("ledger", "verify", export, "--keys", keys, "--pin", pin))
    assert "each of 2 debits was charged once" in told
    assert "it begins with the" in told
    assert "the 2 answers are those that were recorded" in told
    assert "the files of 1 declarations are those that were adopted" in told
    assert "each grant, cap and programme is as the declarations in force say" in told
    part = export / "entries" / "000000000000.jsonl"
    part.write_bytes(part.read_bytes().replace(b"quality-committee", b"quality-committer", 1))
    ran = run("ledger", "verify", export, "--keys", keys)
    assert ran.code == 1
    assert ran.out.startswith("FAULT at entry ")
    assert run("ledger", "verify", tmp_path / "none", "--keys", keys).code == 2
    assert "--keys is missing" in refused(run("ledger", "verify", export))
    assert "name its directory" in refused(run("ledger", "verify", "--keys", keys, *at))


@pytest.mark.usefixtures("keys")
def test_what_takes_long_is_told_on_a_terminal_and_never_in_the_output(
    at: tuple[str, Path], tmp_path: Path
) -> None:
    commands = {
        "verifying the journal": ("ledger", "verify"),
        "comparing": ("ledger", "reconcile"),
        "exporting": ("ledger", "export", str(tmp_path / "export")),
    }
    program = [
        sys.executable,
        "-c",
        "from dpanalytics.cli import main; import sys; main(sys.argv[1:])",
    ]
    for told, words in commands.items():
        ours, theirs = pty.openpty()
        ran = subprocess.run(
            [*program, *words, *map(str, at)],
            env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            check=False,
            timeout=60,
        )
        shown = os.read(ours, 2**16).decode()
        os.close(theirs)
        os.close(ours)
        assert ran.returncode == 0, shown
        assert told in shown
        assert told not in ran.stdout


def test_a_range_is_exported_under_a_kept_checkpoint(
    run: Run, at: tuple[str, Path], keys: Path, tmp_path: Path
) -> None:
    size = done(run("ledger", "checkpoint", *at)).split("\n")[1]
    grown(at)
    words = ("--first", 2, "--last", 5, "--size", size)
    done(run("ledger", "export", tmp_path / "e", *words, *at))
    told = done(run("ledger", "verify", tmp_path / "e", "--keys", keys))
    assert "entries 2 to 5 are there" in told
    assert f"signed a checkpoint of {size} entries" in told
    refused(run("ledger", "export", tmp_path / "f", "--size", 3, *at))
    refused(run("ledger", "export", tmp_path / "f", "--first", 900, *at))


def test_an_office_cosigns_what_goes_on_and_nothing_else(
    run: Run, at: tuple[str, Path], keys: Path, tmp_path: Path
) -> None:
    office, last, proof = (tmp_path / name for name in ("office.key", "last", "proof"))
    first, second, cosigned = (tmp_path / name for name in ("first", "second", "cosigned"))
    theirs = tmp_path / "cosigners.txt"
    theirs.write_text(done(run("audit", "key", "audit.example.ac.uk", office)))
    options = ("--key", office, "--origin", keys, "--last", last)

    first.write_text(done(run("ledger", "checkpoint", *at)))
    assert "--begin" in refused(run("audit", "cosign", first, *options))
    done(run("audit", "cosign", first, *options, "--begin"))
    assert "leave out --begin" in refused(run("audit", "cosign", first, *options, "--begin"))

    grown(at)
    second.write_text(done(run("ledger", "checkpoint", *at)))
    sizes = [path.read_text().split("\n")[1] for path in (first, second)]
    assert "keep both" in refused(run("audit", "cosign", second, *options))
    ran = run("ledger", "consistency", *sizes, *at)
    assert ran.code == 0
    assert ran.err.startswith(f"{sizes[0]}:")
    proof.write_text(ran.out)
    cosigned.write_text(done(run("audit", "cosign", second, *options, "--proof", proof)))
    assert last.read_text() == second.read_text()
    assert "keep both" in refused(run("audit", "cosign", first, *options, "--proof", proof))

    attached = done(run("ledger", "checkpoint", "--attach", cosigned, "--keys", theirs, *at))
    assert attached == cosigned.read_text()
    assert len(Note.parse(attached.encode()).lines) == 2
    done(run("ledger", "export", tmp_path / "e", "--size", sizes[1], "--keys", theirs, *at))
    theirs.write_text(theirs.read_text() + keys.read_text())
    told = done(run("ledger", "verify", tmp_path / "e", "--keys", theirs))
    assert "audit.example.ac.uk cosigned it on" in told


def test_an_authority_stamps_a_checkpoint_and_an_auditor_is_told_when(
    run: Run, at: tuple[str, Path], keys: Path, tmp_path: Path
) -> None:
    note = done(run("ledger", "checkpoint", *at))
    size = note.split("\n")[1]
    kept, copy = at[1] / "checkpoints" / f"{int(size):012d}", tmp_path / "copy"
    export, verify = tmp_path / "export", ("ledger", "verify", tmp_path / "export", "--keys", keys)
    copy.write_text(note)
    with authority_at(tmp_path / "authority") as authority:
        root = ("--authority", authority.root)
        assert "No such file" in refused(run("audit", "timestamp", copy, *root))
        told = done(run("audit", "timestamp", kept, "--url", authority.url, *root))
        assert "an authority of root.pem saw it on 20" in told
        assert "not checked" in done(run("audit", "timestamp", copy, "--url", authority.url))
    assert "saw it on 20" in done(run("audit", "timestamp", copy, *root))
    assert "--url and --authority are missing" in refused(run("audit", "timestamp", copy))
    # The export carries it, and says so; its time is told where a root certificate is given.
    done(run("ledger", "export", export, "--size", size, *at))
    assert "an authority's time stamp lies beside" in done(run(*verify))
    assert "an authority of root.pem saw this checkpoint on 20" in done(run(*verify, *root))
    # Of another checkpoint it is worth nothing.
    grown(at)
    copy.write_text(done(run("ledger", "checkpoint", *at)))
    assert "of another checkpoint" in refused(run("audit", "timestamp", copy, *root))
    done(run("ledger", "export", tmp_path / "later", *at))
    later = run("ledger", "verify", tmp_path / "later", "--keys", keys, *root)
    assert (later.code, "has no time stamp" in later.out) == (2, True)


def test_an_answer_comes_with_its_proof(
    run: Run, at: tuple[str, Path], keys: Path, tmp_path: Path
) -> None:
    question, told, proof = (tmp_path / name for name in ("question", "answer.json", "proof.json"))
    question.write_text(json.dumps(QUESTION))
    done(run("ledger", "checkpoint", *at))
    asked = ("ask", question, "--as", "quality-committee", "--format", "json", *at)
    done(run(*asked, "--output", told, "--proof", proof))
    held = json.loads(proof.read_text())
    answer = Answer("asked-once", told.read_bytes().removesuffix(b"\n"), charged=False)
    found = proof_of(Reply(200, {}, proof.read_bytes()), answer)
    assert found.root == held["head"]["root"]
    assert (found.note or "").startswith(f"{ORIGIN}\n{found.size}\n")
    nowhere = tmp_path / "none" / "proof.json"
    assert "nothing was asked or charged" in refused(run(*asked, "--proof", nowhere))


def test_a_proof_is_printed_with_what_it_is_of(run: Run, at: tuple[str, Path]) -> None:
    ran = run("ledger", "prove", 3, *at)
    assert ran.code == 0
    assert '"seq":3' in ran.err
    assert all(len(line) == 44 for line in ran.out.splitlines())
    assert "no entry 900" in refused(run("ledger", "prove", 900, *at))


def test_entries_are_listed_by_what_they_tell_and_added_up(run: Run, at: tuple[str, Path]) -> None:
    grown(at)
    wanted = ("--consumer", "quality-committee", "--kind", "debit")
    assert done(run("ledger", "list", *wanted, *at)).count("debit") == 2
    assert "debit" not in done(run("ledger", "list", "--until", "2020-01-01", *at))
    totals = done(run("ledger", "list", "--totals", "--year", "2013/14", *at))
    assert "2" in totals.splitlines()[3]
    assert "must be one of" in refused(run("ledger", "list", "--kind", "gossip", *at))


def test_each_filter_of_the_list_has_its_effect(run: Run, at: tuple[str, Path]) -> None:
    def listed(*words: object) -> int:
        return done(run("ledger", "list", "--last", 900, *words, *at)).count("asked-once")

    assert listed() == 2  # the debit and its release
    for option, fits, other in (
        ("--kind", "debit", "load"),
        ("--consumer", "quality-committee", "annual-report"),
        ("--view", "enrolments", "submissions"),
        ("--year", "2013/14", "2014/15"),
        ("--purpose", "quality-review", "annual-report"),
        ("--since", "2020-01-01", "2090-01-01"),
        ("--until", "2090-01-01", "2020-01-01T08:00:00"),
    ):
        assert listed(option, fits) == (1 if option == "--kind" else 2), option
        assert listed(option, other) == 0, option
    for option in ("--staff", "--commitment"):
        assert listed(option, "ab" * 32) == 0
        assert "64 digits of hex" in refused(run("ledger", "list", option, "Ada", *at))


def test_journal_and_store_are_reconciled(run: Run, at: tuple[str, Path]) -> None:
    assert "as the journal says" in done(run("ledger", "reconcile", *at))
    with closing(sqlite3.connect(load_settings(at[1], environ={}).database)) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("DELETE FROM release")
        connection.commit()
    ran = run("ledger", "reconcile", *at)
    assert "its release is not stored" in ran.out
    assert "disagree: 1 fault" in refused(ran)


def test_the_verifier_is_printed_whole(run: Run) -> None:
    printed = done(run("ledger", "verifier"))
    compile(printed, "verify_journal.py", "exec")
    assert printed.endswith("sys.exit(main())\n")


def test_a_backup_has_checkpoints_and_declarations(
    run: Run, at: tuple[str, Path], keys: Path, tmp_path: Path
) -> None:
    pin, backup, again = (tmp_path / name for name in ("pin", "backup", "again"))
    pin.write_text(done(run("ledger", "checkpoint", *at)))
    done(run("backup", backup, "--keys", tmp_path / "kept", *at))
    back = ("--declarations", ROOT, "--keys", tmp_path / "kept", "--nothing-answered-since")
    done(run("restore", backup, "--home", again, *back))
    done(run("ledger", "export", tmp_path / "e", "--home", again))
    told = done(run("ledger", "verify", tmp_path / "e", "--keys", keys, "--pin", pin))
    assert "it begins with the" in told
    assert "it was restored from a backup" in told
    assert "the files of 1 declarations are those that were adopted" in told
    assert len(list((again / "checkpoints").glob("0*"))) == 2

"""Commands of auditors: the journal, read, proved, exported and verified."""

import json
import secrets
import sqlite3
import sys
from collections import deque
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of, telling
from dpanalytics.errors import ConfigurationError, JournalError, RequestError
from dpanalytics.ledger import offline
from dpanalytics.ledger.audit import Consistency, Filter, Inclusion, Totals, proof_lines
from dpanalytics.ledger.checkpoints import read_verifier_key
from dpanalytics.ledger.note import NoteRefused, SignatureType, VerifierKey
from dpanalytics.terminal import head_text, show_verification, table_of
from dpanalytics.wiring import auditing
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.journals import utc_now

app = typer.Typer()
ledger = typer.Typer(help="Read, prove, export and verify the journal.")
audit = typer.Typer(help="For an audit office: cosign checkpoints on a machine of its own.")
app.add_typer(ledger, name="ledger")
app.add_typer(audit, name="audit")

KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="File of verifier keys, one a line.")
]

AuthorityOption = Annotated[
    Path | None,
    typer.Option("--authority", help="Root certificates of a time-stamping authority, in PEM."),
]


class Form(StrEnum):
    """What an export holds the entries as."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@ledger.command("list")
def ledger_list(
    home: HomeOption = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only entries of this kind.")] = None,
    consumer: Annotated[str | None, typer.Option("--consumer", help="Only of this one.")] = None,
    view: Annotated[str | None, typer.Option("--view", help="Only of this view.")] = None,
    year: Annotated[str | None, typer.Option("--year", help="Only of this academic year.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", help="Only for this one.")] = None,
    staff: Annotated[
        str | None, typer.Option("--staff", help="Only of this one, as entries name staff.")
    ] = None,
    commitment: Annotated[
        str | None,
        typer.Option("--commitment", help="Only of this student, as entries name students."),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", help="From this moment on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", help="Before this moment, in UTC.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many, the newest.")] = 20,
    totals: Annotated[
        bool, typer.Option("--totals", help="Charges and acts of staff, added up.")
    ] = False,
) -> None:
    """The newest entries of the journal, or what they add up to."""
    wanted = Filter(
        kind=kind,
        consumer=consumer,
        view=view,
        academic_year=year,
        purpose=purpose,
        staff=staff,
        commitment=commitment,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )
    with auditing.open_auditing(settings_of(home)) as opened:
        if totals:
            _show_totals(opened.audit.totals(wanted))
            return
        table = table_of("seq", "at", "kind", "what")
        for entry in deque(opened.audit.entries(wanted), maxlen=last):
            rest = {k: v for k, v in entry.items() if k not in ("seq", "at", "kind")}
            what = json.dumps(rest, sort_keys=True, ensure_ascii=False)
            table.add_row(str(entry["seq"]), str(entry["at"]), str(entry["kind"]), what)
    out.print(table)


def _show_totals(found: Totals) -> None:
    table = table_of("consumer", "view", "year", "purpose", "debits", "repeats", "rho")
    for each in found.charged:
        names = (each.consumer, each.view, each.academic_year, each.purpose)
        counts = (str(each.debits), str(each.repeats), f"{each.units / 10**12:.12f}")
        table.add_row(*names, *counts)
    out.print(table)
    if found.acts:
        table = table_of("programme", "purpose", "runs", "cases", "disclosures")
        for act in found.acts:
            table.add_row(*map(str, vars(act).values()))
        out.print(table)


@ledger.command("head")
def ledger_head(home: HomeOption = None) -> None:
    """Print size and root of the journal; keep them elsewhere, to compare or restore by."""
    with open_auditor(settings_of(home)) as auditor:
        out.print(head_text(auditor.head()), soft_wrap=True)


@ledger.command("verify")
def ledger_verify(
    export: Annotated[
        Path | None, typer.Argument(help="An export; without it, the journal of the home.")
    ] = None,
    keys: KeysOption = None,
    pin: Annotated[
        Path | None, typer.Option("--pin", help="A checkpoint that you kept, of this journal.")
    ] = None,
    authority: AuthorityOption = None,
    home: HomeOption = None,
) -> None:
    """Recompute the tree, replay every debit, and say what was proved; a fault is an error."""
    if export is not None:
        if keys is None:
            raise RequestError("--keys is missing: an export proves nothing by its own keys")
        try:
            with telling(f"verifying {export}"):
                report = auditing.verify_export(export, keys=keys, pin=pin, authority=authority)
        except (OSError, ValueError, sqlite3.Error) as error:
            sys.stdout.write(f"NOT CHECKED: {error}\n")
            raise typer.Exit(2) from None
        sys.stdout.writelines(f"{line}\n" for line in report.lines())
        raise typer.Exit(report.code)
    if not (keys is pin is authority is None):
        raise RequestError("--keys, --pin and --authority are for an export; name its directory")
    with open_auditor(settings_of(home)) as auditor, telling("verifying the journal"):
        verification = auditor.verify()
    show_verification(out, verification)
    if not verification.passed:
        raise JournalError(f"the journal does not verify: {len(verification.faults)} faults")


@ledger.command("verifier")
def ledger_verifier() -> None:
    """Print the verifier of exports: one Python file, to be read and kept elsewhere."""
    sys.stdout.write(Path(offline.__file__).read_text("utf-8"))


@ledger.command("key")
def ledger_key(
    origin: Annotated[
        str | None,
        typer.Option("--origin", help="Names the journal for good, as example.ac.uk/journal."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Make the key that checkpoints are signed with, once; print its verifier key."""
    settings = settings_of(home)
    if origin is None and settings.signing_public.exists():
        key = auditing.read_signer(settings.signing_key).verifier
    else:
        named = origin or f"dpanalytics.invalid/journal-{secrets.token_hex(8)}"
        key = auditing.make_signing_key(settings, origin=named)
    sys.stdout.write(f"{key}\n")


@ledger.command("checkpoint")
def ledger_checkpoint(
    attach: Annotated[
        Path | None, typer.Option("--attach", help="A cosigned checkpoint that came back.")
    ] = None,
    keys: KeysOption = None,
    home: HomeOption = None,
) -> None:
    """Sign the journal's size and root as they are now; or keep cosignatures of one."""
    with auditing.open_auditing(settings_of(home)) as opened:
        if attach is None:
            note = opened.checkpoint()
        else:
            note = opened.attach(attach.read_bytes(), cosigners=_cosigners(keys))
    sys.stdout.write(note.decode())


@ledger.command("export")
def ledger_export(
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    first: Annotated[int, typer.Option("--first", min=0, help="First entry.")] = 0,
    last: Annotated[
        int | None, typer.Option("--last", min=0, help="Last entry; the newest without it.")
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="jsonl, or parquet for tables besides.")
    ] = Form.JSONL,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Size of a kept checkpoint to prove it by.")
    ] = None,
    keys: KeysOption = None,
    answers: Annotated[
        bool, typer.Option("--with-answers", help="The answers too, for who may read them all.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Write entries, proofs, declarations and keys for an auditor; again, it goes on."""
    with auditing.open_auditing(settings_of(home)) as opened, telling(f"exporting to {directory}"):
        manifest = opened.export(
            directory,
            first=first,
            last=last,
            size=size,
            cosigners=_cosigners(keys) if keys is not None else (),
            answers=answers,
            tables=form is Form.PARQUET,
        )
    out.print(
        f"{directory}: entries {manifest.first} to {manifest.end - 1}, "
        f"{len(manifest.files) + 1} files",
        soft_wrap=True,
    )


@ledger.command("prove")
def ledger_prove(
    seq: Annotated[int, typer.Argument(min=0, help="Number of an entry.")],
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Of the journal; as it is now by default.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Print the proof that an entry is in the journal (RFC 9162, 2.1.3)."""
    with auditing.open_auditing(settings_of(home)) as opened:
        _show(opened.audit.inclusion(seq, size=size))


@ledger.command("consistency")
def ledger_consistency(
    old: Annotated[int, typer.Argument(min=1, help="Size that the journal had.")],
    new: Annotated[
        int | None, typer.Argument(min=1, help="Larger size; as it is now by default.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Print the proof that the journal begins with what it was (RFC 9162, 2.1.4)."""
    with auditing.open_auditing(settings_of(home)) as opened:
        _show(opened.audit.consistency(old, new))


@ledger.command("reconcile")
def ledger_reconcile(home: HomeOption = None) -> None:
    """Compare the journal with what is stored: releases both ways, snapshots to their entry."""
    with auditing.open_auditing(settings_of(home)) as opened, telling("comparing"):
        found = opened.reconcile()
    for fault in found.faults:
        out.print(f"FAULT: {fault}", soft_wrap=True)
    if found.faults:
        raise JournalError(f"journal and store disagree: {len(found.faults)} faults")
    out.print(f"{found.releases} releases and {found.snapshots} snapshots are as the journal says")


@audit.command("key")
def audit_key(
    name: Annotated[str, typer.Argument(help="Whose, as audit.example.ac.uk.")],
    file: Annotated[Path, typer.Argument(help="File to make; its verifier key ends in .pub.")],
) -> None:
    """Make the key that an audit office cosigns with; print its verifier key."""
    key = auditing.make_key(file, name=name, kind=SignatureType.COSIGNATURE)
    sys.stdout.write(f"{key}\n")


@audit.command("cosign")
def audit_cosign(
    checkpoint: Annotated[Path, typer.Argument(help="The journal's signed checkpoint.")],
    key: Annotated[Path, typer.Option("--key", help="The office's key.")],
    origin: Annotated[Path, typer.Option("--origin", help="The journal's verifier key, a file.")],
    last: Annotated[
        Path, typer.Option("--last", help="File that keeps the last checkpoint cosigned.")
    ],
    proof: Annotated[
        Path | None, typer.Option("--proof", help="Consistency proof from that one to this.")
    ] = None,
    begin: Annotated[
        bool, typer.Option("--begin", help="There is no last one: this is the first.")
    ] = False,
) -> None:
    """Cosign a checkpoint that goes on from the last one cosigned; print it."""
    note = auditing.cosign_file(
        checkpoint,
        key=key,
        origin=read_verifier_key(origin),
        last=last,
        proof=proof,
        begin=begin,
        at=utc_now(),
    )
    sys.stdout.write(note.decode())


@audit.command("timestamp")
def audit_timestamp(
    checkpoint: Annotated[Path, typer.Argument(help="The journal's signed checkpoint.")],
    url: Annotated[
        str | None, typer.Option("--url", help="Address of a time-stamping authority to ask.")
    ] = None,
    authority: AuthorityOption = None,
) -> None:
    """Have an authority stamp a checkpoint (RFC 3161), or check its time stamp."""
    stamped = auditing.stamp_file(checkpoint, url=url, authority=authority)
    when = "kept, and not checked: --authority is missing"
    if stamped.at is not None and authority is not None:
        when = f"an authority of {authority.name} saw it on {auditing.told(stamped.at)}"
    out.print(f"{stamped.file}: {when}", soft_wrap=True)


def _cosigners(keys: Path | None) -> tuple[VerifierKey, ...]:
    if keys is None:
        raise RequestError("--keys is missing: a file with the cosigners' verifier keys")
    try:
        lines = filter(None, keys.read_text("utf-8").splitlines())
        found = (VerifierKey.parse(line) for line in lines)
        return tuple(key for key in found if key.kind is SignatureType.COSIGNATURE)
    except (NoteRefused, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{keys}: {error}") from error


def _show(proof: Inclusion | Consistency) -> None:
    """A proof: hashes in base64, one a line; what it is of goes to standard error."""
    if isinstance(proof, Inclusion):
        typer.echo(proof.entry.decode(), err=True)
        typer.echo(f"entry {proof.seq} of {head_text(proof.head)}", err=True)
    else:
        typer.echo(f"{head_text(proof.old)} to {head_text(proof.new)}", err=True)
    sys.stdout.writelines(f"{line}\n" for line in proof_lines(proof.path))

"""Routes of auditors: the journal by what it tells, what it adds up to, and proofs.

Checkpoints are for everybody who is signed in: the more people keep one, the less can be rewritten.
The proof of a release is for whoever paid for it, and for auditors.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import Field

from dpanalytics.access.principal import Role
from dpanalytics.api import examples
from dpanalytics.api.bodies import Units
from dpanalytics.api.body import Body, Moment
from dpanalytics.api.described import LINK, LOOKED_UP, of_json, operation_name, responses
from dpanalytics.api.macro import (
    LARGEST,
    LONGEST_PAGE,
    PAGE,
    REQUEST_ID,
    Door,
)
from dpanalytics.api.service import InTurn
from dpanalytics.api.sign_in import SignedIn, holding
from dpanalytics.errors import ConfigurationError, ReleaseMissing, RequestError
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.audit import Consistency, Filter, Inclusion, Total, proof_lines
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.note import Note, VerifierKey
from dpanalytics.wiring.macro import MacroDoor

HASH = "^[0-9a-f]{64}$"
AUDITOR = Depends(holding(Role.AUDITOR))
ANYBODY = Depends(holding(*Role))

Hash = Annotated[str, Field(pattern=HASH, description="SHA-256, in hex.")]
Path_ = Annotated[list[str], Field(description="Hashes of the proof, in base64.")]


class EntryBody(Body):
    """An entry of the journal."""

    seq: int = Field(ge=0)
    at: str = Field(description="In UTC, as the service's clock told it.")
    kind: str
    text: str = Field(description="The entry as it is hashed: canonical JSON (RFC 8785).")


class EntriesBody(Body):
    """Entries, in their order."""

    entries: list[EntryBody]
    next: str | None = Field(description="Where the next page is; None on the last one.")


class TotalBody(Body):
    """What a consumer was charged for one view, academic year and purpose."""

    consumer: str
    view: str
    academic_year: str
    purpose: str
    debits: int
    repeats: int = Field(description="How many of them told another consumer's answer again.")
    rho_units: Units


class ActsBody(Body):
    """What staff did under one programme and for one purpose."""

    programme: str
    purpose: str
    runs: int = Field(description="How often its rule was run to find students.")
    cases: int = Field(description="How often a case of one named student was asked for.")
    disclosures: int = Field(description="How often a case was read with a name.")


class TotalsBody(Body):
    """Debits added up, and acts of staff counted."""

    totals: list[TotalBody]
    acts: list[ActsBody]


class ReconciliationBody(Body):
    """The journal held against what is stored."""

    releases: int = Field(ge=0, description="Answers that are stored.")
    snapshots: int = Field(ge=0, description="Snapshots that stand.")
    faults: list[str] = Field(description="Where the two disagree, in words; none where not.")


class CheckpointBody(Body):
    """The newest checkpoint: keep it, and the journal can't be rewritten behind it unseen."""

    note: str = Field(description="A signed note (C2SP tlog-checkpoint).")
    key: str = Field(description="The journal's verifier key; compare it with one from elsewhere.")


class HeadBody(Body):
    """A journal's size, and the root of its tree."""

    size: int = Field(ge=0)
    root: Hash


class InclusionBody(Body):
    """Proof that an entry is in the journal of a size (RFC 9162, 2.1.3)."""

    seq: int = Field(ge=0)
    text: str = Field(description="The entry as it is hashed: canonical JSON (RFC 8785).")
    path: Path_


class ProofBody(Body):
    """Proof that a question's debit, and its release, are in the journal."""

    head: HeadBody
    note: str | None = Field(description="The checkpoint of that size; None where none covers it.")
    entries: list[InclusionBody] = Field(description="The debit; then the release, if it is own.")


class ConsistencyBody(Body):
    """Proof that the journal of one size begins with that of another (RFC 9162, 2.1.4)."""

    old: HeadBody
    new: HeadBody
    path: Path_


def wanted_in(
    kind: Annotated[str | None, Query(max_length=40, description="Only of this kind.")] = None,
    consumer: Annotated[str | None, Query(max_length=100, description="Only of this one.")] = None,
    view: Annotated[str | None, Query(max_length=100, description="Only of this view.")] = None,
    academic_year: Annotated[
        str | None, Query(max_length=20, description="Only of this academic year.")
    ] = None,
    purpose: Annotated[
        str | None, Query(max_length=100, description="Only for this purpose.")
    ] = None,
    staff: Annotated[
        str | None,
        Query(max_length=64, description="Only of this member of staff, as entries name them."),
    ] = None,
    commitment: Annotated[
        str | None, Query(max_length=64, description="Only of this student, as entries name them.")
    ] = None,
    since: Annotated[
        Moment | None, Query(description="Only from this moment on; with its zone.")
    ] = None,
    until: Annotated[
        Moment | None, Query(description="Only before this moment; with its zone.")
    ] = None,
) -> Filter:
    """The entries that a request wants.

    Raises:
        RequestError: no such kind, no commitment, or a time without its zone.
    """
    return Filter(kind, consumer, view, academic_year, purpose, staff, commitment, since, until)


Wanted = Annotated[Filter, Depends(wanted_in)]


def audit_routes() -> APIRouter:
    """All routes of auditors."""
    router = APIRouter(generate_unique_id_function=operation_name, tags=["audit"])
    _entries(router)
    _proofs(router)
    return router


def _entries(router: APIRouter) -> None:
    @router.get(
        "/v1/audit/entries",
        summary="Entries of the journal",
        dependencies=[AUDITOR],
        responses=responses(
            {200: of_json("A page, in their order.", "entries", headers={"Link": LINK})},
            *LOOKED_UP,
            "request-error",
        ),
    )
    async def list_entries(
        request: Request,
        response: Response,
        wanted: Wanted,
        principal: SignedIn,
        door: Door,
        turns: InTurn,
        after: Annotated[
            int, Query(ge=-1, le=LARGEST, description="Only entries above this number.")
        ] = -1,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="How many at most.")] = PAGE,
    ) -> EntriesBody:
        """Entries that fit all that is given; without answers and filters, which none holds.

        A release fits where its debit does: it has no consumer, view, year or purpose of its own.
        """
        found = await turns.audits.run(
            principal.subject,
            lambda: list(islice(door.audit.entries(wanted, after=after), limit + 1)),
        )
        following = None
        if len(found) > limit:
            asked = {k: v for k, v in request.query_params.items() if k != "after"}
            query = urlencode(asked | {"after": str(found[limit - 1]["seq"])})
            following = f"{request.scope.get('root_path', '')}/v1/audit/entries?{query}"
            response.headers["Link"] = f'<{following}>; rel="next"'
        return EntriesBody(entries=[_entry(each) for each in found[:limit]], next=following)

    @router.get(
        "/v1/audit/totals",
        summary="What was charged and what staff did, added up",
        dependencies=[AUDITOR],
        responses=responses(
            {200: of_json("By consumer, view, year and purpose.", "totals")},
            *LOOKED_UP,
            "request-error",
        ),
    )
    async def get_totals(
        wanted: Wanted, principal: SignedIn, door: Door, turns: InTurn
    ) -> TotalsBody:
        """Debits of the entries that fit, added up by consumer, view, academic year and purpose.

        A question about several years counts for each of them. Runs, cases and readings are
        counted by programme and purpose; they are of no academic year.
        """
        found = await turns.audits.run(principal.subject, lambda: door.audit.totals(wanted))
        return TotalsBody(
            totals=[_total(each) for each in found.charged],
            acts=[ActsBody(**vars(each)) for each in found.acts],
        )

    @router.get(
        "/v1/audit/reconciliation",
        summary="The journal held against what is stored",
        dependencies=[AUDITOR],
        responses=responses(
            {200: of_json("What was compared, and where the two disagree.", "reconciliation")},
            *LOOKED_UP,
        ),
    )
    async def get_reconciliation(
        principal: SignedIn, door: Door, turns: InTurn
    ) -> ReconciliationBody:
        """Each stored answer has its entry and is the one recorded; and the other way round.

        Each snapshot that stands has its entry. Earlier ones are taken away, so not each entry of a
        snapshot has one.
        """
        found = await turns.audits.run(principal.subject, door.reconcile)
        return ReconciliationBody(
            releases=found.releases, snapshots=found.snapshots, faults=list(found.faults)
        )


def _proofs(router: APIRouter) -> None:
    @router.get(
        "/v1/audit/checkpoint",
        summary="The newest checkpoint of the journal",
        dependencies=[ANYBODY],
        responses=responses(
            {200: of_json("The signed note, and the key.", "checkpoint")}, *LOOKED_UP, "not-found"
        ),
    )
    async def get_checkpoint(principal: SignedIn, door: Door, turns: InTurn) -> CheckpointBody:
        """Open to everybody with a role here: whoever keeps it can tell later what was changed."""
        latest = await turns.look_up(principal.subject, lambda: _latest(door))
        if latest is None:
            raise HTTPException(404)
        note, key = latest
        return CheckpointBody(note=note.decode(), key=str(key))

    @router.get(
        "/v1/audit/consistency",
        summary="Proof that the journal begins with what it was",
        dependencies=[AUDITOR],
        responses=responses(
            {200: of_json("The proof.", "consistency")}, *LOOKED_UP, "request-error"
        ),
    )
    async def get_consistency(
        principal: SignedIn,
        door: Door,
        turns: InTurn,
        old: Annotated[int, Query(ge=1, le=LARGEST, description="Size that the journal had.")] = 1,
        new: Annotated[
            int | None, Query(ge=1, le=LARGEST, description="Larger size; as it is now without it.")
        ] = None,
    ) -> ConsistencyBody:
        """What a cosigner needs to sign a checkpoint after the last one that it signed."""
        proof = await turns.look_up(principal.subject, lambda: door.audit.consistency(old, new))
        return consistency_body(proof)

    @router.get(
        "/v1/releases/{request_id}/proof",
        summary="Proof that a release is in the journal",
        responses=responses(
            {200: of_json("Of its debit and its release.", "proof")},
            *LOOKED_UP,
            "release-missing",
        ),
    )
    async def get_proof(
        request_id: Annotated[str, Path(pattern=REQUEST_ID, examples=[examples.KEY])],
        principal: SignedIn,
        door: Door,
        turns: InTurn,
    ) -> ProofBody:
        """For whoever may ask as the consumer that paid, and for auditors; keep it with the answer.

        It is of the newest checkpoint where that covers the release, else of the journal as it is.
        The release's entry holds the SHA-256 of the answer in JSON.
        """
        seen = None if principal.is_any_of(Role.AUDITOR) else principal.consumers
        return await turns.look_up(principal.subject, lambda: release_proof(door, request_id, seen))


def _latest(door: MacroDoor) -> tuple[bytes, VerifierKey] | None:
    try:
        kept = door.checkpoints
    except ConfigurationError:  # no key was made yet
        return None
    note = kept.latest()
    return None if note is None else (note, kept.key)


def release_proof(door: MacroDoor, request_id: str, seen: frozenset[str] | None) -> ProofBody:
    """Of the newest checkpoint that covers a release of these consumers; of all with None.

    Raises:
        ReleaseMissing: there is none under that id that is theirs.
    """
    if seen is not None and not seen:
        raise ReleaseMissing("no release of that id is yours")
    latest = _latest(door)
    if latest is not None:
        size = int(Note.parse(latest[0]).text.split("\n")[1])
        try:
            found = door.audit.inclusion_of_release(request_id, consumers=seen, size=size)
            return proof_body(found, latest[0])
        except ReleaseMissing:
            raise
        except RequestError:  # it is not yet in that checkpoint
            pass
    return proof_body(door.audit.inclusion_of_release(request_id, consumers=seen), None)


def proof_body(found: tuple[Inclusion, ...], note: bytes | None) -> ProofBody:
    """Proofs of one size as they are told."""
    return ProofBody(
        head=_head(found[0].head),
        note=None if note is None else note.decode(),
        entries=[
            InclusionBody(seq=each.seq, text=each.entry.decode(), path=list(proof_lines(each.path)))
            for each in found
        ],
    )


def consistency_body(proof: Consistency) -> ConsistencyBody:
    """A consistency proof as it is told."""
    return ConsistencyBody(
        old=_head(proof.old), new=_head(proof.new), path=list(proof_lines(proof.path))
    )


def _head(head: Head) -> HeadBody:
    return HeadBody(size=head.size, root=head.root.hex())


def _entry(entry: Mapping[str, Any]) -> EntryBody:
    text = canonical(entry).decode()
    return EntryBody(seq=entry["seq"], at=entry["at"], kind=entry["kind"], text=text)


def _total(total: Total) -> TotalBody:
    told = {name: value for name, value in vars(total).items() if name != "units"}
    return TotalBody(rho_units=str(total.units), **told)

"""Shapes of what students are told of themselves.

No shape has room for a student's identifier but the one that opens the vault: the export.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated

from pydantic import Field

from dpanalytics.api.body import Asked, Body
from dpanalytics.api.figures import FigureBody, figure_body
from dpanalytics.api.requests import IdentityBody, RequestBody, identity_body, request_body
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel, Reason
from dpanalytics.disclosure.caserows import Shown
from dpanalytics.disclosure.indicators import Figure
from dpanalytics.schema.consenttext import TextVersion
from dpanalytics.wiring.self_service import (
    CaseAbout,
    Disclosures,
    Export,
    OwnConsents,
    OwnSources,
    ScopeHeld,
    SourceHeld,
    Value,
)

NOT_IN_IT = (
    "Statistics: what they are made from holds no name, number or pseudonym, so your part of it "
    "can't be found. Who agreed to what decides who is in it from the next one on.",
    "The journal: its entries name you by a code alone, the commitment above. With the salt and "
    "your identifier an auditor can check which are about you; without the salt nobody can.",
    "Backups, which are overwritten in time, and what the university's other systems hold.",
)
"""What an export can't hold, and why."""

TextNumber = Annotated[int, Field(ge=1, le=1_000_000, description="Version of the text read.")]


# What is sent


class DecisionAsked(Asked):
    """A decision of a student about one scope."""

    scope: Scope
    decision: Action
    text_version: TextNumber


# Consents


class TextBody(Body):
    """What a student is asked, in one version."""

    version: int
    since: date
    question: str
    agreeing: str = Field(description="What agreeing means.")
    refusing: str = Field(description="What refusing means.")
    changing: str = Field(description="How to pause, withdraw and renew, and what each does.")


class ConsentBody(Body):
    """How one stands to one thing that one is asked."""

    scope: Scope
    title: str
    in_force: bool
    reason: Reason
    why: str = Field(description="The reason in words.")
    since: datetime | None
    agreed_to_version: int | None = Field(description="Version that one last agreed to.")
    text: TextBody | None = Field(description="The version in force; None before the first.")
    earlier_texts: list[TextBody]
    decisions: list[Action] = Field(description="What may be decided now.")


class DecisionBody(Body):
    """One decision, as it was written down."""

    scope: Scope
    decision: Action
    at: datetime
    channel: Channel
    text_version: int


class ConsentsBody(Body):
    """All that one is asked, what holds of it, and what one decided."""

    consents: list[ConsentBody]
    history: list[DecisionBody] = Field(description="In the order of writing.")


# What is held


class IndicatorsBody(Body):
    """One's own figures; none without agreement to combining records."""

    indicators: list[FigureBody]


class SourceBody(Body):
    """A source of records of students."""

    name: str
    title: str
    description: str
    system: str
    purposes: list[str]
    retention_years: int = Field(description="Whole years after loading.")
    held: bool = Field(description="Whether it holds any record of you.")


class ElsewhereBody(Body):
    """Records that are never used here, and who keeps them."""

    title: str
    held_by: str
    how_to_ask: str
    address: str


class SourcesBody(Body):
    """Which sources hold records of one, and what is kept elsewhere."""

    sources: list[SourceBody]
    name_kept: bool | None = Field(
        description="Whether your name and address are in the sealed records that staff results "
        "are opened from; false after a withdrawal, null where there is no record of you."
    )
    elsewhere: list[ElsewhereBody]


class SeenFigure(Body):
    """An indicator that was shown."""

    indicator: str
    version: int


class DisclosureBody(Body):
    """One time that somebody was told who you are."""

    entry: int = Field(description="Number of the journal's entry, written before.")
    at: datetime
    who: str
    why: str
    purpose: str
    reason: str | None = Field(description="What they wrote, where they asked for you by name.")
    figures: list[SeenFigure] = Field(description="What they saw beside your name.")


class DisclosuresBody(Body):
    """Who was told who one is, the newest first."""

    disclosures: list[DisclosureBody]


# All that is held


class NameBody(Body):
    """The code that names one in the journal, and what proves it."""

    commitment: str
    salt: str = Field(description="Give it to an auditor only: with it, entries about you show.")


class RecordsBody(Body):
    """One's own records in one source."""

    source: str
    title: str
    rows: list[dict[str, Value]]


class CaseNoteBody(Body):
    """What was written down about a case."""

    kind: str
    at: datetime
    who: str
    text: str


class CaseAboutBody(Body):
    """A case of staff about one."""

    case: str
    programme: str
    reason: str | None
    opened_at: datetime
    state: str
    outcome: str | None
    review_on: date | None
    notes: list[CaseNoteBody]


class CampaignBody(Body):
    """A year in which one was asked."""

    academic_year: str
    asked_on: date
    reminded_on: list[date]


class ExportBody(Body):
    """All that is held on one."""

    made_at: datetime
    entry: int = Field(description="Number of the journal's entry of this access.")
    identity: IdentityBody | None
    name_in_journal: NameBody | None
    consents: ConsentsBody
    campaigns: list[CampaignBody]
    indicators: list[FigureBody]
    sources: SourcesBody
    records: list[RecordsBody]
    disclosures: list[DisclosureBody]
    cases: list[CaseAboutBody]
    requests: list[RequestBody]
    not_in_it: list[str] = Field(description="What an export can't hold, and why.")


def consents_body(held: OwnConsents) -> ConsentsBody:
    """Consents as they are told."""
    return ConsentsBody(
        consents=[_consent(each) for each in held.scopes],
        history=[
            DecisionBody(
                scope=event.scope,
                decision=event.action,
                at=event.moment,
                channel=event.channel,
                text_version=event.text_version,
            )
            for event in held.history
        ],
    )


def _consent(held: ScopeHeld) -> ConsentBody:
    past = [v for v in held.text.versions if held.current and v.version < held.current.version]
    return ConsentBody(
        scope=held.scope,
        title=held.text.title,
        in_force=held.standing.in_force,
        reason=held.standing.reason,
        why=held.standing.why,
        since=held.standing.since,
        agreed_to_version=held.standing.text_version,
        text=None if held.current is None else _text(held.current),
        earlier_texts=[_text(version) for version in past],
        decisions=list(held.open_to),
    )


def _text(text: TextVersion) -> TextBody:
    return TextBody(
        version=text.version,
        since=text.since,
        question=text.question,
        agreeing=text.agreeing,
        refusing=text.refusing,
        changing=text.changing,
    )


def indicators_body(figures: tuple[Figure, ...]) -> IndicatorsBody:
    """Figures as staff are told them."""
    return IndicatorsBody(indicators=[figure_body(figure) for figure in figures])


def sources_body(held: OwnSources) -> SourcesBody:
    """Sources as they are told."""
    return SourcesBody(
        sources=[_source(each) for each in held.sources],
        name_kept=held.name_kept,
        elsewhere=[
            ElsewhereBody(
                title=each.title,
                held_by=each.held_by,
                how_to_ask=each.how_to_ask,
                address=each.address,
            )
            for each in held.elsewhere
        ],
    )


def _source(held: SourceHeld) -> SourceBody:
    source = held.source
    return SourceBody(
        name=source.name,
        title=source.title,
        description=source.description,
        system=source.system,
        purposes=[purpose.value for purpose in source.purposes],
        retention_years=source.retention_years,
        held=held.held,
    )


def disclosures_body(found: Disclosures) -> DisclosuresBody:
    """Disclosures as they are told, those under programmes and those under requests together."""
    told = [_to_staff(shown) for shown in found.to_staff]
    told += [
        DisclosureBody(
            entry=shown.entry,
            at=shown.at,
            who=who,
            why=f"your request for {shown.kind}",
            purpose="answer-a-request",
            reason=None,
            figures=[],
        )
        for shown, who in found.to_office
    ]
    return DisclosuresBody(disclosures=sorted(told, key=lambda each: -each.entry))


def _to_staff(shown: Shown) -> DisclosureBody:
    return DisclosureBody(
        entry=shown.entry,
        at=shown.at,
        who=shown.who,
        why=shown.title,
        purpose=shown.purpose,
        reason=shown.reason,
        figures=[SeenFigure(indicator=name, version=number) for name, number in shown.indicators],
    )


def export_body(export: Export, *, titles: Mapping[str, str]) -> ExportBody:
    """All that is held, as it is told; `titles` are those of programmes, by name."""
    name = export.own.name
    return ExportBody(
        made_at=export.made_at,
        entry=export.own.entry,
        identity=identity_body(export.own),
        name_in_journal=None
        if name is None
        else NameBody(commitment=name.commitment.hex(), salt=name.salt.hex()),
        consents=consents_body(export.consents),
        campaigns=[
            CampaignBody(academic_year=year, asked_on=day, reminded_on=list(reminders))
            for year, day, reminders in export.campaigns
        ],
        indicators=[figure_body(figure) for figure in export.figures],
        sources=sources_body(export.sources),
        records=[
            RecordsBody(
                source=held.source.name,
                title=held.source.title,
                rows=[dict(row) for row in export.rows[held.source.name]],
            )
            for held in export.sources.sources
            if held.source.name in export.rows
        ],
        disclosures=disclosures_body(export.disclosures).disclosures,
        cases=[_case(each, titles) for each in export.cases],
        requests=[request_body(request) for request in export.requests],
        not_in_it=list(NOT_IN_IT),
    )


def _case(about: CaseAbout, titles: Mapping[str, str]) -> CaseAboutBody:
    case = about.kept.case
    return CaseAboutBody(
        case=case.id,
        programme=titles.get(case.programme, case.programme),
        reason=about.kept.reason,
        opened_at=about.kept.opened_at,
        state=case.state.value,
        outcome=None if case.outcome is None else case.outcome.value,
        review_on=case.review_on,
        notes=[
            CaseNoteBody(kind=note.kind, at=note.at, who=who, text=note.text)
            for note, who in about.notes
        ],
    )

"""Reads what is declared under schemas/ and budgets/, and checks it against each other.

The only file of this room that reads any. All or nothing: one fault, and no declaration holds.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dpanalytics.errors import CategoryRefused, DeclarationError
from dpanalytics.schema.access import Access
from dpanalytics.schema.agreement import check_one_tells
from dpanalytics.schema.budget import Caps, Consumer
from dpanalytics.schema.case import Case
from dpanalytics.schema.category import ExcludedCategory, names_refused_category
from dpanalytics.schema.consenttext import STRICTEST, ConsentPolicy, ConsentText
from dpanalytics.schema.identities import IdentityFile
from dpanalytics.schema.indicator import Basis, Indicator, check_basis, check_indicator
from dpanalytics.schema.openness import Openness
from dpanalytics.schema.programme import Programme, check_programme
from dpanalytics.schema.purpose import REFUSED_PURPOSES
from dpanalytics.schema.registers import check_told
from dpanalytics.schema.source import Declaration, Source
from dpanalytics.schema.sqlcheck import CheckedView, check_view
from dpanalytics.schema.view import View

SOURCES = "schemas/sources"
VIEWS = "schemas/views"
CASES = "schemas/cases"
INDICATORS = "schemas/indicators"
PROGRAMMES = "schemas/programmes"
BASIS = "basis"
CONSENT = "schemas/consent"
CONSENT_POLICY = "policy"
VAULT = "schemas/vault"
IDENTITIES = "identities"
OPENNESS = "schemas/openness.yaml"
BUDGETS = "budgets"
CAPS = "caps"
ACCESS = "access"

MAX_BYTES = 1_000_000
"""Largest declaration file."""

_Declared = TypeVar("_Declared", bound=Declaration)


@dataclass(frozen=True)
class Declarations:
    """All that is declared, checked."""

    sources: Mapping[str, Source]
    views: Mapping[str, CheckedView]
    consumers: Mapping[str, Consumer]
    caps: Caps
    access: Access
    cases: Mapping[str, Case]
    """For special category data; none unless one is declared (policy 4.5)."""
    basis: Basis | None
    """What all indicators share; None where none is declared."""
    indicators: Mapping[str, Indicator]
    programmes: Mapping[str, Programme]
    """What staff act under; without one nobody sees who a student is."""
    consent_texts: Mapping[str, ConsentText]
    """By scope; nobody can agree to a scope that has none."""
    consent_policy: ConsentPolicy
    """The strictest readings where none is declared."""
    identities: IdentityFile | None
    """Where identities come from; None where none are loaded."""
    openness: Openness | None
    """Who the institution is, and whom to ask; None where nothing is said."""
    digest: str
    """SHA-256 in hex over names and bytes of all files; the journal records it."""
    files: Mapping[str, bytes]
    """Content of every file, by its path below the root."""


@dataclass(frozen=True)
class _File:
    place: str
    """Path below the root, with slashes."""
    stem: str
    content: bytes


def read_declarations(root: Path) -> Declarations:
    """All declarations below `root`, in which schemas/ and budgets/ lie.

    Raises:
        DeclarationError: a file is not readable, malformed, refused by policy, or does not fit
            the others; the message names file and place, what was got and what is allowed.
    """
    source_files, view_files, budget_files = (
        _files(root, folder) for folder in (SOURCES, VIEWS, BUDGETS)
    )
    sources = {f.stem: parse_declaration(f.content, Source, f.place) for f in source_files}
    for file in source_files:
        _same_name(file, sources[file.stem].name)
    micro_files = tuple(
        file
        for folder in (CASES, INDICATORS, PROGRAMMES, CONSENT, VAULT)
        for file in _files_if_any(root, folder)
    )
    cases = _cases(micro_files, sources)
    views = {}
    for file in view_files:
        view = parse_declaration(file.content, View, file.place)
        _same_name(file, view.name)
        try:
            views[file.stem] = check_view(view, sources, cases.values())
        except DeclarationError as error:
            raise type(error)(f"{file.place}: {error}") from None
        _same_years(file.place, view.name, views)
    caps, access, consumers = _budgets(budget_files)
    _check_access(access, consumers)
    for file in budget_files:
        if file.stem in consumers:
            _same_name(file, consumers[file.stem].consumer)
            _check_grants(file.place, consumers[file.stem], views, caps)
    basis, indicators = _indicators(micro_files, sources, views, cases)
    programmes = _programmes(micro_files, indicators, cases, access)
    told = {"presentation": basis.names if basis else (), "programme": sorted(programmes)}
    for name, source in sources.items():
        with _placed(f"{SOURCES}/{name}.yaml"):
            check_told(source.columns if source.register_of else (), told)
    with _placed(VIEWS):
        check_one_tells(name for name, checked in views.items() if checked.tells_agreement)
    texts, policy = _consent(micro_files)
    strict = policy.reach_of_refusal == "combined_views"
    views = {name: replace(checked, refusal_reaches=strict) for name, checked in views.items()}
    open_files = _file_if_any(root, OPENNESS)
    files = (*source_files, *view_files, *budget_files, *micro_files, *open_files)
    return Declarations(
        sources=MappingProxyType(sources),
        views=MappingProxyType(views),
        consumers=MappingProxyType(consumers),
        caps=caps,
        access=access,
        cases=MappingProxyType(cases),
        basis=basis,
        indicators=MappingProxyType(indicators),
        programmes=MappingProxyType(programmes),
        consent_texts=MappingProxyType(texts),
        consent_policy=policy,
        identities=_identities(micro_files, sources),
        openness=next((parse_declaration(f.content, Openness, f.place) for f in open_files), None),
        digest=_digest(files),
        files=MappingProxyType({file.place: file.content for file in files}),
    )


def _same_years(place: str, name: str, views: Mapping[str, CheckedView]) -> None:
    """All views count a record for one year: the year's cap bounds what they tell together."""
    for other, checked in views.items():
        for source, told in views[name].years.items():
            if checked.years.get(source, told) != told:
                raise DeclarationError(
                    f"{place}: view {name} tells the academic year of a record of {source} "
                    f"otherwise than view {other} does; write the same expression in both"
                )


def parse_declaration(content: bytes, model: type[_Declared], place: str) -> _Declared:
    """One declaration from the bytes of its YAML file; `place` names it in messages.

    Raises:
        DeclarationError: whatever the bytes are, nothing else is raised.
    """
    if len(content) > MAX_BYTES:
        raise DeclarationError(f"{place}: {len(content)} bytes; at most {MAX_BYTES} are allowed")
    try:
        plain = yaml.load(content.decode("utf-8"), Loader=_PlainLoader)  # noqa: S506
    except UnicodeDecodeError:
        raise DeclarationError(f"{place}: is not text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise DeclarationError(f"{place}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise DeclarationError(f"{place}: is no YAML that can be read") from None
    if not isinstance(plain, dict):
        raise DeclarationError(f"{place}: must be a mapping of keys to values")
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        excluded = [fault for fault in _faults(error) if _is_excluded(fault)]
        kind = CategoryRefused if excluded else DeclarationError
        raise kind(f"{place}: {_in_words(excluded or _faults(error))}") from None
    except (ArithmeticError, RecursionError):
        raise DeclarationError(f"{place}: holds a number or nesting beyond all bounds") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases (few bytes may stand for many values) and without keys given twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "an alias is not allowed; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:  # a date that is none, say
            raise yaml.constructor.ConstructorError(
                None, None, f"{str(node.value)[:60]!r} can't be read: {error}", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a plain word", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:60]!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _files(root: Path, folder: str) -> tuple[_File, ...]:
    directory = root / folder
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
        if strays := [path.name for path in paths if path.suffix != ".yaml"]:
            raise DeclarationError(f"{folder}: {strays[0]} is no declaration; they end in .yaml")
        return tuple(_File(f"{folder}/{p.name}", p.stem, p.read_bytes()) for p in paths)
    except OSError as error:
        raise DeclarationError(
            f"{directory.absolute()}: can't be read ({error.strerror}); declarations lie in the "
            "directory that --declarations of dpanalytics init names, or a home's setting "
            "declarations"
        ) from None


def _files_if_any(root: Path, folder: str) -> tuple[_File, ...]:
    """As `_files`; none where there is no such folder."""
    return _files(root, folder) if (root / folder).exists() else ()


def _file_if_any(root: Path, place: str) -> tuple[_File, ...]:
    path = root / place
    if not path.exists():
        return ()
    try:
        return (_File(place, path.stem, path.read_bytes()),)
    except OSError as error:
        raise DeclarationError(f"{place}: can't be read ({error.strerror})") from None


def _within(files: Iterable[_File], folder: str) -> Iterator[_File]:
    return (file for file in files if file.place.startswith(f"{folder}/"))


def _cases(files: Iterable[_File], sources: Mapping[str, Source]) -> dict[str, Case]:
    cases = {}
    for file in _within(files, CASES):
        case = cases[file.stem] = parse_declaration(file.content, Case, file.place)
        _same_name(file, case.name)
        for opened in case.opens:
            source = sources.get(opened.source)
            special = {c.name for c in source.columns if c.special_category} if source else set()
            if strangers := sorted(set(opened.columns) - special):
                raise DeclarationError(
                    f"{file.place}: {opened.source}.{strangers[0]} is no special category column"
                )
    return cases


def _indicators(
    files: Iterable[_File],
    sources: Mapping[str, Source],
    views: Mapping[str, CheckedView],
    cases: Mapping[str, Case],
) -> tuple[Basis | None, dict[str, Indicator]]:
    basis: Basis | None = None
    indicators: dict[str, Indicator] = {}
    plain_views = {name: checked.view for name, checked in views.items()}
    # The basis first: indicators are checked against it.
    for file in sorted(_within(files, INDICATORS), key=lambda f: f.stem != BASIS):
        with _placed(file.place):
            if file.stem == BASIS:
                basis = parse_declaration(file.content, Basis, file.place)
                check_basis(basis, sources)
                continue
            if basis is None:
                raise DeclarationError(f"{INDICATORS}: has no {BASIS}.yaml, which all share")
            indicator = parse_declaration(file.content, Indicator, file.place)
            _same_name(file, indicator.name)
            check_indicator(indicator, basis=basis, sources=sources, views=plain_views, cases=cases)
            indicators[file.stem] = indicator
    for case in cases.values():
        for name in case.indicators:
            if name not in indicators:
                raise DeclarationError(f"{CASES}/{case.name}.yaml: no indicator {name} is declared")
        if unknown := sorted(set(case.views) - set(views)):
            raise DeclarationError(f"{CASES}/{case.name}.yaml: no view {unknown[0]} is declared")
    return basis, indicators


def _programmes(
    files: Iterable[_File],
    indicators: Mapping[str, Indicator],
    cases: Mapping[str, Case],
    access: Access,
) -> dict[str, Programme]:
    programmes: dict[str, Programme] = {}
    for file in _within(files, PROGRAMMES):
        programme = parse_declaration(file.content, Programme, file.place)
        _same_name(file, programme.name)
        with _placed(file.place):
            check_programme(programme, indicators=indicators, cases=cases, access=access)
        programmes[file.stem] = programme
    return programmes


def _consent(files: Iterable[_File]) -> tuple[dict[str, ConsentText], ConsentPolicy]:
    texts: dict[str, ConsentText] = {}
    policy = STRICTEST
    for file in _within(files, CONSENT):
        if file.stem == CONSENT_POLICY:
            policy = parse_declaration(file.content, ConsentPolicy, file.place)
        else:
            texts[file.stem] = parse_declaration(file.content, ConsentText, file.place)
            _same_name(file, texts[file.stem].scope)
    return texts, policy


def _identities(files: Iterable[_File], sources: Mapping[str, Source]) -> IdentityFile | None:
    found: IdentityFile | None = None
    for file in _within(files, VAULT):
        if file.stem != IDENTITIES:
            raise DeclarationError(f"{file.place}: the only declaration here is {IDENTITIES}.yaml")
        found = parse_declaration(file.content, IdentityFile, file.place)
        spaces = {source.students for source in sources.values() if source.students}
        if found.students not in spaces:
            raise DeclarationError(
                f"{file.place}, students: {found.students}; must be {_list(spaces)}"
            )
    return found


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Faults that a check finds, with the file that they are in."""
    try:
        yield
    except ExcludedCategory as error:
        raise CategoryRefused(f"{place}: {error}") from None
    except ValueError as error:
        raise DeclarationError(f"{place}: {error}") from None


def _budgets(files: Iterable[_File]) -> tuple[Caps, Access, dict[str, Consumer]]:
    caps: Caps | None = None
    access = Access()
    consumers: dict[str, Consumer] = {}
    for file in files:
        if file.stem == CAPS:
            caps = parse_declaration(file.content, Caps, file.place)
        elif file.stem == ACCESS:
            access = parse_declaration(file.content, Access, file.place)
        else:
            consumers[file.stem] = parse_declaration(file.content, Consumer, file.place)
    if caps is None:
        raise DeclarationError(f"{BUDGETS}: has no {CAPS}.yaml; every academic year needs a cap")
    return caps, access, consumers


def _check_access(access: Access, consumers: Mapping[str, Consumer]) -> None:
    for number, entitlement in enumerate(access.entitlements):
        if unknown := [name for name in entitlement.consumers if name not in consumers]:
            raise DeclarationError(
                f"{BUDGETS}/{ACCESS}.yaml, entitlements.{number}.consumers: {unknown[0]}; "
                f"must be one of {_list(consumers)}"
            )


def _same_name(file: _File, declared: str) -> None:
    if file.stem != declared:
        raise DeclarationError(f"{file.place}: declares the name {declared}; must be {file.stem}")


def _check_grants(
    place: str, consumer: Consumer, views: Mapping[str, CheckedView], caps: Caps
) -> None:
    capped = {cap.academic_year for cap in caps.caps}
    for number, grant in enumerate(consumer.grants):
        where = f"{place}, grants.{number}"
        checked = views.get(grant.view)
        if checked is None:
            raise DeclarationError(f"{where}.view: {grant.view}; must be one of {_list(views)}")
        view = checked.view
        if grant.academic_year not in view.academic_years:
            raise DeclarationError(
                f"{where}.academic_year: {grant.academic_year}; "
                f"view {view.name} has {_list(view.academic_years)}"
            )
        if grant.academic_year not in capped:
            raise DeclarationError(
                f"{where}.academic_year: {grant.academic_year} has no cap in {BUDGETS}/{CAPS}.yaml"
            )
        if not set(consumer.purposes) & set(view.purposes):
            raise DeclarationError(
                f"{where}.view: {view.name} is for {_list(view.purposes)}; "
                f"the consumer's purposes are {_list(consumer.purposes)}"
            )


def _digest(files: Iterable[_File]) -> str:
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.place):
        for part in (file.place.encode(), file.content):
            whole.update(len(part).to_bytes(8, "big"))
            whole.update(part)
    return whole.hexdigest()


def _faults(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False))


def _is_excluded(fault: Any) -> bool:
    """Whether it is about a category that is never used (policy 4.4)."""
    got, place = fault.get("input"), fault["loc"]
    if isinstance(fault.get("ctx", {}).get("error"), ExcludedCategory):
        return True
    return isinstance(got, str) and place[-1:] == ("category",) and names_refused_category(got)


def _in_words(faults: list[Any]) -> str:
    """The first fault, keys that are none (the first may be one of them misspelt), how many more.

    Each as place, got and allowed.
    """
    unknown = [fault for fault in faults[1:] if fault["type"] == "extra_forbidden"][:2]
    told = [_fault_in_words(fault) for fault in (faults[0], *unknown)]
    more = len(faults) - len(told)
    return "; ".join(told) + (f" (and {more} more)" if more else "")


def _fault_in_words(fault: Any) -> str:
    place = ".".join(str(part)[:80] for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"{place}: no such key"
    got = fault.get("input")
    if isinstance(got, str) and got in REFUSED_PURPOSES:
        message = "is refused: analytics decide no progression, assessment, award or mark (2.3b)"
    shown = ""
    if fault["type"] != "missing" and not isinstance(got, (dict, list)):
        shown = f"{repr(got)[:80]}; "
    return f"{place}: {shown}{message}" if place else f"{shown}{message}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))

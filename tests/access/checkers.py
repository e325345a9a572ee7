"""Token checkers for tests, with a clock that is set by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dpanalytics.access.tokens import TokenChecker, token_checker
from dpanalytics.schema.access import Access
from dpanalytics.schema.declared import parse_declaration
from dpanalytics.settings import Settings

ROOT = Path(__file__).parents[2]


class Clock:
    """Tells the time that a test says it is."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def shipped_access() -> Access:
    """What `budgets/access.yaml` declares."""
    content = (ROOT / "budgets" / "access.yaml").read_bytes()
    return parse_declaration(content, Access, "budgets/access.yaml")


def settings_of(home: Path, **more: Any) -> Settings:
    return Settings(home=home, declarations=ROOT, **more)


def checker_for(
    issuer: str, audience: str, *, clock: Clock, access: Access | None = None, **more: Any
) -> TokenChecker:
    """The checker of a service that trusts this issuer."""
    settings = settings_of(Path("/nowhere"), issuer=issuer, audience=audience, **more)
    return token_checker(settings, access or shipped_access(), clock=clock)

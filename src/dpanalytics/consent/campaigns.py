"""The yearly campaign: who is asked, who answered, who is to be reminded (policy 2.6c)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import Connection, insert, select

from dpanalytics.consent.register import ASKED, REMINDER, ConsentRegister, Journal
from dpanalytics.consent.terms import Asked, Texts, campaign_state
from dpanalytics.errors import ConsentError
from dpanalytics.schema.consenttext import Campaign


@dataclass(frozen=True)
class CampaignCounts:
    """How a campaign stands; exact, for data stewards only."""

    asked: int
    answered: int
    reminder_due: int


class Campaigns:
    """Campaigns in the register's tables; every method works in the caller's transaction."""

    def __init__(
        self,
        register: ConsentRegister,
        *,
        texts: Texts,
        journal: Journal,
        clock: Callable[[], datetime],
    ) -> None:
        """Over the decisions of a register, and the same texts, journal and clock."""
        self._register = register
        self._texts = texts
        self._journal = journal
        self._clock = clock

    def open(self, connection: Connection, campaign: Campaign, students: Collection[bytes]) -> int:
        """Note who is asked; how many are new. It can be given again with who came later.

        Raises:
            ConsentError: the campaign opens on a later day.
        """
        today = self._today()
        if today < campaign.opens:
            raise ConsentError(
                f"campaign {campaign.academic_year}: opens on {campaign.opens.isoformat()}"
            )
        new = set(students) - self.asked(connection, campaign)
        if new:
            connection.execute(
                insert(ASKED),
                [
                    {
                        "academic_year": campaign.academic_year,
                        "pseudonym": student,
                        "asked_on": today.isoformat(),
                    }
                    for student in sorted(new)
                ],
            )
            self._tell(connection, campaign, "opened")
        return len(new)

    def asked(self, connection: Connection, campaign: Campaign) -> set[bytes]:
        """Who is asked."""
        statement = select(ASKED.c.pseudonym).where(ASKED.c.academic_year == campaign.academic_year)
        return {bytes(student) for student in connection.execute(statement).scalars()}

    def standing(self, connection: Connection, campaign: Campaign) -> Mapping[bytes, Asked]:
        """How each student who is asked stands to the question, today."""
        today = self._today()
        statement = select(REMINDER.c.pseudonym, REMINDER.c.reminded_on).where(
            REMINDER.c.academic_year == campaign.academic_year
        )
        reminded: dict[bytes, list[date]] = {}
        for student, day in connection.execute(statement):
            reminded.setdefault(bytes(student), []).append(date.fromisoformat(day))
        events = dict(self._register.by_student(connection, at=self._clock()))
        return {
            student: campaign_state(
                campaign,
                events.get(student, ()),
                today=today,
                registered=True,
                reminded=reminded.get(student, ()),
                texts=self._texts,
            )
            for student in sorted(self.asked(connection, campaign))
        }

    def counts(self, connection: Connection, campaign: Campaign) -> CampaignCounts:
        """How a campaign stands today."""
        all_asked = self.standing(connection, campaign).values()
        return CampaignCounts(
            asked=len(all_asked),
            answered=sum(asked.answered for asked in all_asked),
            reminder_due=sum(asked.reminder_due for asked in all_asked),
        )

    def reminded(
        self, connection: Connection, campaign: Campaign, students: Collection[bytes]
    ) -> None:
        """Note that these students are reminded today."""
        if not students:
            return
        connection.execute(
            insert(REMINDER),
            [
                {
                    "academic_year": campaign.academic_year,
                    "pseudonym": student,
                    "reminded_on": self._today().isoformat(),
                }
                for student in sorted(students)
            ],
        )
        self._tell(connection, campaign, "reminded")

    def _tell(self, connection: Connection, campaign: Campaign, step: str) -> None:
        self._journal.append_within(
            connection.connection.driver_connection,
            "campaign",
            {"academic_year": campaign.academic_year, "step": step},
        )

    def _today(self) -> date:
        return self._clock().astimezone(UTC).date()


def asked_of(
    connection: Connection, student: bytes
) -> tuple[tuple[str, date, tuple[date, ...]], ...]:
    """Each campaign that asked a student: academic year, day, and days of reminders."""
    days: dict[str, list[date]] = {}
    wanted = select(REMINDER.c.academic_year, REMINDER.c.reminded_on)
    for year, day in connection.execute(wanted.where(REMINDER.c.pseudonym == student)):
        days.setdefault(year, []).append(date.fromisoformat(day))
    asked = select(ASKED.c.academic_year, ASKED.c.asked_on).where(ASKED.c.pseudonym == student)
    return tuple(
        (year, date.fromisoformat(day), tuple(sorted(days.get(year, ()))))
        for year, day in connection.execute(asked.order_by(ASKED.c.academic_year))
    )

"""Turns off the event loop: fair, bounded, and nothing charged is ever lost."""

import asyncio
import dataclasses
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dpanalytics.api import asking
from dpanalytics.api.turns import Lane, Turns, open_turns
from dpanalytics.errors import ReleaseFailed, RequestIdReused, ServiceBusy, TooManyRequests
from dpanalytics.ledger.accounts import Debit, Recorded, Ticket
from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.ledger.verify import verify
from dpanalytics.query.answer import Answered, Desk
from dpanalytics.query.request import Question
from dpanalytics.schema.budget import Caps
from tests.ledger.fakes import Clock, Declared, cap, grant
from tests.query.desks import FIRST, World, asked, consumer

LONG = 3600.0
"""Seconds that no test waits."""
SOON = 0.02
"""Seconds of a time limit that a test waits out; it decides nothing but the test's length."""
IN_TIME = 1.0
"""Seconds within which a question that nobody holds up has begun."""


class Hands(Executor):
    """Runs what it is given when a test says so."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append((future, lambda: work(*arguments, **named)))
        return future

    def finish(self, number: int = 0) -> None:
        """Do one of the jobs under way, the oldest if not said otherwise."""
        future, work = self.given.pop(number)
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)


@dataclass
class Told:
    numbers: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, waiting: int, working: int) -> None:
        self.numbers.append((waiting, working))


def lane(
    hands: Executor,
    *,
    places: int = 1,
    queue_length: int = 8,
    each: int = 8,
    time_limit: float = LONG,
    told: Told | None = None,
) -> Lane:
    return Lane(
        executor=hands,
        places=places,
        queue_length=queue_length,
        queue_length_per_asker=each,
        time_limit=time_limit,
        tell=told or Told(),
    )


async def answer(turns: Turns, desk: Desk, question: Question, *, request_id: str) -> Answered:
    """The answer as it is recorded."""
    answered, body = await asking.answer(
        turns, desk, question, request_id=request_id, form="as it is", formed=bytes
    )
    assert body == answered.body
    return answered


async def settled() -> None:
    """Let everything happen that waits for nothing else."""
    for _ in range(8):
        await asyncio.sleep(0)


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


@in_loop
async def test_a_flood_of_one_asker_delays_nobody_elses_turn() -> None:
    hands, done = Hands(), []
    one = lane(hands)
    waits = [asyncio.create_task(one.run("flood", lambda n=n: done.append(n))) for n in range(6)]
    await settled()
    waits += [asyncio.create_task(one.run(who, lambda who=who: done.append(who))) for who in "ab"]
    await settled()
    while hands.given:
        hands.finish()
        await settled()
    assert done == [0, 1, "a", "b", 2, 3, 4, 5]
    await asyncio.gather(*waits)


@in_loop
async def test_bounds_are_exact_and_say_which_one_was_met() -> None:
    hands = Hands()
    one = lane(hands, queue_length=3, each=2)
    waits = [asyncio.create_task(one.run("a", int)) for _ in range(3)]  # one works, two wait
    await settled()
    with pytest.raises(TooManyRequests) as many:
        await one.run("a", int)
    waits.append(asyncio.create_task(one.run("b", int)))
    await settled()
    assert (one.waiting, one.working) == (3, 1)
    with pytest.raises(ServiceBusy) as busy:
        await one.run("c", int)
    assert many.value.retry_after == busy.value.retry_after > 0
    while hands.given:
        hands.finish()
        await settled()
    assert await asyncio.gather(*waits) == [0, 0, 0, 0]
    assert (one.waiting, one.working) == (0, 0)


@in_loop
async def test_what_has_not_begun_in_time_is_dropped_and_never_happens() -> None:
    hands, done = Hands(), []
    one = lane(hands, time_limit=SOON)
    first = asyncio.create_task(one.run("a", lambda: done.append("first")))
    await settled()
    with pytest.raises(ServiceBusy, match="nothing was charged"):
        await one.run("a", lambda: done.append("second"))
    with pytest.raises(ServiceBusy, match="the work goes on"):
        await first
    hands.finish()
    await settled()
    assert (done, hands.given) == (["first"], [])


@in_loop
async def test_who_waited_elsewhere_before_waits_no_longer_than_one_limit_in_all() -> None:
    hands, done = Hands(), []
    one = lane(hands, time_limit=LONG)
    passed = one.deadline() - LONG
    working = asyncio.create_task(one.run("a", lambda: done.append("first"), until=passed))
    waiting = asyncio.create_task(one.run("a", lambda: done.append("second"), until=passed))
    for late, told in ((working, "the work goes on"), (waiting, "nothing was charged")):
        with pytest.raises(ServiceBusy, match=told):
            await late
    hands.finish()
    await settled()
    assert done == ["first"]


@in_loop
async def test_a_caller_who_leaves_drops_what_waits_and_not_what_has_begun() -> None:
    hands, done = Hands(), []
    one = lane(hands)
    first, second, third = (
        asyncio.create_task(one.run("a", lambda n=n: done.append(n))) for n in (1, 2, 3)
    )
    await settled()
    first.cancel()
    second.cancel()
    await settled()
    assert (one.waiting, one.working) == (1, 1)
    hands.finish()
    await settled()
    hands.finish()
    await third
    assert done == [1, 3]
    assert first.cancelled()
    assert second.cancelled()


@in_loop
async def test_the_same_key_is_worked_on_once_for_all_who_ask() -> None:
    hands, done = Hands(), []
    one = lane(hands)

    def work() -> str:
        done.append(1)
        return "answer"

    blocker = asyncio.create_task(one.run("z", int))
    waits = [asyncio.create_task(one.run("a", work, key="k")) for _ in range(3)]
    other = asyncio.create_task(one.run("a", work, key="another"))
    await settled()
    waits[0].cancel()  # the first leaves: the others still wait for the same work
    await settled()
    while hands.given:
        hands.finish()
        await settled()
    assert await asyncio.gather(*waits[1:], other, blocker) == ["answer", "answer", "answer", 0]
    assert len(done) == 2
    again = asyncio.create_task(one.run("a", work, key="k"))
    await settled()
    hands.finish()
    await again
    assert len(done) == 3  # what is over is not known any more: the ledger knows it


@in_loop
async def test_as_many_may_wait_for_one_job_as_may_wait_at_all() -> None:
    hands = Hands()
    one = lane(hands, each=2)
    waits = [asyncio.create_task(one.run("a", int, key="k")) for _ in range(3)]
    await settled()
    with pytest.raises(TooManyRequests):
        await one.run("a", int, key="k")
    hands.finish()
    assert await asyncio.gather(*waits) == [0, 0, 0]


@in_loop
async def test_on_closing_what_waits_is_refused_and_what_has_begun_finishes() -> None:
    hands, done = Hands(), []
    one = lane(hands)
    first = asyncio.create_task(one.run("a", lambda: done.append("first")))
    second = asyncio.create_task(one.run("a", lambda: done.append("second")))
    await settled()
    one.close()
    with pytest.raises(ServiceBusy, match="going down"):
        await second
    with pytest.raises(ServiceBusy, match="going down"):
        await one.run("b", int)
    assert await one.finished(grace=SOON) == 1
    hands.finish()
    assert await one.finished(grace=LONG) == 0
    await first
    assert done == ["first"]


@in_loop
async def test_nobody_hears_the_message_of_a_job_that_failed_alone() -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: heard.append(told))
    hands = Hands()
    one = lane(hands)

    def fails() -> None:
        raise ValueError("canary")

    waits = asyncio.create_task(one.run("a", fails))
    await settled()
    waits.cancel()
    await settled()
    hands.finish()
    await settled()
    del waits
    gc.collect()
    assert heard == []


class Panic(BaseException):
    """As an engine in Rust throws it."""


def test_a_panic_of_an_engine_reaches_the_caller_as_an_exception_without_its_message() -> None:
    async def run() -> None:
        async with two_lanes() as both:

            def panics() -> None:
                raise Panic("canary")

            with pytest.raises(RuntimeError) as raised:
                await both.look_up("a", panics)
        assert "canary" not in str(raised.value)
        assert raised.value.__suppress_context__

    asyncio.run(run())


class Waiting(RuleBasedStateMachine):
    """Any order of asking, finishing and leaving, against a model with plain lists."""

    @initialize(places=st.integers(1, 3), queue_length=st.integers(1, 6), each=st.integers(1, 4))
    def begin(self, places: int, queue_length: int, each: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.hands, self.told = Hands(), Told()
        self.lane = lane(
            self.hands, places=places, queue_length=queue_length, each=each, told=self.told
        )
        self.places, self.queue_length, self.each = places, queue_length, each
        self.ring: list[str] = []  # askers with waiting jobs, the next one first
        self.queued: dict[str, list[int]] = {}
        self.working: list[int] = []
        self.tasks: dict[int, asyncio.Task[int]] = {}
        self.left: set[int] = set()
        self.begun: list[int] = []
        self.expected: list[int] = []

    def run(self) -> None:
        self.loop.run_until_complete(settled())

    @rule(asker=st.sampled_from("abc"))
    def ask(self, asker: str) -> None:
        number = len(self.tasks)

        def work() -> int:
            self.begun.append(number)
            return number

        task = self.loop.create_task(self.lane.run(asker, work))
        self.tasks[number] = task
        waiting = sum(map(len, self.queued.values()))
        own = len(self.queued.get(asker, ()))
        self.run()
        if len(self.working) < self.places:
            self.working.append(number)
        elif own >= self.each:
            assert isinstance(task.exception(), TooManyRequests)
        elif waiting >= self.queue_length:
            assert isinstance(task.exception(), ServiceBusy)
        else:
            if not own:
                self.ring.append(asker)
            self.queued.setdefault(asker, []).append(number)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if not self.working:
            return
        which = data.draw(st.integers(0, len(self.working) - 1))
        number = self.working.pop(which)
        self.expected.append(number)
        self.hands.finish(which)
        if self.ring:
            asker = self.ring.pop(0)
            self.working.append(self.queued[asker].pop(0))
            if self.queued[asker]:
                self.ring.append(asker)
        self.run()
        if number not in self.left:
            assert self.tasks[number].result() == number

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        there = [n for n, task in self.tasks.items() if not task.done()]
        if not there:
            return
        number = data.draw(st.sampled_from(there))
        self.left.add(number)
        self.tasks[number].cancel()
        self.run()
        for asker, queue in self.queued.items():
            if number in queue:
                queue.remove(number)
                if not queue:
                    self.ring.remove(asker)

    @invariant()
    def as_the_model_says(self) -> None:
        if not hasattr(self, "lane"):
            return
        assert self.begun == self.expected
        waiting = sum(map(len, self.queued.values()))
        assert (self.lane.waiting, self.lane.working) == (waiting, len(self.working))
        assert len(self.hands.given) == len(self.working) <= self.places
        assert waiting <= self.queue_length
        assert all(len(queue) <= self.each for queue in self.queued.values())
        if self.told.numbers:
            assert self.told.numbers[-1] == (waiting, len(self.working))

    def teardown(self) -> None:
        while getattr(self, "working", ()):
            self.working.pop(0)
            self.hands.finish()
            self.run()
            self.working += [0] * (len(self.hands.given) - len(self.working))
        if hasattr(self, "loop"):
            for task in self.tasks.values():
                if task.done() and not task.cancelled():
                    task.exception()
            self.loop.close()


Waiting.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestWaiting = Waiting.TestCase


# With the real desk and journal


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    create_journal(tmp_path / "ledger.sqlite")
    with SqliteJournal(tmp_path / "ledger.sqlite", clock=Clock()) as journal:
        held = consumer().model_copy(update={"grants": (grant(2, view="activity", year=FIRST),)})
        journal.adopt(Declared({"committee": held}, Caps(caps=(cap(2, year=FIRST),))))
        world = World(tmp_path, Clock(), journal)
        world.write()
        yield world
        assert verify(journal).passed


@dataclass
class Stopping:
    """A ledger at which work stops at one point, until it is told to go on."""

    journal: SqliteJournal
    at: str
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    debits: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    def _stop(self, point: str) -> None:
        if point == self.at:
            self.reached.set()
            assert self.go.wait(30)

    def debit(self, debit: Debit) -> Ticket | Recorded:
        self.debits += 1
        self._stop("before the debit")
        debited = self.journal.debit(debit)
        self._stop("after the debit")
        return debited

    def record(self, ticket: Ticket, body: bytes) -> Recorded:
        self._stop("before the record")
        recorded = self.journal.record(ticket, body)
        self._stop("after the record")
        return recorded


@asynccontextmanager
async def two_lanes(*, threads: int = 2) -> AsyncIterator[Turns]:
    async with open_turns(
        threads=threads,
        queue_length=8,
        queue_length_per_asker=8,
        time_limit=LONG,
        grace=LONG,
        tell=lambda name: Told(),
    ) as both:
        yield both


def test_readings_of_the_whole_journal_come_one_by_one_and_hold_up_no_look_up() -> None:
    go = threading.Event()

    async def run() -> None:
        async with two_lanes() as lanes:
            scans = [asyncio.create_task(lanes.audits.run("office", go.wait)) for _ in range(3)]
            await settled()
            assert (lanes.audits.working, lanes.audits.waiting) == (1, 2)
            assert await lanes.look_up("member", lambda: 7) == 7
            go.set()
            assert await asyncio.gather(*scans) == [True] * 3

    asyncio.run(run())


def paid_and_released(world: World) -> tuple[int, int]:
    kinds = [entry["kind"] for entry in world.journal.entries()]
    return kinds.count("debit"), kinds.count("release")


POINTS = ("before the debit", "after the debit", "before the record", "after the record")


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("why", ["the caller left", "the time was up", "the service went down"])
def test_what_has_begun_ends_in_a_release_that_its_key_fetches_for_free(
    world: World, at: str, why: str
) -> None:
    ledger = Stopping(world.journal, at)
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> Answered:
        limit = IN_TIME if why == "the time was up" else LONG
        with ThreadPoolExecutor(1) as pool:
            answers = lane(pool, time_limit=limit)
            await begun_and_given_up(answers)
            assert await answers.finished(grace=LONG) == 0
        # The lane has waited for what had begun.
        assert paid_and_released(world) == (1, 1)
        async with two_lanes() as both:
            return await answer(both, world.desk(), asked(), request_id="key-1")

    async def begun_and_given_up(answers: Lane) -> None:
        async with two_lanes() as quick:
            both = dataclasses.replace(quick, answers=answers)
            first = asyncio.create_task(answer(both, desk, asked(), request_id="key-1"))
            await asyncio.to_thread(ledger.reached.wait, 30)
            if why == "the caller left":
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
            elif why == "the time was up":
                with pytest.raises(ServiceBusy, match="the work goes on"):
                    await first
            else:
                both.close()
            ledger.go.set()
            if why == "the service went down":
                assert (await first).charged

    again = asyncio.run(run())
    assert not again.charged
    assert again.content["rows"]
    assert paid_and_released(world) == (1, 1)
    assert ledger.debits == 1


def test_what_waited_when_its_caller_left_was_never_charged(world: World) -> None:
    ledger = Stopping(world.journal, "before the record")
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> None:
        async with two_lanes(threads=1) as both:
            first = asyncio.create_task(answer(both, desk, asked(), request_id="key-1"))
            await asyncio.to_thread(ledger.reached.wait, 30)
            second = asyncio.create_task(
                answer(both, world.desk(), asked(epsilon=0.3), request_id="key-2")
            )
            while not both.answers.waiting:
                await asyncio.sleep(0)
            second.cancel()
            await settled()
            assert not both.answers.waiting
            ledger.go.set()
            assert (await first).charged

    asyncio.run(run())
    assert paid_and_released(world) == (1, 1)


def test_the_same_request_at_once_is_worked_on_once_and_charged_to_one(world: World) -> None:
    ledger = Stopping(world.journal, "after the debit")
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> list[Answered]:
        async with two_lanes() as both:
            waits = [
                asyncio.create_task(answer(both, desk, asked(), request_id="key-1"))
                for _ in range(3)
            ]
            await asyncio.to_thread(ledger.reached.wait, 30)
            while both.look_ups.working:
                await asyncio.sleep(0)
            await settled()
            ledger.go.set()
            return await asyncio.gather(*waits)

    answers = asyncio.run(run())
    assert ledger.debits == 1
    assert len({answer.body for answer in answers}) == 1
    assert [answer.charged for answer in answers].count(True) == 1


def test_the_same_request_in_two_forms_at_once_is_charged_once(world: World) -> None:
    ledger = Stopping(world.journal, "before the record")
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> list[tuple[Answered, tuple[str, bytes]]]:
        async with two_lanes() as both:
            waits = [
                asyncio.create_task(
                    asking.answer(
                        both,
                        desk,
                        asked(),
                        request_id="key-1",
                        form=form,
                        formed=lambda body, form=form: (form, body),
                    )
                )
                for form in ("csv", "csv", "arrow")
            ]
            while ledger.debits < 2:
                await asyncio.sleep(0)
            ledger.go.set()
            return await asyncio.gather(*waits)

    answers = asyncio.run(run())
    assert paid_and_released(world) == (1, 1)
    assert [answered.charged for answered, _ in answers].count(True) == 1
    assert len({answered.body for answered, _ in answers}) == 1
    assert [form for _, (form, _) in answers] == ["csv", "csv", "arrow"]
    assert all(body == answered.body for answered, (_, body) in answers)


def test_no_room_for_look_ups_is_no_reason_to_keep_an_answer_back_that_was_charged(
    world: World,
) -> None:
    ledger = Stopping(world.journal, "before the record")
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> tuple[Answered, str]:
        async with two_lanes() as both:
            asking_for = asyncio.create_task(
                asking.answer(
                    both, desk, asked(), request_id="key-1", form="csv", formed=lambda _: "a table"
                )
            )
            await asyncio.to_thread(ledger.reached.wait, 30)
            # From now on the consumer has as many look-ups waiting as may be.
            go = threading.Event()
            full = [
                asyncio.create_task(both.look_up("committee", lambda: go.wait(30)))
                for _ in range(2 + 8)
            ]
            await settled()
            with pytest.raises(TooManyRequests, match="nothing was charged"):
                await both.look_up("committee", int)
            ledger.go.set()
            told = await asking_for
            go.set()
            await asyncio.gather(*full)
            return told

    answered, table = asyncio.run(run())
    assert (answered.charged, table) == (True, "a table")
    assert paid_and_released(world) == (1, 1)


def test_one_key_for_two_questions_at_once_is_refused_to_the_later_one(world: World) -> None:
    ledger = Stopping(world.journal, "after the debit")
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> None:
        async with two_lanes() as both:
            first = asyncio.create_task(answer(both, desk, asked(), request_id="key-1"))
            await asyncio.to_thread(ledger.reached.wait, 30)
            with pytest.raises(RequestIdReused):
                await answer(both, world.desk(), asked(epsilon=0.3), request_id="key-1")
            ledger.go.set()
            await first

    asyncio.run(run())
    assert paid_and_released(world) == (1, 1)


def test_a_recorded_answer_waits_for_no_slow_question(world: World) -> None:
    ledger = Stopping(world.journal, "before the record")
    desk = dataclasses.replace(world.desk(), ledger=ledger)

    async def run() -> None:
        async with two_lanes(threads=1) as both:
            await answer(both, world.desk(), asked(epsilon=0.3), request_id="key-0")
            slow = asyncio.create_task(answer(both, desk, asked(), request_id="key-1"))
            await asyncio.to_thread(ledger.reached.wait, 30)
            again = await answer(both, world.desk(), asked(epsilon=0.3), request_id="key-0")
            under_another = await answer(both, world.desk(), asked(epsilon=0.3), request_id="key-2")
            assert not slow.done()
            assert again.body == under_another.body
            assert (again.charged, under_another.charged) == (False, False)
            ledger.go.set()
            await slow

    asyncio.run(run())


def test_a_question_that_finds_a_free_place_takes_one_turn_and_no_look_up(world: World) -> None:
    async def run() -> None:
        async with two_lanes() as both:
            both.look_ups.close()
            first = await answer(both, world.desk(), asked(), request_id="key-1")
            again = await answer(both, world.desk(), asked(), request_id="key-2")
            assert (first.charged, again.charged, again.body) == (True, False, first.body)
            both.answers.close()
            assert not both.answers.free
            with pytest.raises(ServiceBusy):
                await answer(both, world.desk(), asked(), request_id="key-3")

    asyncio.run(run())


def test_a_question_that_failed_is_told_as_it_failed_and_may_be_asked_again(world: World) -> None:
    readable = world.seal()

    async def run() -> None:
        async with two_lanes() as both:
            with pytest.raises(ReleaseFailed):
                await answer(both, world.desk(), asked(), request_id="key-1")
            readable()
            assert (await answer(both, world.desk(), asked(), request_id="key-1")).charged

    asyncio.run(run())
    assert paid_and_released(world) == (1, 1)

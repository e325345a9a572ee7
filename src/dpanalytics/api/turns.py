"""Turns: blocking work in a few threads, off the event loop, in a fair and bounded order.

Polars, OpenDP and the journal block, so nothing of them runs on the event loop. A `Lane` has a few
threads and a queue. Askers take turns in a circle, one job a turn. So one who floods the queue
delays others by what is under way already, which may be its own in every thread, and by one job of
its own in each round, never by what it has waiting. Lanes stand side by side: questions in one,
look-ups in another, readings of the whole journal in a third, so what takes milliseconds never
waits for what takes seconds.

A job that has not begun can be dropped: nothing of it happened. One that has begun always runs to
its end, whoever still waits for it, so that no debit is left without its release.

How long work takes decides when the next begins, so it must not depend on private rows:
`dpanalytics.query.timing` sees to that where rows are read, and holds the thread meanwhile.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from dpanalytics.errors import ServiceBusy, TooManyRequests

T = TypeVar("T")

LOOK_UP_THREADS = 2
"""Threads of the lane for look-ups, each of which takes milliseconds."""
RETRY_AFTER = 1.0
"""Seconds after which a refused asker may ask again; the same for all, so it tells nothing."""
GOES_ON = (
    "the answer is still being worked out, and the work goes on; ask again, a question with the "
    "same Idempotency-Key to fetch it at no further charge"
)
NOT_BEGUN = "the service is busy and did not begin in time; nothing was charged"
FULL = "too much is waiting in the service; nothing was begun, and nothing was charged"
CLOSING = "the service is going down; nothing was begun, and nothing was charged"


@dataclass(eq=False)
class _Job(Generic[T]):
    """One piece of work, and those who wait for it."""

    asker: str
    work: Callable[[], T]
    key: Hashable | None
    outcome: "asyncio.Future[T]"
    waiters: int = 0
    begun: bool = False


class Lane:
    """A few threads and a queue before them; used from one event loop only."""

    def __init__(
        self,
        *,
        executor: Executor,
        places: int,
        queue_length: int,
        queue_length_per_asker: int,
        time_limit: float,
        tell: Callable[[int, int], object],
    ) -> None:
        """A lane without work.

        Args:
            executor: What runs the work; it must be able to run `places` jobs at once.
            places: Jobs under way at the same time.
            queue_length: Jobs that may wait, of all askers together.
            queue_length_per_asker: Jobs of one asker that may wait, and also how many more may
                wait for one job that is already there.
            time_limit: Seconds after which whoever waits is told to come back.
            tell: Called with the jobs waiting and under way, when these change.
        """
        self._tell = tell
        self._executor = executor
        self._places = places
        self._queue_length = queue_length
        self._queue_length_per_asker = queue_length_per_asker
        self._time_limit = time_limit
        self._waiting = 0
        # Askers with waiting jobs; the first one is next.
        self._queues: OrderedDict[str, deque[_Job[Any]]] = OrderedDict()
        self._known: dict[Hashable, _Job[Any]] = {}
        self._begun: set[_Job[Any]] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return self._waiting

    @property
    def working(self) -> int:
        """Jobs under way."""
        return len(self._begun)

    @property
    def free(self) -> bool:
        """Whether a job that comes now begins at once."""
        return not self._closed and len(self._begun) < self._places

    def deadline(self) -> float:
        """When the time limit of a caller that comes now has passed, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._time_limit

    async def run(
        self,
        asker: str,
        work: Callable[[], T],
        *,
        key: Hashable | None = None,
        until: float | None = None,
    ) -> T:
        """What `work` returns or raises, done in a thread when the asker's turn has come.

        Work that carries a `key` is done once for all who ask for it meanwhile under that key.
        Cancelling the caller drops work that has not begun, unless others wait for it too. Who has
        waited elsewhere before names the deadline of then as `until`.

        Raises:
            TooManyRequests: so much of this asker is waiting already; nothing was begun.
            ServiceBusy: the queue is full, the lane is closed, or the time limit has passed; the
                message says whether the work was begun. What was begun is finished.
        """
        left = self._time_limit
        if until is not None:
            left = max(0.0, until - asyncio.get_running_loop().time())
        job = self._job(asker, work, key)
        job.waiters += 1
        self._begin_next()
        try:
            done, _ = await asyncio.wait((job.outcome,), timeout=left)
        finally:
            job.waiters -= 1
            if not job.waiters and not job.begun:
                self._drop(job)
        if done:
            return job.outcome.result()
        raise ServiceBusy(GOES_ON if job.begun else NOT_BEGUN, retry_after=RETRY_AFTER)

    def close(self) -> None:
        """Take no more, and refuse what waits; what has begun goes on."""
        self._closed = True
        for job in [job for queue in self._queues.values() for job in queue]:
            self._drop(job)
            job.outcome.set_exception(ServiceBusy(CLOSING, retry_after=RETRY_AFTER))
            job.outcome.exception()  # looked at, so that asyncio never logs it

    async def finished(self, *, grace: float) -> int:
        """Wait until what has begun is done, at most `grace` seconds.

        Returns:
            How many jobs are still under way.
        """
        if self._begun:
            await asyncio.wait({job.outcome for job in self._begun}, timeout=grace)
        return len(self._begun)

    def _job(self, asker: str, work: Callable[[], T], key: Hashable | None) -> _Job[T]:
        """The job that is known under the key, or a new one at the end of the asker's queue."""
        if key is not None and (known := self._known.get(key)) is not None:
            if known.waiters > self._queue_length_per_asker:
                raise TooManyRequests(
                    f"{known.waiters} requests wait for this answer already",
                    retry_after=RETRY_AFTER,
                )
            return known
        if self._closed:
            raise ServiceBusy(CLOSING, retry_after=RETRY_AFTER)
        if not self.free:
            if len(self._queues.get(asker, ())) >= self._queue_length_per_asker:
                raise TooManyRequests(
                    f"{self._queue_length_per_asker} requests of the same consumer are waiting, "
                    "which is as many as may; nothing was begun, and nothing was charged",
                    retry_after=RETRY_AFTER,
                )
            if self.waiting >= self._queue_length:
                raise ServiceBusy(FULL, retry_after=RETRY_AFTER)
        job = _Job(asker, work, key, asyncio.get_running_loop().create_future())
        self._queues.setdefault(asker, deque()).append(job)
        self._waiting += 1
        if key is not None:
            self._known[key] = job
        return job

    def _begin_next(self) -> None:
        """Begin jobs while there are places, one of each asker in turn."""
        loop = asyncio.get_running_loop()
        while self.free and self._queues:
            asker, queue = self._queues.popitem(last=False)
            job = queue.popleft()
            self._waiting -= 1
            if queue:
                self._queues[asker] = queue  # at the end: everybody else comes first
            job.begun = True
            self._begun.add(job)
            running = loop.run_in_executor(self._executor, _unpanicked, job.work)
            running.add_done_callback(partial(self._ended, job))
        self._tell(self._waiting, len(self._begun))

    def _ended(self, job: _Job[T], running: "asyncio.Future[T]") -> None:
        """Hand on what a job gave, to whoever still waits, and begin the next one."""
        self._begun.discard(job)
        self._forget(job)
        if (error := running.exception()) is not None:
            job.outcome.set_exception(error)
            job.outcome.exception()  # looked at: where nobody waits, asyncio would log its message
        else:
            job.outcome.set_result(running.result())
        self._begin_next()

    def _drop(self, job: _Job[Any]) -> None:
        """Take a job out of the queue; nothing of it happens."""
        queue = self._queues.get(job.asker)
        if queue is None or job not in queue:
            return
        queue.remove(job)
        self._waiting -= 1
        if not queue:
            del self._queues[job.asker]
        self._forget(job)
        self._tell(self._waiting, len(self._begun))

    def _forget(self, job: _Job[Any]) -> None:
        if job.key is not None:
            self._known.pop(job.key, None)


def _unpanicked(work: Callable[[], T]) -> T:
    """The work; an engine's panic, which is no Exception, becomes one, without its message."""
    try:
        return work()
    except Exception:
        raise
    except BaseException as panic:
        raise RuntimeError(f"work ended with {type(panic).__name__}") from None


@dataclass(frozen=True)
class Turns:
    """The lanes of one process."""

    answers: Lane
    """What may read rows: questions, runs of programmes, readings of cases."""
    look_ups: Lane
    """What reads no rows: budgets, recorded releases, estimates, lists of cases."""
    audits: Lane
    """What reads the whole journal, one at a time: in a long one it takes seconds."""

    async def look_up(self, asker: str, work: Callable[[], T]) -> T:
        """What `work` returns or raises; it reads no rows and takes milliseconds.

        Raises:
            TooManyRequests, ServiceBusy: as `Lane.run`.
        """
        return await self.look_ups.run(asker, work)

    def close(self) -> None:
        """Take no more, and refuse what waits; what has begun goes on."""
        for lane in (self.answers, self.look_ups, self.audits):
            lane.close()


@asynccontextmanager
async def open_turns(
    *,
    threads: int,
    queue_length: int,
    queue_length_per_asker: int,
    time_limit: float,
    grace: float,
    tell: Callable[[str], Callable[[int, int], object]],
) -> AsyncIterator[Turns]:
    """Lanes with threads of their own; at the end, what has begun has `grace` seconds to finish.

    Args:
        threads: Questions under way at the same time.
        queue_length: As in `Lane`, for each of them.
        queue_length_per_asker: As in `Lane`, for each of them.
        time_limit: As in `Lane`.
        tell: Gives, for the name of a lane, what the lane tells its numbers to.
        grace: Seconds. What takes longer than that may find the journal closed: its debit stands,
            and asking again answers it at no further charge.
    """
    pools = []

    def lane(name: str, places: int) -> Lane:
        pools.append(ThreadPoolExecutor(places, thread_name_prefix=name))
        return Lane(
            executor=pools[-1],
            places=places,
            queue_length=queue_length,
            queue_length_per_asker=queue_length_per_asker,
            time_limit=time_limit,
            tell=tell(name),
        )

    turns = Turns(
        answers=lane("answers", threads),
        look_ups=lane("look-ups", LOOK_UP_THREADS),
        audits=lane("audits", 1),
    )
    try:
        yield turns
    finally:
        turns.close()
        await turns.answers.finished(grace=grace)
        await turns.look_ups.finished(grace=grace)
        await turns.audits.finished(grace=grace)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)

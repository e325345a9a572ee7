"""The journey of a question through the lanes: worked out once, charged once, told in its form.

The form is made where the answer is: a refusal for want of room can only come before a debit, and
says so truly.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TypeVar

from dpanalytics.api.turns import Turns
from dpanalytics.query.answer import Answered, Desk, Prepared
from dpanalytics.query.request import Question

T = TypeVar("T")


async def answer(
    turns: Turns,
    desk: Desk,
    question: Question,
    *,
    request_id: str,
    form: Hashable,
    formed: Callable[[bytes], T],
) -> tuple[Answered, T]:
    """The answer to a question, worked out at most once for the same request at once, in a form.

    Args:
        turns: Where it is worked out.
        desk: Who asks.
        question: What is asked.
        request_id: Names the request for good.
        form: Names what `formed` makes, so that what is made for one is told to all who want it.
        formed: Makes the form of the recorded bytes.

    Raises:
        TooManyRequests, ServiceBusy: as `Lane.run`; both steps have one time limit.
        DpAnalyticsError: as `Desk.answer`.
    """
    asker, until = desk.consumer.consumer, turns.answers.deadline()

    def prepared() -> Prepared | tuple[Answered, T]:
        found = desk.prepare(question, request_id=request_id)
        return found if isinstance(found, Prepared) else (found, formed(found.body))

    found: Prepared | None = None
    # 1. Where it would wait for its turn: what is recorded reads no rows, so it need not.
    if not turns.answers.free:
        looked_up = await turns.look_ups.run(asker, prepared, until=until)
        if not isinstance(looked_up, Prepared):
            return looked_up
        found = looked_up
    # 2. All else in its turn; the same request, arriving twice, in the turn of the first.
    ours = False

    def work() -> tuple[Answered, T]:
        nonlocal ours
        ours = True
        ready = found or prepared()
        if not isinstance(ready, Prepared):
            return ready
        answered = desk.complete(ready)
        return answered, formed(answered.body)

    key = (asker, request_id, question.model_dump_json(), form)
    answered, made = await turns.answers.run(asker, work, key=key, until=until)
    return (answered if ours else replace(answered, charged=False)), made

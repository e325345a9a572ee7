"""The journey of a question through the lanes: worked out once, and charged once."""

from dataclasses import replace

from dpanalytics.api.turns import Turns
from dpanalytics.query.answer import Answered, Desk
from dpanalytics.query.request import Question


async def answer(turns: Turns, desk: Desk, question: Question, *, request_id: str) -> Answered:
    """The answer to a question, worked out at most once for the same request at once.

    Raises:
        TooManyRequests, ServiceBusy: as `Lane.run`.
        DpAnalyticsError: as `Desk.answer`.
    """
    asker = desk.consumer.consumer
    # 1. What is recorded reads no rows, so it waits for no question.
    found = await turns.look_up(asker, lambda: desk.prepare(question, request_id=request_id))
    if isinstance(found, Answered):
        return found
    # 2. Everything else waits for its turn; the same request, arriving twice, for the first.
    ours = False

    def work() -> Answered:
        nonlocal ours
        ours = True
        return desk.complete(found)

    key = (asker, request_id, question.model_dump_json())
    answered = await turns.answers.run(asker, work, key=key)
    return answered if ours else replace(answered, charged=False)

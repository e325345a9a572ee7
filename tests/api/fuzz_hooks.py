"""A check of our own for schemathesis, which loads this file in a process of its own."""

import schemathesis
from schemathesis.generation import GenerationMode

BEYOND_SHAPES = (
    "give epsilon",
    "a rate takes either where, or measure",
    "at_least ",
    "a histogram takes either dimension, or measure",
    "cuts ",
    "Decimal input should have no more than 24 digits",
    # Follows from one of the others, which leaves out the metric that breaks it.
    "Tuple should have at least 1 item after validation, not 0",
)
"""Rules between members of a question, and one of numbers, that JSON Schema can't tell."""


@schemathesis.check
def shapes_are_exact(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """What is of the shape that is described is refused by its meaning only, never as malformed."""
    meta = case.meta
    if meta is None or meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if response.status_code != 422 or not response.headers["content-type"][0].endswith("json"):
        return
    problem = response.json()
    if problem["type"] == "/problems/request-malformed":
        loose = [f for f in problem["errors"] if not f["rule"].startswith(BEYOND_SHAPES)]
        assert not loose, f"the description allows what is refused: {loose}"

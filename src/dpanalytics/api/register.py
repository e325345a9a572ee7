"""The openness register as JSON: public, without sign-in, and the same for everybody."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from dpanalytics.api.described import operation_name, responses
from dpanalytics.api.turns import Turns
from dpanalytics.openness.register import KEPT, Register, to_json
from dpanalytics.wiring.macro import MacroDoor

PUBLIC = "register"
"""Asker of all that is asked without sign-in: together they take turns as one."""
CACHED = {"Cache-Control": f"public, max-age={int(KEPT.total_seconds())}"}

SHAPE = {
    "type": "object",
    "required": ["as_of", "digest", "sources", "views", "consumers", "caps", "journal"],
    "properties": {
        "as_of": {"type": "string", "format": "date-time"},
        "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "sources": {"type": "array", "items": {"type": "object"}},
        "views": {"type": "array", "items": {"type": "object"}},
        "consumers": {"type": "array", "items": {"type": "object"}},
        "caps": {"type": "array", "items": {"type": "object"}},
        "journal": {
            "type": "object",
            "required": ["entries", "root", "last_entry"],
            "properties": {
                "entries": {"type": "integer", "minimum": 0},
                "root": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "last_entry": {"type": ["string", "null"], "format": "date"},
            },
        },
    },
}
"""What readers may count on; the rest is as the declarations are (schemas/json/)."""


Form = Callable[[Register], bytes]


class RegisterForms:
    """The register in its forms, each made at most once a minute, off the event loop.

    However many ask at once, they wait for one piece of work: nobody is turned away for others,
    and nobody's question waits for a crowd of readers. Used from one event loop only.
    """

    def __init__(self) -> None:
        self._kept: dict[Form, tuple[Register, bytes]] = {}
        self._making: dict[Form, asyncio.Task[bytes]] = {}

    async def __call__(self, request: Request, form: Form) -> bytes:
        """The register in a form.

        Raises:
            JournalError: the journal can't be read.
            ServiceBusy: as `Turns.look_up`.
        """
        door: MacroDoor = request.app.state.door
        turns: Turns = request.app.state.turns
        making = self._making.get(form)
        if making is None:
            making = asyncio.create_task(
                turns.look_up(PUBLIC, lambda: self._made(door.register(), form))
            )
            self._making[form] = making
            making.add_done_callback(lambda done: self._done(form, done))
        return await asyncio.shield(making)  # one who hangs up must not cancel it for the others

    def _made(self, register: Register, form: Form) -> bytes:
        kept = self._kept.get(form)
        if kept is None or kept[0] is not register:
            kept = self._kept[form] = register, form(register)
        return kept[1]

    def _done(self, form: Form, done: "asyncio.Task[bytes]") -> None:
        del self._making[form]
        if not done.cancelled():
            done.exception()  # looked at: where nobody waits, asyncio would log its message


def register_routes(forms: RegisterForms) -> APIRouter:
    """The route of the register; `forms` makes it."""
    router = APIRouter(generate_unique_id_function=operation_name)

    @router.get(
        "/register.json",
        summary="What data are used, what for, by whom, and what was spent",
        tags=["openness"],
        response_model=None,
        responses=responses(
            {
                200: {
                    "description": "The openness register, at most a minute old.",
                    "content": {
                        "application/json": {
                            "schema": SHAPE,
                            "examples": {"register": {"$ref": "#/components/examples/register"}},
                        }
                    },
                }
            },
            "bad-request",
            "too-many-requests",
            "journal-error",
            "internal-fault",
            "service-busy",
        ),
    )
    async def get_register(request: Request) -> Response:
        """All that is declared, and what the journal adds up; for everybody, without sign-in.

        The same as the page at `/register`: no row, no answer, no name of a person.
        """
        told = await forms(request, to_json)
        return Response(told, media_type="application/json", headers=CACHED)

    return router

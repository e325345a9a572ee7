"""The openness register as a page: for students, without sign-in and without a script."""

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from dpanalytics.openness.register import KEPT, Register
from dpanalytics.web.format import FILTERS

SECTIONS = (
    ("short", "In short"),
    ("contact", "Whom to ask"),
    ("sources", "What data are used"),
    ("excluded", "What is never used"),
    ("special", "Sensitive data"),
    ("purposes", "What it is for, and what it is never for"),
    ("views", "What may be asked in statistics"),
    ("indicators", "Figures about one student"),
    ("programmes", "Programmes in which staff see names"),
    ("access", "Who has access"),
    ("budgets", "How much may be learnt, and how much was"),
    ("consent", "What you are asked, and what refusing means"),
    ("journal", "How to check all this"),
)
CACHED = {"Cache-Control": f"public, max-age={int(KEPT.total_seconds())}"}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dpanalytics.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def style() -> str:
    """The style sheet of the page."""
    return files("dpanalytics.web").joinpath("templates/register.css").read_text("utf-8")


def to_page(register: Register, *, alone: bool = False) -> str:
    """The register as HTML; `alone`, with its style in it, for a file that is kept."""
    template = _environment().get_template("register.html")
    return template.render(
        r=register,
        today=register.as_of.date(),
        sections=SECTIONS,
        style=style() if alone else None,
    ).lstrip()


def _page(register: Register) -> bytes:
    return to_page(register).encode()


def register_pages(
    told: Callable[[Request, Callable[[Register], bytes]], Awaitable[bytes]],
) -> APIRouter:
    """Routes of the page and its style; `told` gives a form of the register, in its turn."""
    router = APIRouter(include_in_schema=False)

    @router.get("/register")
    async def get_register_page(request: Request) -> Response:
        """The page."""
        page = await told(request, _page)
        return Response(page, media_type="text/html", headers=CACHED)

    @router.get("/register.css")
    async def get_register_style() -> Response:
        """Its style."""
        return Response(style(), media_type="text/css", headers=CACHED)

    return router

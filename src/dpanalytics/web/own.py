"""What is held on a student as a page: for that student, to keep, without a script."""

from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dpanalytics.web.format import NONE, day, figure, moment
from dpanalytics.web.register import style


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dpanalytics.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figure,
        day=lambda text: NONE if text is None else day(date.fromisoformat(text)),
        moment=lambda text: NONE if text is None else moment(datetime.fromisoformat(text)),
        or_dash=lambda value: NONE if value in (None, "") else value,
    )
    return environment


def own_page(export: Mapping[str, Any]) -> str:
    """All that is held on one student as HTML that stands alone.

    Args:
        export: As the route tells it in JSON, so that both forms hold the same.
    """
    return _environment().get_template("own.html").render(e=export, style=style()).lstrip()

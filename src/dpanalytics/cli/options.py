"""What several commands share: options, the console, and the settings of a home."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.settings import Settings, load_settings
from dpanalytics.terminal import console

out = console()

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Home directory; or set DPANALYTICS_HOME.")
]
ConsumerOption = Annotated[str, typer.Option("--as", help="Name of the consumer that asks.")]


def settings_of(home: Path | None) -> Settings:
    """The settings of the home that is named, or that the environment names."""
    return load_settings(home, environ=os.environ)


def telling(what: str) -> AbstractContextManager[object]:
    """Tell on a terminal what is being done, while it is done; nothing of it is in the output."""
    shown = console(stderr=True)
    return shown.status(what) if shown.is_terminal else nullcontext()

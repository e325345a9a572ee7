"""The command line: thin, one function a command; use cases come from `wiring`.

| file | whose commands |
|---|---|
| stewards.py | data stewards: homes, declarations, loads, snapshots |
| consents.py | data stewards: decisions of students, the yearly campaign |
| indicators.py | data stewards: what indicators need from the macro door |
| keepers.py | records officers: identities, keys, erasure, retention |
| office.py | the office: requests of students |
| committee.py | who asks: views, estimates, answers, budgets |
| openness.py | everybody: the openness register |
| auditors.py | auditors: the journal |
| accounts.py | local accounts, for demonstrations |
| operators.py | who runs it: the service, backups, upgrades, the demonstration |
| options.py | options that several share |
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from dpanalytics.cli import (
    accounts,
    auditors,
    committee,
    consents,
    indicators,
    keepers,
    office,
    openness,
    operators,
    stewards,
)
from dpanalytics.errors import DpAnalyticsError

app = typer.Typer(
    name="dpanalytics",
    help="Privacy-preserving learner analytics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (
    stewards,
    consents,
    indicators,
    keepers,
    office,
    committee,
    auditors,
    accounts,
    operators,
    openness,
):
    app.add_typer(group.app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every error is one clear line, and never a traceback.

    Exit codes: 0 done, 1 refused or failed, 2 not a command line of ours, 130 interrupted.
    """
    try:
        status = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except DpAnalyticsError as error:
        _fail(str(error))
    except typer.TyperException as error:
        if not error.format_message():  # help was asked for by giving no command, and is shown
            sys.exit(error.exit_code)
        _fail(f"{error.format_message()} (dpanalytics --help tells more)", code=error.exit_code)
    except BrokenPipeError:
        # Whoever read our output went away; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}")
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", code=130)
    except SystemExit:
        raise
    except BaseException as error:  # a panic of the engine is no Exception
        _fail(f"internal fault ({type(error).__name__}); nothing of its message is shown")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, *, code: int = 1) -> NoReturn:
    line = "".join(c if c.isprintable() else " " for c in message)
    typer.echo(f"error: {line}", err=True)
    sys.exit(code)

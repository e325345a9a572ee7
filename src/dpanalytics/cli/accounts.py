"""Commands of local accounts, for demonstrations and small set-ups."""

import sys
from datetime import datetime
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.errors import RequestError
from dpanalytics.schema.declared import read_declarations
from dpanalytics.terminal import table_of

app = typer.Typer()
account = typer.Typer(help="Local accounts, for demonstrations.")
app.add_typer(account, name="account")

MAX_INPUT = 4_096
"""Longest line that is read as a password, in bytes."""

NameArgument = Annotated[str, typer.Argument(help="Name of the account.")]


@account.command("add")
def account_add(
    name: NameArgument,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A role it has; may be repeated.")
    ] = None,
    consumer: Annotated[
        list[str] | None,
        typer.Option("--consumer", help="A consumer it may ask as; may be repeated."),
    ] = None,
    entitlement: Annotated[
        list[str] | None,
        typer.Option("--entitlement", help="An entitlement that a programme names; repeatable."),
    ] = None,
    trained_on: Annotated[
        datetime | None,
        typer.Option("--trained-on", formats=["%Y-%m-%d"], help="Day of its latest training."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option("--student", help="Student identifier of who has the role student."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Add a local account; its password is asked for, or is the first line of the input."""
    from dpanalytics.access.accounts import add_account  # noqa: PLC0415  loads slowly

    settings = settings_of(home)
    declared = read_declarations(settings.declarations)
    added = add_account(
        settings.accounts_file,
        settings.local_tokens_key,
        name=name,
        password=_password(),
        roles=role or (),
        consumers=consumer or (),
        entitlements=entitlement or (),
        trained_on=trained_on.date() if trained_on is not None else None,
        student=student,
        declared_consumers=tuple(declared.consumers),
    )
    out.print(f"added {added.name}", soft_wrap=True)
    if not settings.local_accounts:
        out.print("local accounts are off: it can sign in once the setting local_accounts is true")


@account.command("remove")
def account_remove(name: NameArgument, home: HomeOption = None) -> None:
    """Remove a local account; its tokens end with it."""
    from dpanalytics.access.accounts import remove_account  # noqa: PLC0415  loads slowly

    remove_account(settings_of(home).accounts_file, name=name)
    out.print(f"removed {name}", soft_wrap=True)


@account.command("list")
def account_list(home: HomeOption = None) -> None:
    """List local accounts with their roles and consumers."""
    from dpanalytics.access.accounts import read_accounts  # noqa: PLC0415  loads slowly

    table = table_of("account", "roles", "consumers")
    for name, known in sorted(read_accounts(settings_of(home).accounts_file).items()):
        table.add_row(name, ", ".join(known.roles), ", ".join(known.consumers))
    out.print(table)


def _password() -> str:
    """Typed twice at a terminal; elsewhere one line of the input, so that no argument shows it."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    line = sys.stdin.buffer.readline(MAX_INPUT + 1)
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise RequestError("the password is not text in UTF-8") from None

"""Commands of who runs an installation: the service, backups, upgrades, the demonstration."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.errors import ConfigurationError
from dpanalytics.settings import ENVIRONMENT_PREFIX, Settings
from dpanalytics.terminal import head_of, head_text, show_restored
from dpanalytics.wiring import upkeep
from dpanalytics.wiring.macro import open_macro

app = typer.Typer()
serve = typer.Typer(help="Serve a door to people who sign in.")
app.add_typer(serve, name="serve")

HostOption = Annotated[str | None, typer.Option("--host", help="Address; the setting by default.")]
PortOption = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="TCP port, 0 for a free one."),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, max=64, help="Processes.")]


@serve.command("macro")
def serve_macro(
    home: HomeOption = None,
    host: HostOption = None,
    port: PortOption = None,
    workers: WorkersOption = None,
) -> None:
    """Serve the macro door: questions under a budget, for people who sign in."""
    settings = _served(home, host=host, port=port, workers=workers)
    _run(settings, lambda address: out.print(f"macro service at {address}", soft_wrap=True))


@serve.command("micro")
def serve_micro(
    home: HomeOption = None,
    host: HostOption = None,
    port: PortOption = None,
    workers: WorkersOption = None,
) -> None:
    """Serve the micro door: interventions for students who agreed; holds the keys."""
    from dpanalytics.server.micro import run_micro  # noqa: PLC0415  the web stack loads slowly
    from dpanalytics.wiring.micro import open_micro  # noqa: PLC0415  nothing else needs the vault

    settings = _served(home, host=host, micro_port=port, workers=workers)
    with open_micro(settings) as door:  # what is wrong is told here, in one line
        door.token_checker()
    told = _telling(
        settings, lambda address: out.print(f"micro service at {address}", soft_wrap=True)
    )
    run_micro(settings, told=told)


@serve.command("demonstration")
def serve_demonstration(
    home: Annotated[Path, typer.Option("--home", help="Home that dpanalytics demo made.")] = Path(
        "demo/home"
    ),
    port: PortOption = None,
) -> None:
    """Serve a demonstration's home on this machine, with an account made for it."""
    from dpanalytics.demonstration import service  # noqa: PLC0415  needed by this command only

    settings = _served(home, port=port)
    password = service.make_account(settings)
    _run(
        settings, lambda address: out.print(service.what_to_type(address, password), soft_wrap=True)
    )


@app.command()
def upgrade(home: HomeOption = None) -> None:
    """Bring the journal to the version of this release; a SQLite journal is copied first."""
    done, copy = upkeep.upgrade_home(settings_of(home))
    out.print(done, soft_wrap=True)
    if copy is not None:
        out.print(f"as it was before: {copy}", soft_wrap=True)


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    home: HomeOption = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Another directory, for copies of the keys.")
    ] = None,
) -> None:
    """Write a backup while everything runs: journal, store, consents, settings, declarations."""
    manifest = upkeep.back_up_home(settings_of(home), directory, keys=keys)
    size = sum(sealed.size for sealed in manifest.files.values())
    out.print(f"{directory}: {len(manifest.files)} files, {size:,} bytes", soft_wrap=True)
    out.print(f"journal verified, head {head_text(manifest.head)}", soft_wrap=True)
    if keys is None:
        out.print("the keys are not in it; a safe copy of them, apart from it, is up to you")
    else:
        out.print(f"the keys are in {keys}; keep them apart from the backup", soft_wrap=True)


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(help="A backup.")],
    home: Annotated[Path, typer.Option("--home", help="Directory to make.")],
    declared: Annotated[
        Path,
        typer.Option("--declarations", help="schemas/ and budgets/ as they hold now."),
    ],
    database_url: Annotated[
        str | None, typer.Option("--database-url", help="Database for it; as before by default.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Directory with the keys.")] = None,
    known: Annotated[
        str | None, typer.Option("--known-head", help="SIZE:ROOT, the newest head you know of.")
    ] = None,
    nothing_answered_since: Annotated[
        bool,
        typer.Option("--nothing-answered-since", help="Certain: no question after the backup."),
    ] = False,
) -> None:
    """Make a home of a backup; what is left of all budgets counts as spent, unless told else."""
    restored = upkeep.restore_home(
        directory,
        home,
        declarations=declared,
        environ=os.environ,
        database_url=database_url,
        keys=keys,
        known=head_of(known) if known is not None else None,
        nothing_answered_since=nothing_answered_since,
    )
    show_restored(out, restored)
    if keys is None:
        out.print(f"put the keys into {home / 'keys'} before anything is loaded", soft_wrap=True)


@app.command()
def demo(
    home: Annotated[Path, typer.Option("--home", help="Directory to make.")] = Path("demo"),
    oulad: Annotated[
        Path | None, typer.Option("--oulad", help="Directory with the real OULAD files.")
    ] = None,
    declared: Annotated[
        Path, typer.Option("--declarations", help="Directory with schemas/ and budgets/.")
    ] = Path(),
) -> None:
    """Show the main job from beginning to end, on a synthetic university or on OULAD."""
    from dpanalytics.demonstration.acts import play  # noqa: PLC0415  needed by this command only

    play(out, home=home, declarations=declared, oulad=oulad)


def _served(home: Path | None, **given: str | int | None) -> Settings:
    """Settings with what was given in place; in the environment too, where workers read them."""
    for name, value in given.items():
        if value is not None:
            os.environ[f"{ENVIRONMENT_PREFIX}{name.upper()}"] = str(value)
    settings = settings_of(home)
    os.environ[f"{ENVIRONMENT_PREFIX}HOME"] = str(settings.home)
    if settings.issuer is None and not settings.local_accounts:
        raise ConfigurationError(
            "nobody could sign in: set issuer and audience; or local_accounts = true, "
            "on the loopback address only, to try it out"
        )
    return settings


def _run(settings: Settings, say: Callable[[str], None]) -> None:
    from dpanalytics.server.macro import run_macro  # noqa: PLC0415  the web stack loads slowly

    with open_macro(settings) as door:  # what is wrong is told here, in one line
        door.token_checker()
    run_macro(settings, told=_telling(settings, say))


def _telling(settings: Settings, say: Callable[[str], None]) -> Callable[[int], None]:
    """Says at what address a service is, once its port is known."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host

    def told(port: int) -> None:
        say(f"http://{host}:{port}")
        if not settings.on_loopback:
            out.print("beyond this machine it needs a proxy that speaks TLS (docs/operating.md)")

    return told

"""The command `digitlab`. Most subcommands are implemented in the module of their name."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app import __version__
from app.cli.options import with_settings
from app.cli.terminal import complain, replace_unknown_characters
from app.settings import Settings
from app.surroundings import ignore_foreign_variables

cli = typer.Typer(
    help="Train and serve classifiers of 8×8 handwritten digits.", no_args_is_help=True, add_completion=False
)


def main() -> None:
    ignore_foreign_variables()
    # Child processes must import nothing from their working folder: a `random.py` there is the user's.
    os.environ["PYTHONSAFEPATH"] = "1"
    replace_unknown_characters()
    cli()


def _print_version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@cli.command()
@with_settings
def up(
    settings: Settings,
    starter_run: Annotated[bool, typer.Option(help="Train a first model when the database is empty.")] = True,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser once it is there.")] = False,
) -> None:
    """Migrate the database, start the API and a worker, and keep both running until Ctrl-C."""
    from app.cli.up import run_service

    raise typer.Exit(run_service(settings, starter_run=starter_run, open_page=open_page))


@cli.command()
@with_settings
def api(
    settings: Settings,
    processes: Annotated[int, typer.Option(min=1, max=64, help="How many processes answer, on one port.")] = 1,
) -> None:
    """Start the API alone."""
    from app.http.server import serve

    serve(settings, processes, complain)


@cli.command()
@with_settings
def worker(settings: Settings) -> None:
    """Start a worker alone: it trains what is queued, until Ctrl-C."""
    del settings  # the worker reads its settings itself; they were only checked here
    os.execv(sys.executable, [sys.executable, "-m", "workers"])


@cli.command()
@with_settings
def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema. Safe to repeat."""
    from app.opening import Unusable, open_migrated

    try:
        database = open_migrated(settings)
    except Unusable as error:
        complain(str(error))
        raise typer.Exit(1) from None
    database.close()
    print(f"Migrated {database.url.render_as_string(hide_password=True)}")


@cli.command()
@with_settings
def backup(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="Where to; a digitlab started on it goes on from there.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Copy the SQLite database to a file, safely while the service runs."""
    from app.cli.backup import back_up

    raise typer.Exit(back_up(settings, file, overwrite=overwrite))


@cli.command()
@with_settings
def vacuum(settings: Settings) -> None:
    """Make the SQLite file as small as what it holds; stop the service before."""
    from app.cli.vacuum import vacuum

    raise typer.Exit(vacuum(settings))


class RankingChoice(StrEnum):
    SHIFTED = "shifted"
    VAL = "val"


Url = Annotated[str, typer.Option(envvar="DIGITLAB_URL", help="Where the service is.")]
DEFAULT_URL = "http://127.0.0.1:8000"


@cli.command()
def train(
    preset: Annotated[str | None, typer.Option(help="Start from this preset.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file with (part of) a configuration; - for stdin.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the run.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the train split.")] = None,
    member: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="Of an ensemble: a run's id; twice to ten times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, data order and dropout.")] = None,
    detach: Annotated[bool, typer.Option(help="Submit only; print the run's id.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit a run and follow it with a progress bar. Ctrl-C cancels the run."""
    from app.cli.train import submit_and_follow

    training = None if epochs is None else {"epochs": epochs}
    model = {"kind": "ensemble", "members": member} if member else None
    given = {"preset": preset, "name": name, "seed": seed, "training": training, "model": model}
    overrides = {key: value for key, value in given.items() if value is not None}
    raise typer.Exit(submit_and_follow(url, config, overrides, detach=detach))


@cli.command()
def sweep(
    search: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="A sweep preset, or JSON; - for stdin.")],
    detach: Annotated[bool, typer.Option(help="Submit only; print the sweep's id.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Search over configurations with a progress bar, and print the report. Ctrl-C cancels the sweep."""
    from app.cli.sweep import submit_and_follow

    raise typer.Exit(submit_and_follow(url, search, detach=detach))


@cli.command()
def report(
    sweep_id: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's id.")],
    rows: Annotated[int, typer.Option(min=1, help="How many points to print.")] = 20,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what a sweep has found so far."""
    from app.cli.sweep import show_report

    raise typer.Exit(show_report(url, sweep_id, rows))


@cli.command()
def show(run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")], url: Url = DEFAULT_URL) -> None:
    """Print a run: its layers, its last metrics, and a chart of its val accuracy."""
    from app.cli import inspect

    raise typer.Exit(inspect.show(url, run_id))


@cli.command()
def mistakes(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to draw.")] = 12,
    url: Url = DEFAULT_URL,
) -> None:
    """Draw the digits that a run's model gets wrong."""
    from app.cli.inspect import show_mistakes

    raise typer.Exit(show_mistakes(url, run_id, limit))


@cli.command()
def ranking(
    by: Annotated[
        RankingChoice | None, typer.Argument(metavar="[shifted|val]", help="Rank by it from now on; default: show.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Show or change by what models are ranked, and which one is champion."""
    from app.cli.ranking import show_or_change

    raise typer.Exit(show_or_change(url, None if by is None else by.value))


@cli.command()
def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…", help="Pictures of one digit each, or JSON: an 8×8 image, a list, a request; - for stdin."
        ),
    ],
    run_id: Annotated[str | None, typer.Option(help="Ask this run's model instead of the champion.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the service's answers as they are, one a line.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Classify pictures and images of digits."""
    from app.cli.predict import classify

    raise typer.Exit(classify(url, files, run_id, as_json=as_json))

"""Makes every setting an option of the same name. An option sets the variable, so that child processes have it too."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError

from app.logs import report_early
from app.settings import Settings, describe_invalid


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all settings, and pass it the resulting `settings`."""

    def wrapper(**given: Any) -> None:
        own = {name: value for name, value in given.items() if name not in Settings.model_fields}
        for name in Settings.model_fields:
            if given[name] is not None:
                os.environ[f"DIGITLAB_{name.upper()}"] = given[name]
        try:
            settings = Settings()
        except ValidationError as error:
            report_early(command.__name__, describe_invalid(error))
            raise typer.Exit(2) from None
        command(settings=settings, **own)

    signature = inspect.signature(command, eval_str=True)
    own_parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "settings"]
    parameters = own_parameters + [_option(name) for name in Settings.model_fields]
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


def _option(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    help_text = f"{field.description} [{field.default}]" if field.default not in ("", []) else field.description
    default = typer.Option(
        None, f"--{name.replace('_', '-')}", metavar="VALUE", help=help_text, rich_help_panel="Settings"
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=str | None)

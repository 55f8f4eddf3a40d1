"""`digitlab train`: submit a run and follow it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn

from app.cli.client import Client, read_json
from app.cli.terminal import PlainColumn, Terminal, complain
from app.visible import visible

POLL_SECONDS = 0.4
FINAL = ("succeeded", "failed", "cancelled")


def submit_and_follow(url: str, config: Path | None, overrides: dict[str, Any], *, detach: bool) -> int:
    """Submit a run; unless detached, show its progress until it ends. Return the exit code: 0 when it succeeded."""
    document = read_json(config) if config else {}
    if not isinstance(document, dict):
        complain(f"{config}: a configuration is a JSON object")
        return 2
    terminal = Terminal(stderr=True)
    with Client(url) as client:
        run = client.call("POST", "runs", document=_override(_configuration_of(document), overrides))
        if detach:
            print(visible(run["id"]))
            return 0
        try:
            run = _follow(client, run, terminal)
        except KeyboardInterrupt:
            client.call("POST", "runs", run["id"], "cancel")
            terminal.say(f"Run {run['id']} is being cancelled.")
            return 130
        return _conclude(run)


def _configuration_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration in a response of `GET /runs/{run_id}`; any other document is returned as it is."""
    config = document.get("config")
    if isinstance(config, dict) and "id" in document and "status" in document:
        return config
    return document


def _override(document: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Merge the options into the document. Errors in the document stay: the service reports them best."""
    training = document.get("training")
    if "training" in overrides and (training is None or isinstance(training, dict)):
        overrides = {**overrides, "training": {**(training or {}), **overrides["training"]}}
    elif "training" in overrides:
        overrides = {**overrides, "training": training}
    return {**document, **overrides}


def progress_columns(width: int) -> list[ProgressColumn]:
    """Return the columns that fit a terminal of this many characters: the count and the time left before all others."""
    bar: list[ProgressColumn] = [BarColumn(20 if width >= 130 else 10)] if width >= 80 else []
    time_column = [TimeRemainingColumn()] if width >= 40 else []
    metrics = [PlainColumn("metrics")] if width >= 55 else []
    return [PlainColumn("description"), *bar, MofNCompleteColumn(), *time_column, *metrics]


def _follow(client: Client, run: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    last_epoch, width, num_epochs = 0, terminal.width, run["progress"]["epochs"]
    with Progress(*progress_columns(width), console=terminal) as bar:
        task = bar.add_task("queued", total=num_epochs, metrics="")
        while run["status"] not in FINAL:
            time.sleep(POLL_SECONDS)
            run = client.call("GET", "runs", run["id"])
            params = {"after": last_epoch, "limit": 10_000}
            page = client.call("GET", "runs", run["id"], "metrics", params=params)["data"]
            if page:
                last_epoch = page[-1]["epoch"]
                bar.update(task, metrics=describe(page[-1], width))
            where = f" ({run['queue_position']})" if run["queue_position"] else ""
            bar.update(task, description=run["status"] + where, completed=run["progress"]["epoch"])
    return run


def describe(metrics: dict[str, Any], width: int) -> str:
    """Format as many of an epoch's metrics as fit a terminal of this many characters beside the other columns."""
    if width < 80:
        return f"val {metrics['val_accuracy']:.2%}"
    if width < 130:
        return f"val loss {metrics['val_loss']:.4f}, {metrics['val_accuracy']:.2%}"
    return (
        f"loss {metrics['train_loss']:.4f} train, {metrics['val_loss']:.4f} val; "
        f"accuracy {metrics['train_accuracy']:.2%} train, {metrics['val_accuracy']:.2%} val"
    )


def _conclude(run: dict[str, Any]) -> int:
    if run["status"] == "succeeded":
        best = run["best"]
        line = f"{run['id']}: best val accuracy {best['val_accuracy']:.2%} at epoch {best['epoch']}"
        if run["shifted_accuracy"] is not None:
            line += f", shifted accuracy {run['shifted_accuracy']:.2%}"
        Terminal().say(line)
        return 0
    error = run["error"]
    complain(f"{run['id']}: {run['status']}" + (f": {error['detail']}" if error else ""))
    return 1

"""`digitlab train`: submit a run and follow it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.client import Client, read_json

POLL_SECONDS = 0.4
FINAL = ("succeeded", "failed", "cancelled")


def submit_and_follow(url: str, config: Path | None, overrides: dict[str, Any], *, detach: bool) -> int:
    """Submit a run; unless detached, show its progress until it ends. Returns the exit code: 0 when it succeeded."""
    document = read_json(config) if config else {}
    if not isinstance(document, dict):
        typer.secho(f"{config}: a configuration is a JSON object", err=True, fg="red")
        return 2
    training = {**document.get("training", {}), **overrides.get("training", {})}
    document = {**document, **overrides, **({"training": training} if training else {})}
    client = Client(url)
    run = client.call("POST", "/runs", json=document)
    if detach:
        print(run["id"])
        return 0
    try:
        run = _follow(client, run)
    except KeyboardInterrupt:
        client.call("POST", f"/runs/{run['id']}/cancel")
        typer.echo(f"Run {run['id']} is being cancelled.", err=True)
        return 130
    return _conclude(run)


def _follow(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    path = f"/runs/{run['id']}"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    last_epoch = 0
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("queued", total=run["progress"]["epochs"], metrics="")
        while run["status"] not in FINAL:
            time.sleep(POLL_SECONDS)
            run = client.call("GET", path)
            page = client.call("GET", f"{path}/metrics", params={"after": last_epoch, "limit": 10_000})["data"]
            if page:
                last_epoch = page[-1]["epoch"]
                bar.update(task, metrics=_describe(page[-1]))
            where = f" ({run['queue_position']})" if run["queue_position"] else ""
            bar.update(task, description=run["status"] + where, completed=run["progress"]["epoch"])
    return run


def _describe(metrics: dict[str, Any]) -> str:
    return (
        f"loss {metrics['train_loss']:.4f} train, {metrics['val_loss']:.4f} val; "
        f"accuracy {metrics['train_accuracy']:.2%} train, {metrics['val_accuracy']:.2%} val"
    )


def _conclude(run: dict[str, Any]) -> int:
    if run["status"] == "succeeded":
        best = run["best"]
        print(f"{run['id']}: best val accuracy {best['val_accuracy']:.2%} at epoch {best['epoch']}")
        return 0
    error = run["error"]
    typer.secho(f"{run['id']}: {run['status']}" + (f": {error['detail']}" if error else ""), err=True, fg="red")
    return 1

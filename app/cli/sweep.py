"""`digitlab sweep` and `digitlab report`: submit a search, follow it, and read what it has found."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.client import Client, read_json
from app.wording import as_json, count

POLL_SECONDS = 0.4
FINAL = ("succeeded", "failed", "cancelled")
MAX_ROWS = 20


def submit_and_follow(url: str, search: str, *, detach: bool) -> int:
    """Submit a sweep; unless detached, show its progress and its report. Returns the exit code: 0 when it succeeded."""
    is_file = search == "-" or Path(search).suffix == ".json" or Path(search).is_file()
    document = read_json(Path(search)) if is_file else {"preset": search}
    if not isinstance(document, dict):
        typer.secho(f"{search}: a sweep is a JSON object", err=True, fg="red")
        return 2
    client = Client(url)
    sweep = client.call("POST", "/sweeps", json=document)
    if detach:
        print(sweep["id"])
        return 0
    try:
        sweep = _follow(client, sweep)
    except KeyboardInterrupt:
        client.call("POST", f"/sweeps/{sweep['id']}/cancel")
        typer.echo(f"Sweep {sweep['id']} is being cancelled.", err=True)
        return 130
    show_report(url, sweep["id"])
    return 0 if sweep["status"] == "succeeded" else 1


def show_report(url: str, sweep_id: str, rows: int = MAX_ROWS) -> int:
    """Print a sweep's report: its points, best first, the effect of each parameter, and what follows from them."""
    report = Client(url).call("GET", f"/sweeps/{sweep_id}/report")
    console = Console()
    trials = count(len(report["trials"]), "trial")
    console.print(f"Sweep {report['sweep_id']} {report['name']}: {report['status']}, {trials}")
    if report["noise"] is None:
        console.print("No trial succeeded." if report["status"] in FINAL else "No trial has succeeded yet.")
        return 0
    console.print(
        "± is the standard error, size the parameters, plateau epochs; ≈ within noise of the best, ◆ Pareto front"
    )
    console.print(_points_table(report, rows))
    if len(report["points"]) > rows:
        console.print(f"… and {count(len(report['points']) - rows, 'more point')} (--rows)")
    if report["effects"]:
        console.print(_effects_table(report))
    for line in _conclusions(report):
        console.print(line)
    return 0


def _follow(client: Client, sweep: dict[str, Any]) -> dict[str, Any]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("queued", total=sweep["progress"]["epochs"], state="")
        while sweep["status"] not in FINAL:
            time.sleep(POLL_SECONDS)
            sweep = client.call("GET", f"/sweeps/{sweep['id']}")
            progress = sweep["progress"]
            bar.update(
                task,
                description=sweep["status"],
                completed=progress["epochs_done"],
                total=progress["epochs"],
                state=_describe(sweep),
            )
    return sweep


def _describe(sweep: dict[str, Any]) -> str:
    progress = sweep["progress"]
    ended = progress["succeeded"] + progress["failed"] + progress["cancelled"]
    text = f"{ended}/{count(progress['trials'], 'trial')}"
    if progress["failed"]:
        text += f", {progress['failed']} failed"
    if sweep["best"] is not None:
        text += f"; best {sweep['best']['val_accuracy']:.2%}"
    return text


def _points_table(report: dict[str, Any], rows: int) -> Table:
    names = ", ".join(map(short_name, report["paths"]))
    table = Table("", "point", "val accuracy", "size", "plateau", "", names, box=SIMPLE_HEAD)
    for point in report["points"][:rows]:
        values = [show_value(point["parameters"].get(path)) for path in report["paths"]]
        marks = "≈" if point["is_within_noise"] else " "
        table.add_row(
            str(point["rank"] or ""),
            str(point["point_number"]),
            _accuracy(point["mean_val_accuracy"], point["standard_error"]),
            "" if point["num_parameters"] is None else f"{point['num_parameters']:,}",
            _epochs(point["mean_epochs_to_plateau"]),
            marks + ("◆" if point["point_number"] in report["pareto"] else ""),
            ", ".join(values),
        )
    return table


def _effects_table(report: dict[str, Any]) -> Table:
    table = Table("parameter", "explains", "value", "points", "val accuracy", "best", "plateau", box=SIMPLE_HEAD)
    for effect in report["effects"]:
        share = effect["share_of_variance"]
        name, explains = short_name(effect["path"]), "" if share is None else f"{share:.0%}"
        for value in effect["values"]:
            table.add_row(
                name,
                explains,
                show_value(value["value"]),
                str(value["num_points"]),
                _accuracy(value["mean_val_accuracy"], value["standard_error"]),
                f"{value['best_val_accuracy']:.2%}",
                _epochs(value["mean_epochs_to_plateau"]),
            )
            name = explains = ""
    return table


def _epochs(number: float | None) -> str:
    return "" if number is None else f"{number:.0f}"


def _conclusions(report: dict[str, Any]) -> list[str]:
    noise, by_number = report["noise"], {point["point_number"]: point for point in report["points"]}

    def name(number: int) -> str:
        point = by_number[number]
        values = ", ".join(f"{short_name(path)} {show_value(value)}" for path, value in point["parameters"].items())
        return f"point {number} ({values + '; ' if values else ''}{count(point['num_parameters'], 'parameter')})"

    lines = [
        f"Best: {name(noise['best_point'])}.",
        f"Within noise of it: {count(noise['num_within_noise'], 'point')}. "
        f"The smallest is {name(noise['smallest_point'])}, the quickest {name(noise['quickest_point'])}.",
    ]
    if full := sum(point["num_full_train_accuracy"] for point in report["points"]):
        lines.append(f"100 % on train was reached by {count(full, 'trial')}.")
    if choice := report["choice"]:
        final = choice["final_val_accuracy"]
        said = f"val accuracy {final:.2%}" if final is not None else choice["final_status"]
        lines.append(f"Chosen by cross-validation, {choice['rule']}: {name(choice['point_number'])}.")
        lines.append(f"Trained on the whole train split (run {choice['final_run_id']}): {said}.")
    return lines


def _accuracy(mean: float | None, error: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.2%}" if error is None else f"{mean:.2%} ± {100 * error:.2f}"


def short_name(path: str) -> str:
    """A parameter's last part, as `learning_rate` for `training.optimizer.learning_rate`."""
    return path.rpartition(".")[2]


def show_value(value: Any) -> str:
    """A value in a cell; widths as 12-12, a range of drawn values as 0.001 … 0.01."""
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return "-".join(map(str, value)) or "none"
    if isinstance(value, list):
        return " … ".join(map(show_value, value))
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else as_json(value)

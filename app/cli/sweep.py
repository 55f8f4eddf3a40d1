"""`digitlab sweep` and `digitlab report`: submit a search, follow it, and print its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.client import Client, read_json
from app.cli.terminal import PlainColumn, Terminal, complain
from app.parameter_names import parameter_names
from app.visible import visible
from app.wording import as_json, count

POLL_SECONDS = 0.4
FINAL = ("succeeded", "failed", "cancelled")
MAX_ROWS = 20


def submit_and_follow(url: str, search: str, *, detach: bool) -> int:
    """Submit a sweep; unless detached, show its progress and its report. Return the exit code: 0 when it succeeded."""
    is_file = search == "-" or Path(search).suffix == ".json" or Path(search).is_file()
    document = read_json(Path(search)) if is_file else {"preset": search}
    if not isinstance(document, dict):
        complain(f"{search}: a sweep is a JSON object")
        return 2
    terminal = Terminal(stderr=True)
    with Client(url) as client:
        sweep = client.call("POST", "sweeps", document=document)
        if detach:
            print(visible(sweep["id"]))
            return 0
        try:
            sweep = _follow(client, sweep, terminal)
        except KeyboardInterrupt:
            client.call("POST", "sweeps", sweep["id"], "cancel")
            terminal.say(f"Sweep {sweep['id']} is being cancelled.")
            return 130
        _print_report(client, sweep["id"], MAX_ROWS)
        return 0 if sweep["status"] == "succeeded" else 1


def show_report(url: str, sweep_id: str, rows: int = MAX_ROWS) -> int:
    """Print a sweep's report: its points, best first, the effect of each parameter, and the conclusions."""
    with Client(url) as client:
        _print_report(client, sweep_id, rows)
    return 0


def _print_report(client: Client, sweep_id: str, rows: int) -> None:
    report = client.call("GET", "sweeps", sweep_id, "report", params={"trials": "false"})
    terminal = Terminal()
    name = f" {report['name']}" if report["name"] else ""
    num_trials = sum(point["num_trials"] for point in report["points"])
    terminal.say(f"Sweep {report['sweep_id']}{name}: {report['status']}, {count(num_trials, 'trial')}")
    terminal.print(report["answer"])
    if report["noise"] is None:
        return
    names = parameter_names(report["paths"])
    terminal.print(
        "± is the standard error, size the parameters, plateau epochs; ≈ within noise of the best, ◆ Pareto front"
    )
    terminal.print(_points_table(report, names, rows))
    if len(report["points"]) > rows:
        terminal.say(f"… and {count(len(report['points']) - rows, 'more point')} (--rows)")
    if report["effects"]:
        terminal.print(_effects_table(report, names))
    for line in _conclusions(report, names):
        terminal.print(line)


def progress_columns(width: int) -> list[ProgressColumn]:
    """Return the columns that fit a terminal of this many characters."""
    bar = [BarColumn(20)] if width >= 90 else []
    time_column = [TimeElapsedColumn()] if width >= 70 else []
    return [PlainColumn("description"), *bar, TaskProgressColumn(), *time_column, PlainColumn("state")]


def _follow(client: Client, sweep: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    num_epochs = sweep["progress"]["epochs"]
    with Progress(*progress_columns(terminal.width), console=terminal) as bar:
        task = bar.add_task("queued", total=num_epochs, state="")
        while sweep["status"] not in FINAL:
            time.sleep(POLL_SECONDS)
            sweep = client.call("GET", "sweeps", sweep["id"], params={"points": "false"})
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


def _points_table(report: dict[str, Any], names: dict[str, str], rows: int) -> Table:
    header = ", ".join(names[path] for path in report["paths"])
    table = Table("", "point", "val accuracy", "shifted", "size", "plateau", "", header, box=SIMPLE_HEAD)
    for point in report["points"][:rows]:
        values = [show_value(point["parameters"].get(path)) for path in report["paths"]]
        marks = "≈" if point["is_within_noise"] else " "
        table.add_row(
            str(point["rank"] or ""),
            str(point["point_number"]),
            _accuracy(point["mean_val_accuracy"], point["standard_error"]),
            _accuracy(point["mean_shifted_accuracy"], None),
            "" if point["num_parameters"] is None else f"{point['num_parameters']:,}",
            _epochs(point["mean_epochs_to_plateau"]),
            marks + ("◆" if point["point_number"] in report["pareto"] else ""),
            ", ".join(values),
        )
    return table


def _effects_table(report: dict[str, Any], names: dict[str, str]) -> Table:
    table = Table("parameter", "explains", "value", "points", "val accuracy", "best", "plateau", box=SIMPLE_HEAD)
    for effect in report["effects"]:
        share = effect["share_of_variance"]
        name, explains = names.get(effect["path"], effect["path"]), "" if share is None else f"{share:.0%}"
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


def _conclusions(report: dict[str, Any], names: dict[str, str]) -> list[str]:
    noise, by_number = report["noise"], {point["point_number"]: point for point in report["points"]}

    def name(number: int) -> str:
        point = by_number[number]
        values = ", ".join(
            f"{names.get(path, path)} {show_value(value)}" for path, value in point["parameters"].items()
        )
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


def show_value(value: Any) -> str:
    """Format a value for a cell: widths as 12-12, a range of sampled values as 0.001 … 0.01."""
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return "-".join(map(str, value)) or "none"
    if isinstance(value, list):
        return " … ".join(map(show_value, value))
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else as_json(value)

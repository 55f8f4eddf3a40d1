"""`digitlab show` and `digitlab mistakes`: a run, and what its model gets wrong, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.cli.client import Client
from app.cli.terminal import Terminal
from app.cli.train import FINAL
from app.wording import count

SHADES = " ░▒▓█"
MAX_PIXEL = 16
CHART_WIDTH = 60
CHART_MARGIN = 10  # labels of the chart's axis
CHART_HEIGHT = 10
DIGIT_WIDTH = 8 * 2 + 2  # a pixel is two characters wide, so that it is square


def show(url: str, run_id: str) -> int:
    """Print a run: its state, layers and last metrics, and val accuracy over epochs."""
    terminal = Terminal()
    points = min(CHART_WIDTH, max(10, terminal.width - CHART_MARGIN))
    with Client(url) as client:
        run = client.call("GET", "runs", run_id)
        summary = client.call("GET", "runs", run_id, "summary")
        metrics = client.call("GET", "runs", run_id, "metrics", params={"points": points})["data"]
        for line in _describe(run, summary, metrics):
            terminal.say(line)
    return 0


def _describe(run: dict[str, Any], summary: dict[str, Any], metrics: list[dict[str, Any]]) -> Iterator[str]:
    progress = run["progress"]
    title = f"{run['name']} " if run["name"] else ""
    yield f"{title}{run['id']}: {run['status']}, epoch {progress['epoch']} of {progress['epochs']}"
    if run["error"]:
        yield f"{run['error']['code']}: {run['error']['detail']}"
    if run["hint"]:
        yield run["hint"]
    for layer in summary["layers"]:
        parameters = count(layer["num_parameters"], "parameter") if layer["num_parameters"] else ""
        shapes = f"{layer['input_shape'][0]} → {layer['output_shape'][0]}"
        yield f"  {layer['name']:<10} {shapes:<12} {parameters} {layer['note']}".rstrip()
    if run["num_parameters"] is not None:
        yield f"  {count(run['num_parameters'], 'parameter')} in all"
    if not metrics:
        yield "No epoch was evaluated." if run["status"] in FINAL else "No epoch has been evaluated yet."
        return
    last, best = metrics[-1], run["best"]
    yield (
        f"epoch {last['epoch']}: loss {last['train_eval_loss']:.4f} train, {last['val_loss']:.4f} val; "
        f"accuracy {last['train_eval_accuracy']:.2%} train, {last['val_accuracy']:.2%} val"
    )
    yield f"best val accuracy {best['val_accuracy']:.2%} at epoch {best['epoch']}"
    if run["shifted_accuracy"] is not None:
        yield f"shifted accuracy {show_shifted(run)}: on 10 warped copies of each val image"
    yield ""
    yield from draw_curve([row["val_accuracy"] for row in metrics], metrics[0]["epoch"], last["epoch"])


def show_shifted(row: dict[str, Any]) -> str:
    """Format the shifted accuracy of a run or a model with its standard error, in percent."""
    return f"{row['shifted_accuracy']:.2%} ± {100 * row['shifted_standard_error']:.2f}"


def draw_curve(values: Sequence[float], first_epoch: int, last_epoch: int) -> list[str]:
    """Draw evenly spaced accuracies as a chart of block characters, with its axes."""
    low, high = min(values), max(values)
    extent = (high - low) or 1.0
    heights = [round((value - low) / extent * (CHART_HEIGHT * 8 - 1)) + 1 for value in values]  # eighths of a line
    lines = []
    for row in reversed(range(CHART_HEIGHT)):
        cells = "".join(" ▁▂▃▄▅▆▇█"[max(0, min(8, height - 8 * row))] for height in heights)
        value = {CHART_HEIGHT - 1: high, 0: low}.get(row)
        lines.append(f"{'' if value is None else f'{value:.1%}':>7} │{cells}")
    return [*lines, f"{'':>7} └{'─' * len(values)}", f"{'':>9}{_epochs_axis(first_epoch, last_epoch, len(values))}"]


def _epochs_axis(first: int, last: int, width: int) -> str:
    if first == last:
        return f"epoch {first}"
    start, end = f"epoch {first}", str(last)
    room = width - len(start) - len(end)
    return start + " " * room + end if room >= len("   ") else f"{start} … {end}"


def show_mistakes(url: str, run_id: str, limit: int) -> int:
    """Draw the digits that a run's saved model gets wrong, the most confident first."""
    terminal = Terminal()
    with Client(url) as client:
        found = client.call("GET", "runs", run_id, "mistakes", params={"limit": limit})
        for line in _draw(found, max(1, terminal.width // DIGIT_WIDTH)):
            terminal.say(line)
    return 0


def _draw(found: dict[str, Any], per_row: int) -> Iterator[str]:
    yield f"{count(found['total'], 'mistake')} on val: true digit → predicted one, with its probability"
    mistakes = found["data"]
    for start in range(0, len(mistakes), per_row):
        row = mistakes[start : start + per_row]
        captions = [f"{each['label']} → {each['predicted']}, {each['confidence']:.0%}" for each in row]
        yield ""
        for line in zip(*(draw_digit(each["pixels"]) for each in row), strict=True):
            yield "  ".join(line)
        yield "".join(caption.ljust(DIGIT_WIDTH) for caption in captions).rstrip()
    if found["has_more"]:
        yield ""
        yield f"… and {found['total'] - len(mistakes)} more (--limit)"


def draw_digit(pixels: Sequence[Sequence[int]]) -> list[str]:
    """Draw an image as 8 lines of 16 characters."""
    return ["".join(2 * SHADES[round(pixel / MAX_PIXEL * (len(SHADES) - 1))] for pixel in row) for row in pixels]

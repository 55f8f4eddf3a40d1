"""`digitlab show` and `digitlab mistakes`: a run, and what its model gets wrong, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from app.cli.client import Client
from app.cli.train import FINAL
from app.wording import count

SHADES = " ░▒▓█"
MAX_PIXEL = 16
CHART_WIDTH = 60
CHART_HEIGHT = 10
DIGIT_WIDTH = 8 * 2 + 2  # a pixel is two characters wide, so that it is square


def show(url: str, run_id: str) -> int:
    """Print a run: its state, layers and last metrics, and val accuracy over epochs."""
    client, console = Client(url), Console(highlight=False)
    run = client.call("GET", f"/runs/{run_id}")
    summary = client.call("GET", f"/runs/{run_id}/summary")
    progress = run["progress"]
    title = f"{run['name']} " if run["name"] else ""
    console.print(f"{title}{run['id']}: {run['status']}, epoch {progress['epoch']} of {progress['epochs']}")
    if run["error"]:
        console.print(f"{run['error']['code']}: {run['error']['detail']}")
    for layer in summary["layers"]:
        parameters = count(layer["num_parameters"], "parameter") if layer["num_parameters"] else ""
        shapes = f"{layer['input_shape'][0]} → {layer['output_shape'][0]}"
        console.print(f"  {layer['name']:<10} {shapes:<12} {parameters} {layer['note']}".rstrip())
    if run["num_parameters"] is not None:
        console.print(f"  {count(run['num_parameters'], 'parameter')} in all")
    metrics = client.call("GET", f"/runs/{run_id}/metrics", params={"points": CHART_WIDTH})["data"]
    if not metrics:
        is_over = run["status"] in FINAL
        console.print("No epoch was evaluated." if is_over else "No epoch has been evaluated yet.")
        return 0
    last, best = metrics[-1], run["best"]
    console.print(
        f"epoch {last['epoch']}: loss {last['train_eval_loss']:.4f} train, {last['val_loss']:.4f} val; "
        f"accuracy {last['train_eval_accuracy']:.2%} train, {last['val_accuracy']:.2%} val"
    )
    console.print(f"best val accuracy {best['val_accuracy']:.2%} at epoch {best['epoch']}")
    console.print()
    for line in draw_curve([row["val_accuracy"] for row in metrics], metrics[0]["epoch"], last["epoch"]):
        console.print(Text(line, no_wrap=True, overflow="crop"))
    return 0


def draw_curve(values: Sequence[float], first_epoch: int, last_epoch: int) -> list[str]:
    """Accuracies, evenly spaced, as a chart of block characters with its axes."""
    low, high = min(values), max(values)
    extent = (high - low) or 1.0
    heights = [round((value - low) / extent * (CHART_HEIGHT * 8 - 1)) + 1 for value in values]  # eighths of a line
    lines = []
    for row in reversed(range(CHART_HEIGHT)):
        cells = "".join(" ▁▂▃▄▅▆▇█"[max(0, min(8, height - 8 * row))] for height in heights)
        value = {CHART_HEIGHT - 1: high, 0: low}.get(row)
        lines.append(f"{'' if value is None else f'{value:.1%}':>7} │{cells}")
    axis = f"epoch {first_epoch}"
    lines += [f"{'':>7} └{'─' * len(values)}", f"{'':>9}{axis}{last_epoch:>{max(1, len(values) - len(axis))}}"]
    return lines


def show_mistakes(url: str, run_id: str, limit: int) -> int:
    """Draw the digits that a run's saved model gets wrong, the most confident first."""
    found = Client(url).call("GET", f"/runs/{run_id}/mistakes", params={"limit": limit})
    console = Console(highlight=False)
    console.print(f"{count(found['total'], 'mistake')} on val: true digit → predicted one, with its probability")
    per_row = max(1, console.width // DIGIT_WIDTH)
    mistakes = found["data"]
    for start in range(0, len(mistakes), per_row):
        row = mistakes[start : start + per_row]
        captions = [f"{each['label']} → {each['predicted']}, {each['confidence']:.0%}" for each in row]
        console.print()
        for line in zip(*(draw_digit(each["pixels"]) for each in row), strict=True):
            console.print(Text("  ".join(line)))
        console.print(Text("".join(caption.ljust(DIGIT_WIDTH) for caption in captions).rstrip()))
    if found["has_more"]:
        console.print(f"\n… and {found['total'] - len(mistakes)} more (--limit)")
    return 0


def draw_digit(pixels: Sequence[Sequence[int]]) -> list[str]:
    """An image as 8 lines of 16 characters."""
    return ["".join(2 * SHADES[round(pixel / MAX_PIXEL * (len(SHADES) - 1))] for pixel in row) for row in pixels]

"""Pictures of runs: PNG and SVG are drawn for all kinds of data, the bytes are reproducible, and titles are right."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.charts import confusion, curves, digits, gradients, style, weights

Data = dict[str, Any]

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "train_eval_loss",
    "train_eval_accuracy",
    "val_loss",
    "val_accuracy",
)
SVG = "{http://www.w3.org/2000/svg}"


def metrics(num_epochs: int, *, every: int = 1, pace: float = 20, diverges_at: float = math.inf) -> Data:
    """Make metrics like those of a run, without training."""
    draw = random.Random(5)
    columns: Data = {column: [] for column in COLUMNS}
    for row in range(1, num_epochs + 1):
        left = math.exp(-row / pace)
        columns["epoch"].append(row * every)
        for split, floor in (("train", 0.03), ("train_eval", 0.01), ("val", 0.1)):
            is_lost = row >= diverges_at
            loss = floor + 2.2 * left + 0.01 * draw.random()
            columns[f"{split}_loss"].append(math.nan if is_lost else loss)
            columns[f"{split}_accuracy"].append(0.1 if is_lost else 1 - floor / 5 - 0.85 * left)
    return columns


def run(number: int = 1, num_epochs: int = 100, *, status: str = "succeeded", epochs: int = 0, **kind: Any) -> Data:
    columns = metrics(num_epochs, **kind)
    epoch = columns["epoch"][-1] if num_epochs else 0
    return {
        "id": f"01a20e0d-{number}",
        "name": f"wide tanh {number}",
        "status": status,
        "label": f"learning_rate {0.001 * 2**number:.4g}, hidden_sizes {16 * number}-32",
        "epoch": epoch,
        "epochs": epochs or max(epoch, 1),
        "best_epoch": epoch or None,
        "metrics": columns,
    }


def of_runs(*runs: Data, log: bool = False) -> Data:
    return {"log": log, "runs": list(runs)}


def with_column(column: str, values: list[float | None]) -> Data:
    changed = run(num_epochs=len(values))
    changed["metrics"][column] = values
    return changed


def of_layers(norms: list[list[float]], num_layers: int = 3) -> Data:
    layers = [f"layer {layer + 1}: 24 → 24" for layer in range(num_layers)]
    return {"title": "Gradients", "layers": layers, "epochs": list(range(1, len(norms) + 1)), "norms": norms}


def norms(num_epochs: int, num_layers: int = 3) -> list[list[float]]:
    return [[10.0 ** (-layer) / epoch for layer in range(num_layers)] for epoch in range(1, num_epochs + 1)]


def of_units(num_units: int) -> Data:
    draw = random.Random(2)
    return {"title": "Weights", "units": [[draw.gauss(0, 1) for _ in range(64)] for _ in range(num_units)]}


def of_counts(counts: list[list[int]]) -> Data:
    table = np.array(counts)
    sums, columns = table.sum(axis=1), table.sum(axis=0)
    right = np.diag(table)
    return {
        "title": "Confusion",
        "counts": counts,
        "normalized": (table / np.maximum(sums, 1)[:, np.newaxis]).tolist(),
        "precision": [float(a / b) if b else None for a, b in zip(right, columns, strict=True)],
        "recall": [float(a / b) if b else None for a, b in zip(right, sums, strict=True)],
    }


def of_images(num_images: int, caption: str = "8 → 3\n97 %", note: str = "the surest errors first") -> Data:
    pixels = [[(row * column + row) % 17 for column in range(8)] for row in range(8)]
    return {
        "title": "Misread digits",
        "note": note,
        "images": [{"pixels": pixels, "caption": caption} for _ in range(num_images)],
    }


MANY_RUNS = [run(number, pace=5 + number) for number in range(12)]
ODD = '"$x^$ <&> 数字 🙂 \x00 -- ]]> ' + "long " * 60
COUNTS = [[30 if row == column else (row + column) % 7 // 6 for column in range(10)] for row in range(10)]
LARGE_COUNTS = [[1_234_567 * cell for cell in row] for row in COUNTS]
NO_SEVENS = [[0] * 10 if row == 7 else COUNTS[row] for row in range(10)]

CASES: dict[str, tuple[ModuleType, Callable[[], Data]]] = {
    "curves: one run": (curves, lambda: of_runs(run())),
    "curves: one run, logarithmic": (curves, lambda: of_runs(run(), log=True)),
    "curves: a running run": (curves, lambda: of_runs(run(status="running", epochs=800))),
    "curves: nothing yet": (curves, lambda: of_runs(run(num_epochs=0, status="queued", epochs=800), log=True)),
    "curves: one epoch": (curves, lambda: of_runs(run(num_epochs=1), log=True)),
    "curves: twelve runs": (curves, lambda: of_runs(*MANY_RUNS, log=True)),
    "curves: twenty runs": (curves, lambda: of_runs(*MANY_RUNS, *MANY_RUNS[:8])),
    "curves: no runs": (curves, lambda: of_runs()),
    "curves: one of them has nothing yet": (curves, lambda: of_runs(run(), run(2, 0, status="queued"), log=True)),
    "curves: a run that diverges": (curves, lambda: of_runs(run(diverges_at=50), run(2), log=True)),
    "curves: a run that is lost from the start": (curves, lambda: of_runs(run(diverges_at=0), log=True)),
    "curves: infinite and huge losses": (
        curves,
        lambda: of_runs(with_column("val_loss", [2.0, math.inf, 1e30, -math.inf, 0.1]), log=True),
    ),
    "curves: losses of zero": (curves, lambda: of_runs(with_column("val_loss", [0.0] * 5), log=True)),
    "curves: all losses are zero": (
        curves,
        lambda: of_runs(
            run() | {"metrics": {column: [0.0] * 3 for column in COLUMNS} | {"epoch": [1, 2, 3]}}, log=True
        ),
    ),
    "curves: nulls": (curves, lambda: of_runs(with_column("train_loss", [None, 1.0, None]))),
    "curves: the best epoch is not there": (curves, lambda: of_runs(run() | {"best_epoch": 101})),
    "curves: no best epoch": (curves, lambda: of_runs(run() | {"best_epoch": None})),
    "curves: odd names": (curves, lambda: of_runs(*[run(n) | {"name": ODD, "label": ODD} for n in range(12)])),
    "curves: nameless": (curves, lambda: of_runs(run() | {"name": None, "label": ""})),
    "curves: many epochs": (curves, lambda: of_runs(run(num_epochs=5000), run(2, 5000, every=3))),
    "gradients": (gradients, lambda: of_layers(norms(50))),
    "gradients: one epoch": (gradients, lambda: of_layers(norms(1))),
    "gradients: no rows": (gradients, lambda: of_layers([])),
    "gradients: no layers": (gradients, lambda: of_layers([[], []], num_layers=0)),
    "gradients: zeros": (gradients, lambda: of_layers([[1.0, 0.0, 1e-3], [0.1, 0.0, 0.0]])),
    "gradients: all are zero": (gradients, lambda: of_layers([[0.0, 0.0, 0.0]])),
    "gradients: not finite": (gradients, lambda: of_layers([[1.0, math.nan, 0.0], [math.inf, 1e300, 5e-324]])),
    "gradients: none is finite": (gradients, lambda: of_layers([[math.nan, math.inf, math.nan]])),
    "gradients: fifty layers": (gradients, lambda: of_layers(norms(20, 50), num_layers=50)),
    "gradients: many epochs": (gradients, lambda: of_layers(norms(5000))),
    "gradients: odd title": (gradients, lambda: of_layers(norms(5)) | {"title": ODD}),
    "weights: one unit": (weights, lambda: of_units(1)),
    "weights: 24 units": (weights, lambda: of_units(24)),
    "weights: 1024 units": (weights, lambda: of_units(1024)),
    "weights: no units": (weights, lambda: of_units(0)),
    "weights: all are zero": (weights, lambda: of_units(3) | {"units": [[0.0] * 64] * 3}),
    "weights: not finite": (weights, lambda: of_units(3) | {"units": [[math.nan] * 64, [math.inf] * 64, [1.0] * 64]}),
    "weights: none is finite": (weights, lambda: of_units(1) | {"units": [[math.nan] * 64]}),
    "weights: odd title": (weights, lambda: of_units(2) | {"title": ODD}),
    "confusion": (confusion, lambda: of_counts(COUNTS)),
    "confusion: a digit is absent": (confusion, lambda: of_counts(NO_SEVENS)),
    "confusion: large counts": (confusion, lambda: of_counts(LARGE_COUNTS)),
    "confusion: nothing": (confusion, lambda: of_counts([[0] * 10] * 10)),
    "confusion: odd title": (confusion, lambda: of_counts(COUNTS) | {"title": ODD}),
    "digits: one": (digits, lambda: of_images(1)),
    "digits: 120": (digits, lambda: of_images(120)),
    "digits: more than fit": (digits, lambda: of_images(130)),
    "digits: none": (digits, lambda: of_images(0)),
    "digits: odd texts": (digits, lambda: of_images(5, caption=f"{ODD}\na\nb\nc", note=ODD) | {"title": ODD}),
    "digits: no texts": (digits, lambda: of_images(5, caption="", note="") | {"title": ""}),
}


def draw(case: str, picture_format: str) -> bytes:
    module, data = CASES[case]
    picture: bytes = module.draw(data() | {"format": picture_format})
    return picture


drawn = cache(draw)  # draws each picture once and shares it between all tests that use it


def png_size(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def svg_title(picture: bytes) -> str:
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert root[0].tag == f"{SVG}title"
    return root[0].text or ""


def svg_texts(picture: bytes) -> str:
    """Return the texts of an SVG; matplotlib draws them as outlines and adds each text as a comment."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.fromstring(picture, parser)
    return "\n".join(element.text or "" for element in root.iter() if not isinstance(element.tag, str))


@pytest.mark.parametrize("case", CASES)
def test_a_png_is_drawn(case: str) -> None:
    width, height = png_size(drawn(case, "png"))
    assert 600 <= width <= 1600
    assert 150 <= height <= 1300


@pytest.mark.parametrize("case", CASES)
def test_an_svg_is_drawn_and_has_a_title(case: str) -> None:
    picture = drawn(case, "svg")
    assert bool(svg_title(picture)) is (case != "digits: no texts")
    assert b"dc:date" not in picture


@pytest.mark.parametrize("picture_format", ["png", "svg"])
@pytest.mark.parametrize(
    "case", ["curves: twelve runs", "gradients: zeros", "weights: 24 units", "confusion", "digits: one"]
)
def test_the_same_data_gives_the_same_bytes(case: str, picture_format: str) -> None:
    assert draw(case, picture_format) == drawn(case, picture_format)


def test_a_run_that_is_not_finished_says_so_in_the_title() -> None:
    assert "running, epoch 100 of 800" in svg_title(drawn("curves: a running run", "svg"))


def test_every_run_is_named_by_its_label() -> None:
    texts = svg_texts(drawn("curves: twelve runs", "svg"))
    assert all(run["label"] in texts for run in MANY_RUNS)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("curves: one run", "best epoch 100: val loss"),
        ("curves: nothing yet", "no epoch has been evaluated yet"),
        ("curves: one of them has nothing yet", "(queued, epoch 0 of 1), nothing evaluated"),
        ("curves: a run that is lost from the start", "no loss is a finite number"),
        ("curves: a run that diverges", "2 of 4 lines have gaps where the loss is not finite"),
        ("curves: infinite and huge losses", "1 of 3 lines are cut off above"),
        ("curves: many epochs", "bold: medians of up to 20 epochs"),
        ("gradients: no rows", "no gradient has been recorded"),
        ("gradients: all are zero", "all gradients are zero"),
        ("gradients: zeros", "▼ zero"),
        ("weights: 1024 units", "the 256 with the largest norm"),
        ("confusion", "312 digits · 12 wrong · accuracy 96.15 %"),
        ("digits: none", "none"),
        ("digits: more than fit", "(the first 120 of 130)"),
    ],
)
def test_a_picture_says_what_it_cannot_show(case: str, text: str) -> None:
    assert text in svg_texts(drawn(case, "svg"))


def test_a_run_far_below_the_others_is_not_hidden_in_silence() -> None:
    bad = run(12) | {"metrics": metrics(100) | {"val_accuracy": [0.1] * 100, "train_eval_accuracy": [0.1] * 100}}
    picture = curves.draw(of_runs(*MANY_RUNS, bad) | {"format": "svg"})
    assert "2 of them wholly" in svg_texts(picture)


def test_the_units_with_the_largest_norm_are_shown() -> None:
    units = [[float(number)] * 64 for number in range(300)]
    texts = svg_texts(weights.draw({"format": "svg", "title": "", "units": units})).splitlines()
    assert " 44 " in texts
    assert " 43 " not in texts


@given(
    values=arrays(np.float64, st.integers(1, 400), elements=st.floats(-1e6, 1e6) | st.just(math.nan)),
    max_points=st.integers(2, 60),
    place=st.floats(0, 1, exclude_max=True),
)
def test_a_thinned_line_keeps_its_extremes_its_ends_and_the_chosen_point(
    values: np.ndarray, max_points: int, place: float
) -> None:
    chosen = int(place * len(values))
    kept = curves.thin(values, (chosen,), max_points)
    assert len(kept) <= max_points + 3
    assert (np.diff(kept) > 0).all()
    assert {0, chosen, len(values) - 1} <= set(kept.tolist())
    if np.isfinite(values).any():
        assert np.nanmin(values[kept]) == np.nanmin(values)
        assert np.nanmax(values[kept]) == np.nanmax(values)


@given(arrays(np.float64, st.integers(1, 400), elements=st.floats(-1e6, 1e6) | st.just(math.nan)), st.integers(1, 60))
def test_medians_are_points_of_the_line_in_its_order(values: np.ndarray, num_stretches: int) -> None:
    middle = curves.medians(values, num_stretches)
    assert len(middle) <= num_stretches
    assert (np.diff(middle) > 0).all()
    assert 0 <= middle[0] <= middle[-1] < len(values)


def test_a_title_that_xml_cannot_hold_is_made_printable() -> None:
    with style.settings():
        figure, _ = style.pixel_sheet(100, 100)
        assert svg_title(style.to_bytes(figure, "svg", "a\x00<b>&\ud800")) == "a□<b>&□"

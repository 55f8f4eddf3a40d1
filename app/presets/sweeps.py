"""Sweep presets by name, as a client would submit them: the notebook's own searches, and one for handwriting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.errors import NotFound

LEARNING_RATE = "training.optimizer.learning_rate"


@dataclass(frozen=True)
class SweepPreset:
    """A named ready-made sweep; `notebook` names the part of the course notebook that it comes from, if any."""

    name: str
    description: str
    notebook: str
    sweep: dict[str, Any]


_PRESETS = [
    SweepPreset(
        "learning-rates",
        "52-52 sigmoid, full batch: learning rates 0.05, 0.1 and 0.2 for 1,000 epochs, 0.3 for 5,000.",
        "Changing the optimizer's learning rate",
        {
            "name": "learning rates",
            "base": {"preset": "fullbatch-sigmoid"},
            "search": {"kind": "list"},
            "points": [
                {LEARNING_RATE: rate, "training.epochs": epochs}
                for rate, epochs in ((0.05, 1000), (0.1, 1000), (0.2, 1000), (0.3, 5000))
            ],
        },
    ),
    SweepPreset(
        "practice",
        "Width, learning rate, activation and batch size: which network trains fastest, is smallest, is most accurate?",
        "Practice",
        {
            "name": "practice",
            "base": {"preset": "minibatch-sigmoid"},
            "parameters": {
                "model.hidden_sizes": [[50, 50], [32, 32], [16, 16], [12, 12]],
                LEARNING_RATE: [0.005, 0.01, 0.03, 0.05, 0.1, 0.3],
                "model.activation": ["relu", "sigmoid"],
                "training.batch_size": [20, 100],
            },
        },
    ),
    SweepPreset(
        "dropout",
        "Dropout rates at three widths, each with five seeds.",
        "Regularisation by a dropout layer",
        {
            "name": "dropout",
            "base": {"preset": "dropout-tanh"},
            "parameters": {
                "model.hidden_sizes": [[24, 24], [52, 52], [128, 128]],
                "model.dropout": [0.0, 0.1, 0.25, 0.5],
            },
            "repeats": 5,
        },
    ),
    SweepPreset(
        "cross-validated",
        "Wide networks, chosen by five folds of the train split alone: val is seen once, by the final run.",
        "Practice",
        {
            "name": "cross-validated",
            "base": {"training": {"epochs": 200}},
            "parameters": {
                "model.hidden_sizes": [[256], [512], [256, 128], [512, 256]],
                "model.dropout": [0.2, 0.4, 0.6],
                LEARNING_RATE: [0.05, 0.1],
            },
            "cross_validation": {"folds": 5},
        },
    ),
    SweepPreset(
        "handwriting-cv",
        "Width, dropout and number of warped copies for digits as people draw them, by five folds of the train split.",
        "",
        {
            "name": "handwriting, cross-validated",
            "base": {"preset": "handwriting"},
            "parameters": {
                "model.hidden_sizes": [[256], [512]],
                "model.dropout": [0.2, 0.4],
                "training.augmentation.copies": [16, 64, 256],
            },
            "cross_validation": {"folds": 5},
        },
    ),
]

SWEEP_PRESETS = {preset.name: preset for preset in _PRESETS}


def get_sweep_preset(name: str) -> SweepPreset:
    try:
        return SWEEP_PRESETS[name]
    except KeyError:
        known = ", ".join(SWEEP_PRESETS)
        raise NotFound(f"There is no sweep preset {name!r}. There are: {known}.", slug="preset-not-found") from None

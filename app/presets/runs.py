"""Presets: the defaults, the notebook's own configurations by name, and the one for digits as people draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.errors import NotFound
from app.run_config import RunConfig


@dataclass(frozen=True)
class Preset:
    """A named ready-made configuration; `notebook` names the part of the course notebook that it comes from, if any."""

    name: str
    description: str
    notebook: str
    config: RunConfig


def _mlp(
    hidden_sizes: list[int],
    activation: str,
    learning_rate: float,
    epochs: int,
    *,
    batch_size: int | None,
    dropout: float = 0.0,
) -> RunConfig:
    """Make the configuration of a network of the notebook: SGD with momentum 0.9, pixels scaled by 1/255."""
    fields: dict[str, Any] = {
        "scaling": "byte",
        "model": {"kind": "mlp", "hidden_sizes": hidden_sizes, "activation": activation, "dropout": dropout},
        "training": {
            "optimizer": {"kind": "sgd", "learning_rate": learning_rate, "momentum": 0.9},
            "batch_size": batch_size,
            "epochs": epochs,
        },
    }
    return RunConfig.model_validate(fields)


def _handwriting() -> RunConfig:
    """Make the configuration of a network that has seen warped copies of its images."""
    fields: dict[str, Any] = {
        "scaling": "unit",
        "model": {"kind": "mlp", "hidden_sizes": [256], "activation": "relu", "dropout": 0.2},
        "training": {
            "optimizer": {
                "kind": "sgd",
                "learning_rate": 0.2,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 1e-5,
            },
            "schedule": {"kind": "cosine", "warmup_steps": 100},
            "augmentation": {"kind": "affine_elastic", "copies": 256, "strength": 1.0},
            "batch_size": 64,
            "epochs": 300,
            "keep": "last",
        },
    }
    return RunConfig.model_validate(fields)


_PRESETS = [
    Preset("defaults", "What a run trains if it names nothing: `{}` is the same.", "None of it", RunConfig()),
    Preset(
        "handwriting",
        "256 relu, trained for 300 epochs on warped copies of the images: for digits as people draw them.",
        "",
        _handwriting(),
    ),
    Preset(
        "forest-baseline",
        "Random forest of 10 trees, max depth 10: the classical baseline.",
        "Solving it by traditional methods",
        RunConfig.model_validate({"model": {"kind": "random_forest", "n_estimators": 10, "max_depth": 10}}),
    ),
    Preset(
        "fullbatch-sigmoid",
        "52-52 sigmoid, full batch, learning rate 0.001 for 10,000 epochs: it learns slowly.",
        "Solving it by neural networks",
        _mlp([52, 52], "sigmoid", 0.001, 10_000, batch_size=None),
    ),
    Preset(
        "fullbatch-sigmoid-fast",
        "52-52 sigmoid, full batch, learning rate 0.3 for 5,000 epochs.",
        "Changing the optimizer's learning rate",
        _mlp([52, 52], "sigmoid", 0.3, 5_000, batch_size=None),
    ),
    Preset(
        "fullbatch-tanh",
        "52-52 tanh, full batch, learning rate 0.05 for 5,000 epochs.",
        "The network with tanh",
        _mlp([52, 52], "tanh", 0.05, 5_000, batch_size=None),
    ),
    Preset(
        "minibatch-sigmoid",
        "12-12 sigmoid, batches of 20, learning rate 0.3 for 800 epochs.",
        "Loading data in mini-batches",
        _mlp([12, 12], "sigmoid", 0.3, 800, batch_size=20),
    ),
    Preset(
        "dropout-tanh",
        "24-24 tanh with dropout 0.25, batches of 20, learning rate 0.01 for 800 epochs.",
        "Regularisation by a dropout layer",
        _mlp([24, 24], "tanh", 0.01, 800, batch_size=20, dropout=0.25),
    ),
]

PRESETS = {preset.name: preset for preset in _PRESETS}


def get_preset(name: str) -> Preset:
    try:
        return PRESETS[name]
    except KeyError:
        known = ", ".join(PRESETS)
        raise NotFound(f"There is no run preset {name!r}. There are: {known}.", slug="preset-not-found") from None

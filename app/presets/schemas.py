"""Response models for presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.presets.runs import Preset
from app.presets.sweeps import SweepPreset
from app.runs.schemas import EXAMPLE_CONFIG


class PresetView(BaseModel):
    """A named ready-made configuration."""

    name: str = Field(examples=["dropout-tanh"])
    kind: Literal["run", "sweep"] = Field(description="Where to submit it: `POST /runs` or `POST /sweeps`.")
    description: str
    notebook: str = Field(description="The part of the course notebook that it comes from; empty: none.")
    config: dict[str, Any] = Field(
        description="What a run trains, complete; or what a sweep searches.", examples=[EXAMPLE_CONFIG]
    )

    @classmethod
    def of_run(cls, preset: Preset) -> PresetView:
        return cls(**_labels(preset), kind="run", config=preset.config.model_dump(mode="json"))

    @classmethod
    def of_sweep(cls, preset: SweepPreset) -> PresetView:
        return cls(**_labels(preset), kind="sweep", config=preset.sweep)


def _labels(preset: Preset | SweepPreset) -> dict[str, str]:
    return {"name": preset.name, "description": preset.description, "notebook": preset.notebook}

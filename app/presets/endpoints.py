"""Endpoints of `/presets`: ready-made runs and sweeps."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.errors import NotFound
from app.http.problem import problems
from app.paging import Page
from app.presets.runs import PRESETS
from app.presets.schemas import PresetView
from app.presets.sweeps import SWEEP_PRESETS

router = APIRouter(tags=["presets"])

_VIEWS = {
    **{name: PresetView.of_run(preset) for name, preset in PRESETS.items()},
    **{name: PresetView.of_sweep(preset) for name, preset in SWEEP_PRESETS.items()},
}


@router.get("/presets", summary="List presets", responses=problems())
def list_presets() -> Page[PresetView]:
    """The defaults and ready-made configurations, to submit as `{"preset": name}`.

    `kind` says where: `/runs` or `/sweeps`.
    """
    return Page(data=list(_VIEWS.values()))


@router.get("/presets/{name}", summary="Show a preset", responses=problems(404))
def show_preset(name: Annotated[str, Path(min_length=1, max_length=64, examples=["dropout-tanh"])]) -> PresetView:
    """Its full configuration, and the part of the notebook that it comes from, if any."""
    if name not in _VIEWS:
        raise NotFound(f"There is no preset {name!r}. There are: {', '.join(_VIEWS)}.", slug="preset-not-found")
    return _VIEWS[name]

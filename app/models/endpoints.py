"""`/models`: the leaderboard and the champion."""

from __future__ import annotations

from fastapi import APIRouter

from app.dependencies import After, Limit, ReadSession
from app.models import service
from app.models.schemas import ChampionView, ModelView, PromotionView
from app.paging import Page
from app.problem import problems

router = APIRouter(tags=["models"])


@router.get("/models", summary="List saved models, best first", responses=problems())
def list_models(session: ReadSession, limit: Limit = 50, after: After = None) -> Page[ModelView]:
    """By val accuracy, then val loss, then fewest parameters, then the oldest run."""
    rows, cursor = service.leaderboard(session, limit=limit, after=after)
    return Page(data=[ModelView.of(model, run) for model, run in rows], has_more=cursor is not None, next=cursor)


@router.get("/models/champion", summary="Show the model that /predict uses", responses=problems(404))
def get_champion(session: ReadSession) -> ChampionView:
    """The best saved model on the canonical split, how it came to be champion, and its predecessors."""
    champion = service.get_champion(session)
    return ChampionView(
        model=ModelView.of(champion.model, champion.run),
        reason=champion.history[0].reason,
        promoted_at=champion.history[0].created_at,
        history=[PromotionView.of(promotion) for promotion in champion.history],
    )

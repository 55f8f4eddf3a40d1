"""Endpoints of `/models`: the leaderboard and the champion."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy.orm import Session

from app.http.dependencies import After, DatabaseDep, JsonOnly, Limit, ReadSession, WriteSession
from app.http.json_bodies import JsonRoute
from app.http.problem import problems
from app.models import service
from app.models.schemas import ChampionView, ModelView, Pin, PromotionView, RankingChoice, RankingView
from app.paging import Page

router = APIRouter(tags=["models"], route_class=JsonRoute)


@router.get("/models", summary="List saved models, best first", responses=problems())
def list_models(session: ReadSession, limit: Limit = 50, after: After = None) -> Page[ModelView]:
    """In the champion's order, which `GET /models/ranking` names: by shifted accuracy unless that was changed."""
    rows, cursor = service.leaderboard(session, limit=limit, after=after)
    return Page.of([ModelView.of(model, run) for model, run in rows], cursor)


@router.get("/models/champion", summary="Show the model that /predict uses", responses=problems(404))
def get_champion(session: ReadSession) -> ChampionView:
    """The best saved model on the canonical split, how it came to be champion, and its predecessors."""
    return _view(session)


@router.put(
    "/models/champion",
    summary="Pin the champion",
    responses=problems(400, 404, 409, 413, 415),
    dependencies=[JsonOnly],
)
def pin_champion(pin: Pin, database: DatabaseDep) -> ChampionView:
    """Have `/predict` use this run's saved model, whatever others achieve, until it is unpinned.

    It may have been trained on any split. Repeating is harmless.
    """
    with database.reading() as session:
        model = service.check_pinnable(session, pin.run_id)
    with database.writing() as session:
        service.pin(session, model)
        return _view(session)


@router.delete("/models/champion", summary="Unpin the champion", responses=problems(404, 409))
def unpin_champion(session: WriteSession) -> ChampionView:
    """Back to automatic: the best model on the canonical split. Repeating is harmless."""
    service.unpin(session)
    return _view(session)


@router.post("/models/champion/rollback", summary="Go back to the champion before", responses=problems(404, 409))
def roll_champion_back(session: WriteSession) -> ChampionView:
    """Pin the model that was champion before this one. Doing it again goes forth and back between the two."""
    service.roll_back(session)
    return _view(session)


@router.get("/models/ranking", summary="Show by what models are ranked", responses=problems())
def get_ranking(session: ReadSession) -> RankingView:
    """The order of `GET /models`, whose first model on the canonical split is champion unless one is pinned."""
    return _ranking_view(session)


@router.put(
    "/models/ranking",
    summary="Change by what models are ranked",
    responses=problems(400, 413, 415),
    dependencies=[JsonOnly],
)
def change_ranking(ranking: RankingChoice, session: WriteSession) -> RankingView:
    """Rank saved models by something else. The best one by it is champion at once, unless one is pinned.

    Repeating is harmless.
    """
    service.change_order(session, ranking.by)
    return _ranking_view(session)


def _ranking_view(session: Session) -> RankingView:
    session.flush()
    champion = service.find_champion(session)
    return RankingView(
        by=service.get_ranked_by(session),
        champion_run_id=None if champion is None else champion.model.run_id,
        why=None if champion is None else champion.why,
    )


def _view(session: Session) -> ChampionView:
    session.flush()
    champion = service.get_champion(session)
    newest = champion.history[0]
    return ChampionView(
        model=ModelView.of(champion.model, champion.run),
        why=champion.why,
        reason=newest.reason,
        promoted_at=newest.created_at,
        automatic=None if champion.automatic is None else ModelView.of(*champion.automatic),
        history=[PromotionView.of(promotion, champion.names) for promotion in champion.history],
    )

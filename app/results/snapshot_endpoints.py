"""The endpoint of `/runs/{run_id}/snapshots`: a page scrubs through a training by them."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from app.http.dependencies import InTurn, ReadSession
from app.http.negotiation import JSON
from app.http.picture_responses import UNCHANGED, IfNoneMatch, answer_unchanged, etag_of
from app.http.problem import problems
from app.results import snapshots
from app.results.schemas import SnapshotPage
from app.runs import service as runs
from app.runs.endpoints import RunId
from app.validation import MAX_INTEGER

router = APIRouter(tags=["inside a run"])


@router.get(
    "/runs/{run_id}/snapshots",
    summary="Read a run's snapshots",
    responses=problems(404, 409) | UNCHANGED,
    response_model=SnapshotPage,
    dependencies=[InTurn],
)
def list_snapshots(
    run_id: RunId,
    session: ReadSession,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER, description="An epoch; the snapshots behind it follow.")] = 0,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """All weights, and the predictions on val, at `training.snapshots` epochs that are spread over the training.

    They are there as soon as their epoch is committed; there are none if the run has not asked for any.
    """
    run = runs.get_run(session, run_id)
    etag = etag_of("snapshots", snapshots.fingerprint(session, run, after=after))
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    found = snapshots.read(session, run, after=after)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    return Response(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON, headers=headers)

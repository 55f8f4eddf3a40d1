"""Hides runs and sweeps that are marked as deleted from the ORM's queries, except from those that ask for them.

Such a run or sweep may own many rows. A client's request only marks it; a worker then deletes the rows in short
transactions.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from app.tables.run import Run
from app.tables.sweep import Sweep

INCLUDE_DELETED = {"include_deleted": True}  # execution options of a query that sees marked rows

_HIDE = [with_loader_criteria(table, table.deleted_at.is_(None), include_aliases=True) for table in (Run, Sweep)]


@event.listens_for(Session, "do_orm_execute")
def _hide_deleted(state: ORMExecuteState) -> None:
    if state.is_select and not state.is_column_load and not state.execution_options.get("include_deleted", False):
        state.statement = state.statement.options(*_HIDE)

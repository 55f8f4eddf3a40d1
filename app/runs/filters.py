"""Which runs a list holds: the filters of `GET /runs` as conditions of a query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, exists, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from app.tables import Run, RunStatus

NO_SWEEP = "none"  # in place of a sweep's id: runs that are no trials


@dataclass(frozen=True)
class RunFilters:
    """The runs that all given filters let pass; None and an empty collection filter nothing."""

    ids: Collection[str] = ()
    statuses: Collection[RunStatus] = ()
    sweep_id: str | None = None  # or `NO_SWEEP`
    model_kind: str | None = None
    tag: tuple[str, str] | None = None
    text: str | None = None  # each of its words occurs in the name, the notes, the id or a tag

    def conditions(self, *, of_any_status: bool = False) -> list[ColumnElement[bool]]:
        """Return the filters as conditions on `Run`; `of_any_status` leaves the statuses out."""
        found: list[ColumnElement[bool]] = [_has_word(word) for word in dict.fromkeys((self.text or "").split())]
        if self.ids:
            found.append(Run.id.in_(self.ids))
        if self.statuses and not of_any_status:
            found.append(Run.status.in_(self.statuses))
        if self.sweep_id is not None:
            found.append(Run.sweep_id.is_(None) if self.sweep_id == NO_SWEEP else Run.sweep_id == self.sweep_id)
        if self.model_kind is not None:
            found.append(Run.model_kind == self.model_kind)
        if self.tag is not None:
            key, value = self.tag
            found.append(Run.tags[key].as_string() == value)
        return found


def _has_word(word: str) -> ColumnElement[bool]:
    in_columns = (column.icontains(word, autoescape=True) for column in (Run.name, Run.notes, Run.id))
    tags = _json_pairs(Run.tags).table_valued("key", "value")
    tag = tags.c.key.cast(String) + ":" + tags.c.value.cast(String)
    return or_(*in_columns, exists(select(1).select_from(tags).where(tag.icontains(word, autoescape=True))))


class _json_pairs(GenericFunction[Any]):  # noqa: N801, the name of an SQL function
    """The keys and values of a JSON object as rows."""

    inherit_cache = True
    name = "json_each"


@compiles(_json_pairs, "postgresql")
def _json_pairs_as_text(function: _json_pairs, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each_text({compiler.process(function.clauses, **options)})"

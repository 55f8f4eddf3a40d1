"""Finds the leases that have expired, even if the database's clock was set forward or back."""

from __future__ import annotations

import time
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.clocks import MAX_SKEW_SECONDS, Monotonic, Sightings, SteadyClock
from app.database import database_now
from app.tables import Run, RunStatus


class Lease(NamedTuple):
    """A lease as it was read; a lease that was renewed since is a different value."""

    run_id: str
    claim_number: int
    expires_at: float


class LeaseWatch:
    """One process's observations of the leases. A process makes one instance and calls it often.

    A lease has expired when the database's clock is past its end. A forward jump of that clock counts only once it has
    lasted for a lease's length. A lease that ends further ahead than its length was written before the clock was set
    back: it has expired when no worker has renewed it for its length, by this process's own monotonic clock.

    Args:
        lease_seconds: Length of leases whose row does not contain it.
        monotonic: Returns the monotonic time in seconds.
    """

    def __init__(self, lease_seconds: float, monotonic: Monotonic = time.monotonic) -> None:
        self._lease_seconds = lease_seconds
        self._clock = SteadyClock(lease_seconds, monotonic=monotonic)
        self._sightings = Sightings(monotonic)

    def find_expired(self, session: Session) -> list[Lease]:
        """Return the expired leases of running runs."""
        wall = session.scalars(select(database_now())).one()
        now = self._clock.now(wall)
        length = func.coalesce(Run.lease_seconds, self._lease_seconds)
        has_run_out = Run.lease_expires_at < now
        is_ahead = Run.lease_expires_at > wall + MAX_SKEW_SECONDS + length
        query = select(Run.id, Run.claim_number, Run.lease_expires_at, length, is_ahead)
        query = query.where(Run.status == RunStatus.RUNNING, or_(has_run_out, is_ahead)).order_by(Run.id)
        expired, ahead = [], set()
        for run_id, claim_number, expires_at, seconds, is_too_long in session.execute(query):
            lease = Lease(run_id, claim_number, expires_at or 0.0)
            if is_too_long:
                ahead.add(run_id)
            if not is_too_long or self._sightings.seconds_unchanged(run_id, lease) >= seconds:
                expired.append(lease)
        self._sightings.keep_only(ahead)
        return expired

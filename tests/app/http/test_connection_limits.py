"""The counting of what one connection takes, without sockets; `test_protocol` and `tests/e2e/test_limits` have them."""

from __future__ import annotations

import pytest

from app.http.connection_limits import DISCARDED_BODIES, FRAMING_BYTES_PER_BODY_BYTE, ConnectionLimits


@pytest.fixture
def limits() -> ConnectionLimits:
    return ConnectionLimits(0.0, max_header_bytes=100, max_body_bytes=1000, timeout_seconds=20)


def test_a_head_up_to_its_limit_is_no_attack(limits: ConnectionLimits) -> None:
    limits.count_data(100)
    assert not limits.may_be_too_large_a_head
    assert not limits.is_mostly_framing
    limits.count_data(1)
    assert limits.may_be_too_large_a_head
    assert limits.is_mostly_framing


def test_a_body_allows_framing_in_proportion_to_it(limits: ConnectionLimits) -> None:
    limits.count_data(100 + 10 * (FRAMING_BYTES_PER_BODY_BYTE + 1))
    limits.count_body(10)
    assert not limits.is_mostly_framing
    limits.count_data(1)
    assert limits.is_mostly_framing


def test_a_body_after_its_response_is_thrown_away_up_to_a_limit(limits: ConnectionLimits) -> None:
    limits.count_discarded(DISCARDED_BODIES * 1000)
    assert not limits.discards_too_much
    limits.count_discarded(1)
    assert limits.discards_too_much


def test_every_request_is_counted_anew(limits: ConnectionLimits) -> None:
    limits.count_data(500)
    limits.count_body(400)
    limits.count_discarded(10_000)
    limits.end_request()
    assert not limits.discards_too_much
    assert not limits.has_part_of_a_request
    limits.begin_request(5.0)
    assert not limits.has_part_of_a_request
    limits.count_data(1)
    assert limits.has_part_of_a_request


def test_a_client_that_sends_nothing_is_late_after_the_timeout(limits: ConnectionLimits) -> None:
    assert not limits.is_late(20.0)
    assert limits.is_late(20.1)


def test_a_body_gets_a_second_for_each_thousand_bytes(limits: ConnectionLimits) -> None:
    limits.count_data(3000)
    limits.count_body(3000)
    assert not limits.is_late(23.0)
    assert limits.is_late(23.1)


def test_between_two_requests_no_client_is_late(limits: ConnectionLimits) -> None:
    limits.end_request()
    assert not limits.is_late(1e6)
    limits.begin_request(1e6)
    assert not limits.is_late(1e6 + 20)
    assert limits.is_late(1e6 + 20.1)


def test_the_time_in_which_the_server_does_not_read_does_not_count(limits: ConnectionLimits) -> None:
    limits.note_paused(15.0)
    assert not limits.is_late(35.0)
    assert limits.is_late(35.1)


def test_a_response_may_be_read_slowly_but_not_left_unread(limits: ConnectionLimits) -> None:
    limits.note_unsent(0.0, 0)
    limits.note_unsent(5.0, 900)
    limits.note_unsent(24.0, 800)
    assert not limits.leaves_unread(44.0)
    limits.note_unsent(44.1, 800)
    assert limits.leaves_unread(44.1)
    limits.note_unsent(45.0, 0)
    assert not limits.leaves_unread(1e6)

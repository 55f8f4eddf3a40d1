"""Random numbers: the generator gives the published values, and data orders, dropout and weights follow from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.training import randomness
from workers.training.engines import draws

seeds = st.integers(0, 2**32 - 1)
epochs = st.integers(1, 100_000)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_blocks_are_those_of_the_authors_known_answers(counter: list[int], key: list[int], expected: str) -> None:
    """The expected values are Random123's kat_vectors for philox4x32 with 10 rounds."""
    words = randomness.philox(*(torch.tensor(number) for number in (*counter, *key)))
    assert " ".join(f"{int(word):08x}" for word in words) == expected


@settings(max_examples=30, deadline=None)
@given(seed=seeds, epoch=epochs, num_samples=st.integers(1, 2000))
def test_compiled_code_draws_the_same_data_order(seed: int, epoch: int, num_samples: int) -> None:
    order = randomness.data_orders(torch.tensor([seed]), epoch, num_samples)[0].numpy()
    assert np.array_equal(np.sort(order), np.arange(num_samples))
    assert np.array_equal(draws.draw_order(seed, epoch, num_samples), order)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, epoch=epochs, num_samples=st.integers(1, 2000), copies=st.integers(1, 256))
def test_compiled_code_draws_the_same_copies(seed: int, epoch: int, num_samples: int, copies: int) -> None:
    both = randomness.copy_numbers(torch.tensor([seed, 5]), epoch, num_samples, torch.tensor([copies, 3])).numpy()
    assert both.shape == (2, num_samples)
    assert 0 <= both[0].min() <= both[0].max() < copies
    assert np.array_equal(draws.draw_copies(seed, epoch, num_samples, copies), both[0])


def test_every_copy_is_drawn_equally_often_and_anew_each_epoch() -> None:
    drawn = randomness.copy_numbers(torch.arange(100), 1, 1200, torch.full((100,), 6))
    counts = torch.bincount(drawn.flatten(), minlength=6)  # 20,000 are expected, with a standard deviation of 129
    assert (counts - 20_000).abs().max() < 650
    later = randomness.copy_numbers(torch.arange(100), 2, 1200, torch.full((100,), 6))
    assert (drawn == later).float().mean().item() == pytest.approx(1 / 6, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, epoch=epochs, batch_size=st.integers(1, 40), num_units=st.sampled_from([16, 48, 112]))
def test_compiled_code_drops_the_same_units(seed: int, epoch: int, batch_size: int, num_units: int) -> None:
    lanes = randomness.dropout_lanes(torch.tensor([seed]), epoch, 3, batch_size, num_units)[0]
    threshold = randomness.dropout_threshold(0.25)
    factors = np.empty((-(-batch_size // 8), 8, num_units), np.float32)
    for step in range(3):
        draws.draw_dropout(seed, epoch, step, threshold, np.float32(2), factors)
        kept = factors.reshape(-1, num_units)[:batch_size]
        assert np.array_equal(kept, np.where(lanes[step].numpy() >= threshold, np.float32(2), np.float32(0)))


@given(seed=seeds, epoch=epochs, other=seeds)
@settings(max_examples=20, deadline=None)
def test_a_run_draws_the_same_whatever_run_is_beside_it(seed: int, epoch: int, other: int) -> None:
    alone = randomness.dropout_lanes(torch.tensor([seed]), epoch, 2, 20, 32)
    together = randomness.dropout_lanes(torch.tensor([other, seed, other]), epoch, 2, 20, 32)
    assert torch.equal(alone[0], together[1])
    orders = randomness.data_orders(torch.tensor([other, seed]), epoch, 100)
    assert torch.equal(randomness.data_orders(torch.tensor([seed]), epoch, 100)[0], orders[1])


def test_different_epochs_seeds_and_steps_draw_differently() -> None:
    orders = {
        tuple(randomness.data_orders(torch.tensor([seed]), epoch, 50)[0].tolist())
        for seed in (0, 1, 2**31)
        for epoch in (1, 2, 3)
    }
    assert len(orders) == 9
    lanes = randomness.dropout_lanes(torch.tensor([0, 1]), 1, 3, 8, 16)
    assert len({tuple(lanes[run, step].flatten().tolist()) for run in (0, 1) for step in (0, 1, 2)}) == 6


def test_orders_dropout_and_weights_are_evenly_spread() -> None:
    orders = randomness.data_orders(torch.arange(2000), 1, 10)
    firsts = torch.bincount(orders[:, 0], minlength=10)  # 200 are expected, with a standard deviation of 13
    assert firsts.min() > 130
    assert firsts.max() < 270
    lanes = randomness.dropout_lanes(torch.arange(4), 1, 10, 20, 64)
    share = (lanes < randomness.dropout_threshold(0.25)).double().mean().item()  # share of 51,200 lanes
    assert abs(share - 0.25) < 0.01
    weights, biases = randomness.linear_layer(5, 1, 64, 200)
    assert np.abs(weights).max() <= 1 / 8
    assert np.abs(biases).max() <= 1 / 8
    assert abs(weights.mean()) < 0.003
    assert abs(weights.std() - 1 / 8 / 3**0.5) < 0.001


def test_every_layer_starts_with_numbers_of_its_own() -> None:
    first, _ = randomness.linear_layer(5, 1, 16, 16)
    second, _ = randomness.linear_layer(5, 2, 16, 16)
    assert not np.array_equal(first, second)


def test_the_weights_of_a_seed_stay_as_they_are() -> None:
    """Saved runs would no longer be reproducible: these are the numbers of the first version."""
    weights, biases = randomness.linear_layer(2**40 + 7, 2, 3, 2)
    expected = [
        [-0.2542100282286517, 0.5537227978796916, 0.2839517573626642],
        [-0.2634524308656516, -0.5010240011062301, -0.4637544132050585],
    ]
    assert weights.tolist() == expected
    assert biases.tolist() == [0.19291207988187167, -0.18484301490046598]


@given(several=st.lists(st.integers(0, 2**53), min_size=1, max_size=5), inputs=st.integers(1, 9))
def test_a_run_starts_with_the_same_weights_alone_and_among_others(several: list[int], inputs: int) -> None:
    together = randomness.linear_layers(np.array(several), 1, inputs, 3)
    for number, seed in enumerate(several):
        for layers, alone in zip(together, randomness.linear_layer(seed, 1, inputs, 3), strict=True):
            np.testing.assert_array_equal(layers[number], alone)

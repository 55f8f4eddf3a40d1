"""The plan of the CUDA engine's launches: the structures are those of the kernels, and no two things share a place."""

from __future__ import annotations

import ctypes
import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.training.conftest import Digits
from tests.workers.training.engines.emulation import H100, EmulatedKernels
from workers.training.config import OptimizerConfig
from workers.training.engines import cuda_plan
from workers.training.engines.cuda_driver import ENGINES
from workers.training.engines.cuda_plan import DoesNotFit, Job, Layer, Limits, chunk_rows, make_plan
from workers.training.layout import Layout
from workers.training.randomness import Purpose
from workers.training.stack import Decisions, Setting, Shape

NETWORK = (ENGINES / "network.cuh").read_text()
DRAWS = (ENGINES / "draws.cuh").read_text()
CONSUMER = Limits(98 * 1024, 100 * 1024, num_multiprocessors=128, kernel_bytes=1024)  # sm_86, 89, 120


TYPE = re.compile(r"(const )?(real|double|float|int|long long|uint8_t|uint32_t)\b")


def fields_of(structure: str) -> list[str]:
    """The names of a C structure's fields, in order."""
    (body,) = re.findall(rf"struct {structure} {{(.*?)\n}};", NETWORK, re.S)
    names = []
    for declaration in re.sub(r"//[^\n]*", "", body[body.index("\n") :]).split(";"):
        declared = TYPE.sub("", declaration).removeprefix("Layer")
        names += [re.sub(r"Layer |[\s*]|\[.*\]", "", name) for name in declared.split(",")]
    return [name for name in names if name]


def enum_of(source: str, name: str) -> list[str]:
    (body,) = re.findall(rf"enum {name} {{(.*?)}};", source, re.S)
    return [each.strip() for each in re.sub(r"//[^\n]*", "", body).split(",")]


def test_the_structures_are_those_of_the_kernels(emulated: dict[torch.dtype, EmulatedKernels]) -> None:
    assert [name for name, *_ in Job._fields_] == fields_of("Job")
    assert [name for name, *_ in Layer._fields_] == fields_of("Layer")
    for kernels in emulated.values():
        assert kernels.library.size_of_job() == ctypes.sizeof(Job)


def test_the_columns_and_constants_are_those_of_the_kernels() -> None:
    assert enum_of(NETWORK, "Setting") == [*(column.name for column in Setting), "NUM_SETTINGS"]
    names = [name.upper() for name in Decisions._fields]
    assert enum_of(NETWORK, "Decision") == [*names, "END_EPOCH", "NUM_DECISIONS"]
    purposes = dict(each.split(" = ") for each in enum_of(DRAWS, "Purpose"))
    assert {name: int(number) for name, number in purposes.items()} == {name: Purpose[name] for name in purposes}
    for name in ("MAX_LAYERS", "PAD", "TILE", "SUM_THREADS"):
        (value,) = re.findall(rf"#define {name} (\d+)", NETWORK)
        assert int(value) == getattr(cuda_plan, name)
    (bits,) = re.findall(r"#define BUCKET_BITS (\d+)", DRAWS)
    assert 2 ** int(bits) == cuda_plan.BUCKETS


def shape_of(
    hidden_sizes: tuple[int, ...] = (12, 12), batch_size: int = 20, *, is_adam: bool = False, num_train: int = 1257
) -> Shape:
    return Shape(Layout.of(hidden_sizes), min(batch_size, num_train), is_adam, (num_train, 540, 0), None)


SHAPES = st.builds(
    Shape,
    st.lists(st.integers(1, 200), max_size=8).map(Layout.of),
    st.integers(1, 300),
    st.booleans(),
    st.tuples(st.integers(300, 3000), st.integers(1, 600), st.just(0)),
    st.sampled_from([None, 1.0]),
)


@settings(deadline=None)
@given(
    SHAPES,
    st.sampled_from([4, 8]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([64, 128, 512]),
    st.sampled_from([16, 64]),
)
def test_what_lies_in_shared_memory_overlaps_nothing_and_is_aligned(
    shape: Shape, number_bytes: int, has_dropout: bool, state_in_shared: bool, threads: int, evaluated_rows: int
) -> None:
    plan = make_plan(
        shape,
        number_bytes,
        Limits(10**9, 10**9, 1, 0),
        num_runs=1,
        num_images=1797,
        has_dropout=has_dropout,
        threads=threads,
        state_in_shared=state_in_shared,
        evaluated_rows=evaluated_rows,
    )
    job = plan.job
    assert job.chunk <= job.evaluated_rows <= cuda_plan.SUM_THREADS
    assert job.chunk % 4 == 0
    assert min(job.chunk, shape.batch_size) <= 32 <= cuda_plan.SUM_THREADS
    rows, sizes = job.evaluated_rows, shape.layout.sizes
    sizes_of = {"order_at": -(-2 * shape.num_train // number_bytes), "labels_at": -(-8 * rows // number_bytes)}
    sizes_of["rates_at"] = 2 * min(threads, shape.num_steps)
    if shape.strength is not None:
        sizes_of["copies_at"] = sizes_of["order_at"]
    if has_dropout and shape.layout.num_hidden:
        sizes_of["masks_at"] = -(-((job.chunk + 7) // 8 * shape.layout.num_hidden) // number_bytes)
    taken = [(getattr(job, name), size) for name, size in sizes_of.items()]
    taken.append((job.layers[0].values_at, 2 * job.images_step))
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layer = job.layers[number]
        num_parameters = (inputs + 1) * (outputs + cuda_plan.PAD)
        taken += [(layer.weights_at, num_parameters), (layer.deltas_at, rows * (outputs + cuda_plan.PAD))]
        if number < len(sizes) - 1:
            taken.append((layer.values_at, rows * (outputs + cuda_plan.PAD)))
            taken += [(layer.dropped_at, rows * (outputs + cuda_plan.PAD))] if has_dropout else []
        if state_in_shared:
            taken.append((layer.first_at, num_parameters))
            taken += [(layer.second_at, num_parameters)] if shape.is_adam else []
    taken.sort()
    assert all(place % 4 == 0 for place, _ in taken)
    assert all(place + size <= after for (place, size), (after, _) in pairwise(taken))
    assert (taken[-1][0] + taken[-1][1]) * number_bytes <= plan.shared_bytes
    # The two sums of an evaluation lie where its images lay, without a barrier before them: see `evaluate` in train.cu.
    assert 2 * job.images_step * number_bytes >= 2 * 8 * cuda_plan.SUM_THREADS
    assert job.scratch_at == job.layers[0].values_at
    # The scratch memory may lie on values, deltas and images alone: what comes after them begins beyond it.
    scratch = 8 * cuda_plan.SUM_THREADS * max(2, 2 * job.num_layers)
    if shape.batch_size < shape.num_train:
        scratch = max(scratch, 4 * (shape.num_train + 3 + cuda_plan.BUCKETS + threads))
    kept = [place for name, place in ((name, getattr(job, name)) for name in sizes_of)]
    kept += [job.layers[number].first_at for number in range(1, job.num_layers + 1) if state_in_shared]
    assert all(place * number_bytes >= job.scratch_at * number_bytes + scratch for place in kept)
    assert all(job.layers[number].weights_at < job.scratch_at for number in range(1, job.num_layers + 1))


@pytest.mark.parametrize("batch_size", range(1, 200))
def test_a_batch_is_cut_as_evenly_as_possible(batch_size: int) -> None:
    rows = chunk_rows(batch_size)
    assert rows <= 32
    assert rows % (4 if batch_size <= 32 else 8) == 0
    assert -(-batch_size // rows) == -(-batch_size // 32)


@given(st.integers(0, 2**16 - 1), st.integers(2, 300))
def test_the_inverse_divides(item: int, divisor: int) -> None:
    assert (item * cuda_plan._inverse(divisor)) >> 32 == item // divisor


def test_networks_of_the_presets_fit_consumer_gpus_and_wider_ones_do_not() -> None:
    for hidden_sizes in ((12, 12), (24, 24), (52, 52)):
        for is_adam in (False, True):
            make_plan(
                shape_of(hidden_sizes, is_adam=is_adam), 4, CONSUMER, num_runs=48, num_images=1797, has_dropout=True
            )
    with pytest.raises(DoesNotFit, match="KiB of shared memory, of at most 98 KiB"):
        make_plan(shape_of((128, 64)), 4, CONSUMER, num_runs=1, num_images=1797, has_dropout=False)
    make_plan(shape_of((128, 64)), 4, H100, num_runs=1, num_images=1797, has_dropout=True)
    with pytest.raises(DoesNotFit, match="225 KiB"):
        make_plan(shape_of((512,)), 4, H100, num_runs=1, num_images=1797, has_dropout=False)
    with pytest.raises(DoesNotFit, match="70000 images"):
        make_plan(shape_of(), 4, H100, num_runs=1, num_images=70_000, has_dropout=False)


def test_the_state_moves_out_where_more_blocks_fit_without_it() -> None:
    """One run keeps its state in shared memory; a GPU full of runs leaves it in memory, for more blocks at once."""
    for num_runs, expected in ((1, 1), (132, 1), (132 * 8, 0)):
        plan = make_plan(shape_of((24, 24)), 4, H100, num_runs=num_runs, num_images=1797, has_dropout=False)
        assert plan.job.state_in_shared == expected
    adam = make_plan(shape_of((128, 64), is_adam=True), 4, H100, num_runs=1, num_images=1797, has_dropout=True)
    assert adam.job.state_in_shared == 0, "with it, the network would not fit"


def test_what_a_block_takes_follows_from_how_many_share_a_multiprocessor() -> None:
    """Runs that are alone on theirs have more threads, and evaluate more samples at a time."""
    plans = [
        make_plan(shape_of((12, 12)), 4, H100, num_runs=num_runs, num_images=1797, has_dropout=False)
        for num_runs in (132, 4 * 132)
    ]
    assert [(plan.threads, plan.job.evaluated_rows) for plan in plans] == [(256, 64), (128, 32)]
    for plan, blocks in zip(plans, (1, 4), strict=True):
        assert blocks * (plan.shared_bytes + H100.kernel_bytes + cuda_plan.RESERVED_BYTES) <= H100.multiprocessor_bytes
        assert blocks * plan.threads * cuda_plan.MAX_REGISTERS <= cuda_plan.REGISTERS


@pytest.mark.parametrize("wrong", [{"threads": 48}, {"threads": 1024}, {"evaluated_rows": 50}, {"evaluated_rows": 68}])
def test_numbers_that_no_block_may_have_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot"):
        make_plan(shape_of(), 4, H100, num_runs=1, num_images=1797, has_dropout=False, **wrong)


def test_a_stack_that_cannot_be_planned_names_the_limit(digits: Digits) -> None:
    member = digits.member(hidden_sizes=(1024, 1024), optimizer=OptimizerConfig("sgd", 0.1))
    with pytest.raises(DoesNotFit):
        make_plan(Shape.of(member), 4, H100, num_runs=1, num_images=1797, has_dropout=False)

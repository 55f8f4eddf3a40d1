"""The two inner loops of a matrix product, for compiled code: tiles of numbers that stay in a CPU's registers.

Numba turns plain loops into good code, but not these: arrays might overlap, so sums would go to memory and back at each
step (measured on one core: 8 to 20 billion multiply-adds a second in plain loops, 40 in tiles). So they are spelled out
in LLVM's own language, which fits them to the CPU at hand.

The method is the register blocking of K. Goto and R. A. van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM TOMS 34(3), 2008. All matrices lie row after row in flat, contiguous arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ROWS = 4
COLUMNS = 16
FUSED = ("contract",)  # a product and a sum may become one fused multiply-add


def code_generator(function: Callable[..., Any]) -> Any:
    """Numba's `intrinsic`: calls of the function in compiled code become the instructions that it generates."""
    return intrinsic(function)


@code_generator
def add_product_tile(
    _context: Any,
    out: Any,
    _out_start: Any,
    _out_stride: Any,
    left: Any,
    _left_start: Any,
    _left_stride: Any,
    _left_step: Any,
    right: Any,
    _right_start: Any,
    _right_stride: Any,
    _count: Any,
) -> Any:
    """For r < 4 and c < 16, over all k < count (at least 1).

    out[out_start + r·out_stride + c] +=
        Σ left[left_start + r·left_stride + k·left_step] · right[right_start + k·right_stride + c]
    """
    whole = types.intp
    return types.void(out, whole, whole, left, whole, whole, whole, right, whole, whole, whole), _generate_product


@code_generator
def transpose_tile(
    _context: Any, out: Any, _out_start: Any, _out_stride: Any, source: Any, _source_start: Any, _source_stride: Any
) -> Any:
    """For r < 16 and c < 16: out[out_start + c·out_stride + r] = source[source_start + r·source_stride + c]."""
    whole = types.intp
    return types.void(out, whole, whole, source, whole, whole), _generate_transposition


class _Tile:
    """LLVM instructions for vectors of 16 numbers."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.builder = builder
        self._context = context
        self.scalar = context.get_value_type(kind.dtype)
        self.vector = ir.VectorType(self.scalar, COLUMNS)
        self.undefined = ir.Constant(self.vector, ir.Undefined)
        self._alignment = kind.dtype.bitwidth // 8

    def data(self, array: Any, kind: Any) -> Any:
        return self._context.make_array(kind)(self._context, self.builder, array).data

    def places(self, start: Any, stride: Any, count: int) -> list[Any]:
        return [
            self.builder.add(start, self.builder.mul(stride, ir.Constant(start.type, number)))
            for number in range(count)
        ]

    def load(self, data: Any, place: Any) -> Any:
        return self.builder.load(self._pointer(data, place), align=self._alignment)

    def store(self, value: Any, data: Any, place: Any) -> None:
        self.builder.store(value, self._pointer(data, place), align=self._alignment)

    def load_to_all(self, data: Any, place: Any) -> Any:
        number = self.builder.load(self.builder.gep(data, [place]))
        one = self.builder.insert_element(self.undefined, number, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, self.undefined, [0] * COLUMNS)

    def shuffle(self, first: Any, second: Any, lanes: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), lanes)
        return self.builder.shuffle_vector(first, second, mask)

    def _pointer(self, data: Any, place: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [place]), self.vector.as_pointer())


def _generate_product(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    out, out_start, out_stride, left, left_start, left_stride, left_step, right, right_start, right_stride, count = (
        arguments
    )
    tile = _Tile(context, builder, signature.args[0])
    out, left, right = (
        tile.data(out, signature.args[0]),
        tile.data(left, signature.args[3]),
        tile.data(right, signature.args[7]),
    )
    out_places = tile.places(out_start, out_stride, ROWS)
    left_places = tile.places(left_start, left_stride, ROWS)
    before = [tile.load(out, place) for place in out_places]

    entry, loop, end = builder.block, builder.append_basic_block("tile"), builder.append_basic_block("tile.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(count.type)
    sums = [builder.phi(tile.vector) for _ in range(ROWS)]
    right_row = tile.load(right, builder.add(right_start, builder.mul(k, right_stride)))
    left_offset = builder.mul(k, left_step)
    after = []
    for place, total in zip(left_places, sums, strict=True):
        factor = tile.load_to_all(left, builder.add(place, left_offset))
        after.append(builder.fadd(total, builder.fmul(factor, right_row, flags=FUSED), flags=FUSED))
    following = builder.add(k, ir.Constant(count.type, 1))
    for phi, first, next_one in zip(
        (k, *sums), (ir.Constant(count.type, 0), *before), (following, *after), strict=True
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(next_one, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)

    builder.position_at_end(end)
    for place, total in zip(out_places, after, strict=True):
        tile.store(total, out, place)
    return context.get_dummy_value()


def _generate_transposition(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Four rounds; each swaps the off-diagonal blocks of every square of blocks, 8 × 8 first, single numbers last."""
    out, out_start, out_stride, source, source_start, source_stride = arguments
    tile = _Tile(context, builder, signature.args[0])
    out, source = tile.data(out, signature.args[0]), tile.data(source, signature.args[3])
    rows = [tile.load(source, place) for place in tile.places(source_start, source_stride, COLUMNS)]
    for width in (8, 4, 2, 1):
        columns = range(COLUMNS)
        upper = [column if column & width == 0 else COLUMNS + column - width for column in columns]
        lower = [column + width if column & width == 0 else COLUMNS + column for column in columns]
        for number in range(COLUMNS):
            if number & width == 0:
                pair = rows[number], rows[number + width]
                rows[number], rows[number + width] = tile.shuffle(*pair, upper), tile.shuffle(*pair, lower)
    for place, row in zip(tile.places(out_start, out_stride, COLUMNS), rows, strict=True):
        tile.store(row, out, place)
    return context.get_dummy_value()

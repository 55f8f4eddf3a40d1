"""The two inner loops of the engine's matrix products, as LLVM instructions: a product tile and a transposition.

LLVM compiles plain loops to good code, but not these two: as far as it knows, the arrays may overlap, so it stores each
sum to memory and loads it again at every step. Measured on one core: 8 to 20 billion multiply-adds a second in plain
loops, 40 in tiles. Here the functions generate LLVM's intermediate representation themselves, with the sums as values
that need no memory. LLVM then chooses registers and instructions for the CPU at hand (AVX2, AVX-512, NEON).

The method is the register blocking of K. Goto and R. A. van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM TOMS 34(3), 2008. The package's docstring has a picture of a tile.

A tile is ROWS = 4 × COLUMNS = 16 numbers. All matrices are stored row by row in flat, contiguous arrays; starts,
strides and steps are counted in numbers, not in bytes. Nothing here checks bounds.

The generators at the end run once for each signature that Numba compiles. Their Python loops are thereby unrolled, and
their variables (`k`, `sums`) are LLVM values: names for what the code computes later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# 4 × 16 sums in float32 take 4 registers of AVX-512 or 8 of AVX2, and leave enough for the factors. More rows would
# need batches padded to more than a multiple of 4.
ROWS = 4
COLUMNS = 16  # as `layout.MULTIPLE`: every padded width is a whole number of tiles
FUSED = ("contract",)  # LLVM may turn a product and a sum into one fused multiply-add


def code_generator(function: Callable[..., Any]) -> Any:
    """Numba's `intrinsic`: a call of the function in compiled code becomes the instructions that it generates.

    The function itself runs while Numba compiles: it receives the arguments' types and returns the call's signature and
    a generator (https://numba.readthedocs.io/en/stable/extending/high-level.html#implementing-intrinsics).
    """
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
    """Add one 4 × 16 tile of a matrix product to `out`: for r < 4 and c < 16, summed over k < count (at least 1).

    out[out_start + r·out_stride + c] +=
        Σ left[left_start + r·left_stride + k·left_step] · right[right_start + k·right_stride + c]

    `left` has a stride and a step, so that it can be read as its transpose; `right` and `out` have neighbouring columns
    next to each other, since a vector of 16 is loaded and stored at once.
    """
    whole = types.intp  # a signed integer of a pointer's size
    return types.void(out, whole, whole, left, whole, whole, whole, right, whole, whole, whole), _generate_product


@code_generator
def transpose_tile(
    _context: Any, out: Any, _out_start: Any, _out_stride: Any, source: Any, _source_start: Any, _source_stride: Any
) -> Any:
    """Transpose a 16 × 16 square.

    out[out_start + c·out_stride + r] = source[source_start + r·source_stride + c], for r < 16 and c < 16.
    """
    whole = types.intp
    return types.void(out, whole, whole, source, whole, whole), _generate_transposition


class _Tile:
    """Emits LLVM instructions for vectors of 16 numbers; `kind` is the Numba type of the arrays."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.builder = builder
        self._context = context
        self.scalar = context.get_value_type(kind.dtype)
        self.vector = ir.VectorType(self.scalar, COLUMNS)
        self.undefined = ir.Constant(self.vector, ir.Undefined)
        # The alignment of one number: a vector may begin at any number, not only at multiples of 16.
        self._alignment = kind.dtype.bitwidth // 8

    def data(self, array: Any, kind: Any) -> Any:
        """The pointer to an array's first number."""
        return self._context.make_array(kind)(self._context, self.builder, array).data

    def places(self, start: Any, stride: Any, count: int) -> list[Any]:
        """The indices start, start + stride, start + 2·stride and so on."""
        return [
            self.builder.add(start, self.builder.mul(stride, ir.Constant(start.type, number)))
            for number in range(count)
        ]

    def load(self, data: Any, place: Any) -> Any:
        return self.builder.load(self._pointer(data, place), align=self._alignment)

    def store(self, value: Any, data: Any, place: Any) -> None:
        self.builder.store(value, self._pointer(data, place), align=self._alignment)

    def load_to_all(self, data: Any, place: Any) -> Any:
        """Load one number into all 16 lanes: LLVM's idiom for a broadcast, an insertion and a shuffle."""
        number = self.builder.load(self.builder.gep(data, [place]))
        one = self.builder.insert_element(self.undefined, number, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, self.undefined, [0] * COLUMNS)

    def shuffle(self, first: Any, second: Any, lanes: list[int]) -> Any:
        """A vector of lanes of two others; numbers from 16 on are lanes of the second."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), lanes)
        return self.builder.shuffle_vector(first, second, mask)

    def _pointer(self, data: Any, place: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [place]), self.vector.as_pointer())


def _generate_product(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Three basic blocks: load the 4 × 16 sums, loop over k, store the sums. The loop keeps them out of memory."""
    out, out_start, out_stride, left, left_start, left_stride, left_step, right, right_start, right_stride, count = (
        arguments
    )
    tile = _Tile(context, builder, signature.args[0])
    out, left, right = (
        tile.data(out, signature.args[0]),
        tile.data(left, signature.args[3]),
        tile.data(right, signature.args[7]),
    )
    out_places = tile.places(out_start, out_stride, ROWS)  # where the 4 rows of the tile begin
    left_places = tile.places(left_start, left_stride, ROWS)  # row r of `left` at k = 0
    before = [tile.load(out, place) for place in out_places]  # 4 vectors of 16

    # The loop's body is one block that branches to itself. A phi is a variable of the loop: its value comes from
    # `entry` at first and from the end of the body afterwards (https://llvm.org/docs/LangRef.html#phi-instruction).
    entry, loop, end = builder.block, builder.append_basic_block("tile"), builder.append_basic_block("tile.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(count.type)  # from 0 to count - 1
    sums = [builder.phi(tile.vector) for _ in range(ROWS)]
    # One step adds an outer product: a column of 4 numbers of `left` × a row of 16 numbers of `right`.
    right_row = tile.load(right, builder.add(right_start, builder.mul(k, right_stride)))
    left_offset = builder.mul(k, left_step)
    after = []
    for place, total in zip(left_places, sums, strict=True):
        factor = tile.load_to_all(left, builder.add(place, left_offset))  # left[r, k], 16 times
        after.append(builder.fadd(total, builder.fmul(factor, right_row, flags=FUSED), flags=FUSED))
    following = builder.add(k, ir.Constant(count.type, 1))
    # The values for the next round exist only now, so the phis get their two sources here.
    for phi, first, next_one in zip(
        (k, *sums), (ir.Constant(count.type, 0), *before), (following, *after), strict=True
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(next_one, loop)
    # The condition is at the end of the body: the loop runs at least once, hence `count` is at least 1.
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)

    builder.position_at_end(end)
    for place, total in zip(out_places, after, strict=True):
        tile.store(total, out, place)
    return context.get_dummy_value()  # the intrinsic's result is void


def _generate_transposition(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Transpose 16 vectors of 16 in four rounds of shuffles, for blocks of 8 × 8, 4 × 4, 2 × 2 and single numbers.

    Each round swaps the two off-diagonal blocks of every square of 2 × 2 blocks: row r with the bit `width` clear and
    row r + width exchange the upper's right halves for the lower's left halves. This is recursive block transposition,
    J. O. Eklundh, "A fast computer method for matrix transposing", IEEE Transactions on Computers C-21(7), 1972.
    """
    out, out_start, out_stride, source, source_start, source_stride = arguments
    tile = _Tile(context, builder, signature.args[0])
    out, source = tile.data(out, signature.args[0]), tile.data(source, signature.args[3])
    rows = [tile.load(source, place) for place in tile.places(source_start, source_stride, COLUMNS)]  # 16 vectors of 16
    for width in (8, 4, 2, 1):
        columns = range(COLUMNS)
        # Lanes of the new rows; from 16 on, of the pair's lower row.
        upper = [column if column & width == 0 else COLUMNS + column - width for column in columns]
        lower = [column + width if column & width == 0 else COLUMNS + column for column in columns]
        for number in range(COLUMNS):
            if number & width == 0:  # the upper row of a pair; its partner is `width` rows further down
                pair = rows[number], rows[number + width]
                rows[number], rows[number + width] = tile.shuffle(*pair, upper), tile.shuffle(*pair, lower)
    for place, row in zip(tile.places(out_start, out_stride, COLUMNS), rows, strict=True):
        tile.store(row, out, place)
    return context.get_dummy_value()

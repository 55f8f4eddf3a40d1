// The matrix products of one network, in shared memory: forward, back, and the gradients with the optimizer's step.
//
// A thread computes a tile of the result in registers, over the whole depth of the product. Loops over the depth are
// unrolled four times, so that many loads are on their way at once: a block has few warps to hide them. The order of a
// sum depends on the shape alone: not on the tile, the thread or the number of threads. Letters as in network.cuh.
#pragma once
#include "network.cuh"

template <int COLUMNS>
__device__ __forceinline__ void load(const real* from, real (&to)[COLUMNS]) {
    if constexpr (COLUMNS == 4) load4(from, to);
    else
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) to[i] = from[i];
}

template <int COLUMNS>
__device__ __forceinline__ void store(real* to, const real (&from)[COLUMNS]) {
    if constexpr (COLUMNS == 4) store4(to, from);
    else
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) to[i] = from[i];
}

// x (B x D) . weights (D x H) + biases (H), in tiles of 4 x COLUMNS. Calls finish(b, h, sums) with each tile.
// `x` and `weights` are places in shared memory.
template <int COLUMNS, class Finish>
__device__ __forceinline__ void multiply_forward(int x, int weights, int D, int H, int rows, uint32_t inverse, Finish finish) {
    int x_line = D + PAD, line = H + PAD, in_line = H / COLUMNS, count = (rows + TILE - 1) / TILE * in_line;
    for (int item = threadIdx.x; item < count; item += blockDim.x) {
        int tile_row = quotient(item, inverse), b = TILE * tile_row, h = COLUMNS * (item - tile_row * in_line);
        real sums[TILE][COLUMNS], biases[COLUMNS];
        load<COLUMNS>(shared + weights + D * line + h, biases);
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sums[i][c] = biases[c];
#pragma unroll 4
        for (int d = 0; d < D; d += 4) {
            real xs[TILE][4];
#pragma unroll
            for (int i = 0; i < TILE; i++) load4(shared + x + (b + i) * x_line + d, xs[i]);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                real ws[COLUMNS];
                load<COLUMNS>(shared + weights + (d + j) * line + h, ws);
#pragma unroll
                for (int i = 0; i < TILE; i++)
#pragma unroll
                    for (int c = 0; c < COLUMNS; c++) sums[i][c] = multiply_add(xs[i][j], ws[c], sums[i][c]);
            }
        }
        finish(b, h, sums);
    }
}

// deltas (B x H) . weights^T (H x D), in tiles of 4 x COLUMNS. Calls finish(b, d, sums) with each tile.
template <int COLUMNS, class Finish>
__device__ __forceinline__ void multiply_back(int deltas, int weights, int D, int H, int rows, uint32_t inverse, Finish finish) {
    int line = H + PAD, in_line = D / COLUMNS, count = (rows + TILE - 1) / TILE * in_line;
    for (int item = threadIdx.x; item < count; item += blockDim.x) {
        int tile_row = quotient(item, inverse), b = TILE * tile_row, d = COLUMNS * (item - tile_row * in_line);
        real sums[TILE][COLUMNS];
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sums[i][c] = 0;
#pragma unroll 4
        for (int h = 0; h < H; h += 4) {
            real ds[TILE][4], ws[COLUMNS][4];
#pragma unroll
            for (int i = 0; i < TILE; i++) load4(shared + deltas + (b + i) * line + h, ds[i]);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) load4(shared + weights + (d + c) * line + h, ws[c]);
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int i = 0; i < TILE; i++)
#pragma unroll
                    for (int c = 0; c < COLUMNS; c++) sums[i][c] = multiply_add(ds[i][j], ws[c][j], sums[i][c]);
        }
        finish(b, d, sums);
    }
}

// What the formulas of an optimizer need of a run, in registers
struct OptimizerSettings {
    real rate, inverse_root;  // `Update`'s
    real decay, momentum, gain1, beta2, gain2, epsilon;
    bool is_nesterov;
};

// One step of torch.optim.SGD on four parameters w with gradients g and momenta m; the formulas of kernels.step_sgd
__device__ __forceinline__ void step_sgd(const OptimizerSettings& set, real (&w)[4], const real (&g)[4], real (&m)[4]) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        real gradient = multiply_add(set.decay, w[c], g[c]);
        m[c] = multiply_add(set.momentum, m[c], gradient);
        real ahead = multiply_add(set.momentum, m[c], gradient), direction = set.is_nesterov ? ahead : m[c];
        w[c] = multiply_add(-set.rate, direction, w[c]);
    }
}

// One step of torch.optim.Adam; m and v are the running means of gradients and of their squares. The rate and the
// inverse root hold the corrections of both means; the formulas of kernels.step_adam.
__device__ __forceinline__ void step_adam(
    const OptimizerSettings& set, real (&w)[4], const real (&g)[4], real (&m)[4], real (&v)[4]) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        real gradient = multiply_add(set.decay, w[c], g[c]);
        m[c] = multiply_add(gradient - m[c], set.gain1, m[c]);
        v[c] = multiply_add(set.gain2 * gradient, gradient, set.beta2 * v[c]);
        w[c] -= set.rate * m[c] / multiply_add(square_root(v[c]), set.inverse_root, set.epsilon);
    }
}

// What `update_layers` does with a chunk's gradients
struct Update {
    bool is_first, is_last;  // chunk of its batch: gradients add up over the chunks, the last one brings the step
    bool keeps_gradients;    // in memory, at the end of an epoch
    real rate, inverse_root;
};

// Up to four lines of four numbers, `step` numbers apart
__device__ __forceinline__ void load_lines(const real* from, int step, int count, real (&to)[TILE][4]) {
#pragma unroll
    for (int i = 0; i < TILE; i++)
        if (i < count) load4(from + i * step, to[i]);
}

__device__ __forceinline__ void store_lines(real* to, int step, int count, const real (&from)[TILE][4]) {
#pragma unroll
    for (int i = 0; i < TILE; i++)
        if (i < count) store4(to + i * step, from[i]);
}

// A tile of gradients, 4 x 4 numbers from line d (of the D + 1) and column h on, or one line for the biases. All that
// a tile needs is read before anything of it is written, so that the reads do not wait for one another.
template <bool STATE_IN_SHARED>
__device__ __forceinline__ void update_tile(
    const Layer& layer, int d, int h, real (&sums)[TILE][4], const Update& update, const OptimizerSettings& set) {
    int D = layer.inputs, H = layer.outputs, line = H + PAD, place = d * line + h, num_lines = d == D ? 1 : TILE;
    uint64_t at = run.row_at + layer.start + d * H + h;  // in R x P
    if (!update.is_first) {
        real before[TILE][4];
        load_lines(job.gradients + at, H, num_lines, before);
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int c = 0; c < 4; c++) sums[i][c] += before[i][c];
    }
    if (!update.is_last || update.keeps_gradients) store_lines(job.gradients + at, H, num_lines, sums);
    if (!update.is_last) return;
    real* weights = shared + layer.weights_at + place;
    real* first = STATE_IN_SHARED ? shared + layer.first_at + place : job.first + at;
    real* second = STATE_IN_SHARED ? shared + layer.second_at + place : job.second + at;
    int state_line = STATE_IN_SHARED ? line : H;
    real ws[TILE][4], ms[TILE][4];
    load_lines(weights, line, num_lines, ws);
    load_lines(first, state_line, num_lines, ms);
    if (job.is_adam) {
        real vs[TILE][4];
        load_lines(second, state_line, num_lines, vs);
#pragma unroll
        for (int i = 0; i < TILE; i++)
            if (i < num_lines) step_adam(set, ws[i], sums[i], ms[i], vs[i]);
        store_lines(second, state_line, num_lines, vs);
    } else {
#pragma unroll
        for (int i = 0; i < TILE; i++)
            if (i < num_lines) step_sgd(set, ws[i], sums[i], ms[i]);
    }
    store_lines(weights, line, num_lines, ws);
    store_lines(first, state_line, num_lines, ms);
}

// Gradients of all layers over a chunk: source^T (D + 1 x B) . deltas (B x H), 4 x 4 numbers a thread; at the end of a
// batch, the optimizer's step. A thread has the same tiles at every call, so only it touches their parameters.
__device__ __noinline__ void update_layers(int x, int rows, Update update) {
    int count = job.layers[job.num_layers].end_item;
    const OptimizerSettings set = {update.rate, update.inverse_root, run.decay, run.momentum, run.gain1, run.beta2, run.gain2,
                          run.epsilon, run.is_nesterov != 0};
    for (int item = threadIdx.x; item < count; item += blockDim.x) {
        int number = 1;
        while (item >= job.layers[number].end_item) number++;
        const Layer &layer = job.layers[number], &before = job.layers[number - 1];
        int D = layer.inputs, H = layer.outputs, place = item - before.end_item;
        int tile_row = quotient(place, layer.gradient_inverse);
        int d = TILE * tile_row, h = 4 * (place - tile_row * (H / 4));
        int source = number == 1 ? x : run.has_dropout ? before.dropped_at : before.values_at;
        real sums[TILE][4];
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int c = 0; c < 4; c++) sums[i][c] = 0;
#pragma unroll 4
        for (int b = 0; b < rows; b++) {
            real xs[4], ds[4];
            load4(shared + source + b * (D + PAD) + d, xs);  // d = D: the pad, 1 0 0 0
            load4(shared + layer.deltas_at + b * (H + PAD) + h, ds);
#pragma unroll
            for (int i = 0; i < TILE; i++)
#pragma unroll
                for (int c = 0; c < 4; c++) sums[i][c] = multiply_add(xs[i], ds[c], sums[i][c]);
        }
        if (job.state_in_shared) update_tile<true>(layer, d, h, sums, update, set);
        else update_tile<false>(layer, d, h, sums, update, set);
    }
}

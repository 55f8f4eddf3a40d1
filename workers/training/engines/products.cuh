// The matrix products of one network, in shared memory: forward, back, and the gradients with the optimizer's step.
//
// A thread computes a tile of the result in registers, over the whole depth of the product. The order of a sum depends
// on the shape alone: not on the tile, the thread or the number of threads. Letters as in network.cuh.
#pragma once
#include "network.cuh"

template <int COLUMNS>
__device__ __forceinline__ void load(const real* from, real (&to)[COLUMNS]) {
    if constexpr (COLUMNS == 4) load4(from, to);
    else
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) to[i] = from[i];
}

// x (B x D) . weights (D x H) + biases (H), in tiles of 4 x COLUMNS. Calls finish(b, h, sum) with each number.
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
#pragma unroll 2
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
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) finish(b + i, h + c, sums[i][c]);
    }
}

// deltas (B x H) . weights^T (H x D), in tiles of 4 x COLUMNS. Calls finish(b, d, sum) with each number.
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
#pragma unroll 2
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
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) finish(b + i, d + c, sums[i][c]);
    }
}

// One step of torch.optim.SGD on four parameters w with gradients g and momenta m; the formulas of kernels.step_sgd
__device__ __forceinline__ void step_sgd(real rate, real (&w)[4], const real (&g)[4], real (&m)[4]) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        real gradient = multiply_add(run.decay, w[c], g[c]);
        m[c] = multiply_add(run.momentum, m[c], gradient);
        real direction = run.is_nesterov ? multiply_add(run.momentum, m[c], gradient) : m[c];
        w[c] = multiply_add(-rate, direction, w[c]);
    }
}

// One step of torch.optim.Adam; m and v are the running means of gradients and of their squares. `rate` and
// `inverse_root` hold the corrections of both means; the formulas of kernels.step_adam.
__device__ __forceinline__ void step_adam(
    real rate, real inverse_root, real (&w)[4], const real (&g)[4], real (&m)[4], real (&v)[4]) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        real gradient = multiply_add(run.decay, w[c], g[c]);
        m[c] = multiply_add(gradient - m[c], run.gain1, m[c]);
        v[c] = multiply_add(run.gain2 * gradient, gradient, run.beta2 * v[c]);
        w[c] -= rate * m[c] / multiply_add(square_root(v[c]), inverse_root, run.epsilon);
    }
}

// What `update_layers` does with a chunk's gradients
struct Update {
    bool is_first, is_last;  // chunk of its batch: gradients add up over the chunks, the last one brings the step
    bool keeps_gradients;    // in memory, at the end of an epoch
    real rate, inverse_root;
};

// A tile of gradients, 4 x 4 numbers from line d (of the D + 1) and column h on, or one line for the biases
template <bool STATE_IN_SHARED>
__device__ __forceinline__ void update_tile(const Layer& layer, int d, int h, const real (&sums)[TILE][4], const Update& update) {
    int D = layer.inputs, H = layer.outputs, line = H + PAD, place = d * line + h, num_lines = d == D ? 1 : TILE;
    uint64_t at = run.row_at + layer.start + d * H + h;  // in R x P
    real* first = STATE_IN_SHARED ? shared + layer.first_at + place : job.first + at;
    real* second = STATE_IN_SHARED ? shared + layer.second_at + place : job.second + at;
    int state_line = STATE_IN_SHARED ? line : H;
#pragma unroll
    for (int i = 0; i < TILE; i++) {
        if (i >= num_lines) break;
        real gradients[4];
#pragma unroll
        for (int c = 0; c < 4; c++) gradients[c] = sums[i][c];
        if (!update.is_first) {
            real before[4];
            load4(job.gradients + at + i * H, before);
#pragma unroll
            for (int c = 0; c < 4; c++) gradients[c] += before[c];
        }
        if (!update.is_last || update.keeps_gradients) store4(job.gradients + at + i * H, gradients);
        if (!update.is_last) continue;
        real ws[4], ms[4], vs[4];
        real* weights = shared + layer.weights_at + place + i * line;
        load4(weights, ws);
        load4(first + i * state_line, ms);
        if (job.is_adam) {
            load4(second + i * state_line, vs);
            step_adam(update.rate, update.inverse_root, ws, gradients, ms, vs);
            store4(second + i * state_line, vs);
        } else {
            step_sgd(update.rate, ws, gradients, ms);
        }
        store4(weights, ws);
        store4(first + i * state_line, ms);
    }
}

// Gradients of all layers over a chunk: source^T (D + 1 x B) . deltas (B x H), 4 x 4 numbers a thread; at the end of a
// batch, the optimizer's step. A thread has the same tiles at every call, so only it touches their parameters.
__device__ __noinline__ void update_layers(int x, int rows, Update update) {
    int count = job.layers[job.num_layers].end_item;
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
#pragma unroll 2
        for (int b = 0; b < rows; b++) {
            real xs[4], ds[4];
            load4(shared + source + b * (D + PAD) + d, xs);  // d = D: the pad, 1 0 0 0
            load4(shared + layer.deltas_at + b * (H + PAD) + h, ds);
#pragma unroll
            for (int i = 0; i < TILE; i++)
#pragma unroll
                for (int c = 0; c < 4; c++) sums[i][c] = multiply_add(xs[i], ds[c], sums[i][c]);
        }
        if (job.state_in_shared) update_tile<true>(layer, d, h, sums, update);
        else update_tile<false>(layer, d, h, sums, update);
    }
}

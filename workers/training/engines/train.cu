// The CUDA engine: one block trains one network for some epochs, without asking the host in between.
//
// Weights, activations and, where it fits, the optimizer's state stay in shared memory. A launch has one block a run
// (blockIdx.x) and one job a stack (blockIdx.y), so stacks of different shapes may share it. The host's side is
// cuda_plan.py (what lies where), cuda_driver.py (compilation, launch) and cuda_engine.py. NVRTC compiles this file for
// a GPU; any C++ compiler compiles it with tests/workers/training/engines/emulate.h, which runs a block's threads on a
// CPU, in any order between two barriers.
//
// A run's bits
// ------------
// A block computes a run alone, each sum has one order, multiply-adds are written out (fma) and the compiler fuses none
// (-fmad=false), exponential and logarithm are written out in float32, divisions and square roots are IEEE's. So a run's
// bits depend neither on slot, stack, number of threads, tiles and the place of its state, nor on how its epochs are
// split into launches. Float32 depends on the GPU or compiler only where cos and pow in float64 round differently
// (schedules, Adam's corrections). The rows of a chunk are part of the definition; they depend on the batch alone.
//
// An epoch, and why each barrier stands
// -------------------------------------
// All threads of the block do each line together: a line's work is split into items, and thread t takes the items t,
// t + threads, ... A barrier stands between two lines where one reads what other threads wrote in the other, or
// overwrites what they may still read. (n) are the barriers, as they are numbered below.
//
//     draw the order                   words, places and sums lie where values and deltas lie: its own barriers, the last of
//                                      which frees the scratch memory
//     look up the rows, the copies     each thread has its own part of the order
//   (1)                                the rows and copies of all samples are there
//     write the pads                   fetch the first chunk, draw its masks
//     for each chunk of each batch:
//   (2)                                images, labels, masks and the last step's weights are there; the other buffer
//                                      and the last rates are no longer read
//         fetch the next chunk         into the other buffer, while this one is trained on; find rates, now and then
//         for each layer: forward      writes values, and values after dropout; the last layer: logits
//   (3)       after each               the next line reads other threads' values or logits
//         softmax, a thread a row      logits become deltas; loss and right predictions stay in the thread
//   (4)                                the next line reads other threads' deltas
//         for each layer but the first, from the last: back
//   (5)       after each               the next line reads other threads' deltas; the weights are no longer read
//         draw the next masks          the last reader was the back pass
//         gradients and step           reads values and deltas; each thread overwrites its own weights and state
//     end
//   (6)                                weights are final, the scratch memory is free
//
// Evaluation is: for each chunk (7), which is as (2); forward; softmax. Sums over the block have two barriers in
// `find_totals`, which also frees the scratch memory. After (8) the kernel's job and run are in shared memory.
// tests/workers/training/engines/test_cuda_barriers.py removes each barrier in turn, and notices.
#include "draws.cuh"
#include "network.cuh"
#include "products.cuh"

struct Chunk {  // rows `row` to `row` + `rows` of a step's batch; rows is 0 or less after the last step
    int step, row, rows;
};

__device__ __forceinline__ int size_of_batch(int step) { return min(job.batch_size, job.num_train - step * job.batch_size); }

__device__ __forceinline__ Chunk chunk_at(int step, int row) {
    return {step, row, min(job.chunk, size_of_batch(step) - row)};
}

__device__ __forceinline__ bool is_last(const Chunk& chunk) { return chunk.row + chunk.rows >= size_of_batch(chunk.step); }

__device__ __forceinline__ Chunk after(const Chunk& chunk) {
    return is_last(chunk) ? chunk_at(chunk.step + 1, 0) : chunk_at(chunk.step, chunk.row + chunk.rows);
}

// --- a chunk's inputs ----------------------------------------------------------------------------------------------

// Begins to bring `rows` samples to a buffer: images and labels. In training they are the epoch's next, and may show
// augmented copies; in evaluation, `samples` has the rows of their images. A thread finds several rows before it needs one.
__device__ __noinline__ void fetch(const int* samples, bool in_training, int begin, int rows, int buffer) {
    constexpr int at_once = 16 / sizeof(real), parts = PIXELS / at_once, found_at_once = 4;
    bool has_copies = in_training && run.num_copies > 0;
    int count = rows * parts;
    for (int first = threadIdx.x; first < count; first += found_at_once * blockDim.x) {
        int found[found_at_once];
#pragma unroll
        for (int j = 0; j < found_at_once; j++) {
            int i = first + j * blockDim.x;
            if (i < count) found[j] = in_training ? order()[begin + i / parts] : samples[begin + i / parts];
        }
#pragma unroll
        for (int j = 0; j < found_at_once; j++) {
            int i = first + j * blockDim.x;
            if (i >= count) break;
            int b = i / parts, pixel = i % parts * at_once, row = found[j];
            real* to = shared + images_of(buffer) + b * (PIXELS + PAD) + pixel;
            if (has_copies) {
                uint64_t image = (uint64_t)copies()[begin + b] * job.bank_images + (row - run.first_row);
                const uint8_t* pixels = job.bank + image * PIXELS + pixel;
#pragma unroll
                for (int k = 0; k < at_once; k++) to[k] = (float)pixels[k] * run.scale;  // the bits of data.to_tensor
            } else {
                copy_async(to, job.images + (uint64_t)row * PIXELS + pixel);
            }
            if (pixel == 0) copy_async(labels_of(buffer) + b, job.labels + row);
        }
    }
}

// The pad beside each line of values becomes 1 0 0 0. The rest of what lay in the scratch memory may stay: the padded
// units of a line are written with the others, and rows beyond a chunk's are never added to anything.
__device__ __noinline__ void write_pads() {
    int rows = max(job.chunk, job.evaluated_rows);
    for (int number = 0; number < job.num_layers; number++) {
        const Layer& layer = job.layers[number];
        int line = layer.outputs + PAD;
        for (int i = threadIdx.x; i < rows * PAD; i += blockDim.x) {
            int place = i / PAD * line + layer.outputs + i % PAD;
            real value = i % PAD == 0 ? 1 : 0;
            shared[layer.values_at + place] = value;
            if (number == 0) shared[images_of(1) + place] = value;
            else if (job.has_dropout) shared[layer.dropped_at + place] = value;
        }
    }
}

// The learning rates of the next steps of an epoch, one a thread: with the schedule's factor, and with Adam's
// corrections of its means. As in kernels.rate_factor, step_sgd and step_adam, in float64 and rounded last.
__device__ __noinline__ void find_rates(int epoch, int first_step, int num_steps) {
    int step = first_step + threadIdx.x;
    if (step >= num_steps) return;
    const double* settings = job.settings + NUM_SETTINGS * run.slot;
    double number = (double)((long long)(epoch - 1) * num_steps + step);  // of steps since the training began
    double warmup = settings[WARMUP_STEPS], total = settings[TOTAL_STEPS], factor = 1, inverse_root = 1;
    if (total > 0) {
        if (number < warmup) factor = (number + 1) / warmup;
        else factor = 0.5 * (1 + cos(3.14159265358979323846 * ((number - warmup) / (total - warmup))));
    }
    double rate = settings[LEARNING_RATE] * factor;
    if (job.is_adam) {
        rate /= 1 - pow(settings[BETA1], number + 1);
        inverse_root = 1 / sqrt(1 - pow(settings[BETA2], number + 1));
    }
    shared[job.rates_at + 2 * threadIdx.x] = rate;
    shared[job.rates_at + 2 * threadIdx.x + 1] = inverse_root;
}

// --- forward and back ----------------------------------------------------------------------------------------------

// All layers on a chunk of images at `x`, in training with dropout; ends with the logits where the last layer's deltas lie
__device__ __noinline__ void forward_layers(int x, int rows, bool in_training) {
    bool has_dropout = in_training && run.has_dropout;
    real keep_scale = run.keep_scale;
    for (int number = 1; number <= job.num_layers; number++) {
        const Layer& layer = job.layers[number];
        bool is_output = number == job.num_layers;
        int D = layer.inputs, H = layer.outputs, line = H + PAD, kind = run.kind, width = run.widths[number];
        int out = is_output ? layer.deltas_at : layer.values_at, dropped = layer.dropped_at, unit = layer.first_unit;
        auto finish = [&](int b, int h, auto& sums) {
            constexpr int COLUMNS = sizeof sums[0] / sizeof(real);
            real* to = shared + out + b * line + h;
            if (!is_output) {
                activate(kind, sums);
#pragma unroll
                for (int c = 0; c < COLUMNS; c++)
                    if (h + c >= width)  // a padded sigmoid unit would be 0.5
#pragma unroll
                        for (int i = 0; i < TILE; i++) sums[i][c] = 0;
            }
#pragma unroll
            for (int i = 0; i < TILE; i++) store(to + i * line, sums[i]);
            if (!is_output && has_dropout) {
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) {
                    uint32_t kept = kept_from(b, unit + h + c);
#pragma unroll
                    for (int i = 0; i < TILE; i++) sums[i][c] = kept >> i & 1 ? sums[i][c] * keep_scale : real(0);
                }
#pragma unroll
                for (int i = 0; i < TILE; i++) store(shared + dropped + (b + i) * line + h, sums[i]);
            }
        };
        int weights = layer.weights_at;
        int columns = in_training ? layer.forward_columns : layer.evaluated_columns;
        uint32_t inverse = in_training ? layer.forward_inverse : layer.evaluated_inverse;
        if (columns == 1) multiply_forward<1>(x, weights, D, H, rows, inverse, finish);
        else if (columns == 2) multiply_forward<2>(x, weights, D, H, rows, inverse, finish);
        else multiply_forward<4>(x, weights, D, H, rows, inverse, finish);
        x = has_dropout ? dropped : out;
        __syncthreads();  // (3)
    }
}

// Of one row of logits: the cross-entropy, and whether the prediction is right, the first of the largest. `powers` are
// e to the logits less their largest, `total` is their sum.
__device__ __forceinline__ real softmax(const real* logits, int label, real (&powers)[CLASSES], real& total, bool& is_right) {
    real top = logits[0], label_logit = logits[label];
    int num_above = 0;
#pragma unroll
    for (int c = 0; c < CLASSES; c++) {
        real value = logits[c];
        powers[c] = value;
        top = value > top ? value : top;
        num_above += (value > label_logit) | ((value == label_logit) & (c < label));
    }
    total = 0;
#pragma unroll
    for (int c = 0; c < CLASSES; c++) {
        powers[c] = exponential(powers[c] - top);
        total += powers[c];
    }
    is_right = num_above == 0;
    return logarithm(total) - (label_logit - top);
}

// The deltas of all layers for a chunk in a buffer; adds to the thread's loss and right predictions.
// `share` is 1 / samples of the batch.
__device__ __noinline__ void backpropagate(int buffer, int rows, real share, double& loss, int& corrects) {
    forward_layers(images_of(buffer), rows, true);
    end_of(FORWARD);
    const Layer& output = job.layers[job.num_layers];
    if (threadIdx.x < rows) {
        int label = labels_of(buffer)[threadIdx.x];
        real *row = shared + output.deltas_at + threadIdx.x * (output.outputs + PAD), powers[CLASSES], total;
        bool is_right;
        loss += (double)softmax(row, label, powers, total, is_right);
        corrects += is_right;
        real scale = share / total;
#pragma unroll
        for (int c = 0; c < CLASSES; c++) row[c] = powers[c] * scale - (c == label ? share : real(0));
    }
    __syncthreads();  // (4)
    end_of(SOFTMAX);
    bool has_dropout = run.has_dropout;
    real keep_scale = run.keep_scale;
    for (int number = job.num_layers; number > 1; number--) {
        const Layer &layer = job.layers[number], &before = job.layers[number - 1];
        int D = layer.inputs, H = layer.outputs, line = D + PAD, kind = run.kind, unit = before.first_unit;
        int values = before.values_at, out = before.deltas_at;
        auto finish = [&](int b, int d, auto& sums) {
            constexpr int COLUMNS = sizeof sums[0] / sizeof(real);
            real activations[TILE][COLUMNS];
#pragma unroll
            for (int i = 0; i < TILE; i++) load(shared + values + (b + i) * line + d, activations[i]);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                uint32_t kept = has_dropout ? kept_from(b, unit + d + c) : 0;
#pragma unroll
                for (int i = 0; i < TILE; i++) {
                    sums[i][c] *= derivative(kind, activations[i][c]);
                    if (has_dropout) sums[i][c] = kept >> i & 1 ? sums[i][c] * keep_scale : real(0);
                }
            }
#pragma unroll
            for (int i = 0; i < TILE; i++) store(shared + out + (b + i) * line + d, sums[i]);
        };
        int deltas = layer.deltas_at, weights = layer.weights_at;
        uint32_t inverse = layer.back_inverse;
        if (layer.back_columns == 1) multiply_back<1>(deltas, weights, D, H, rows, inverse, finish);
        else if (layer.back_columns == 2) multiply_back<2>(deltas, weights, D, H, rows, inverse, finish);
        else multiply_back<4>(deltas, weights, D, H, rows, inverse, finish);
        __syncthreads();  // (5)
    }
    end_of(BACKWARD);
}

// --- epochs --------------------------------------------------------------------------------------------------------

// All steps of an epoch; writes the sums over the samples as its forward passes saw them to `metrics`
__device__ __noinline__ void train_epoch(const int* train, int epoch, double* metrics) {
    int num_steps = (job.num_train + job.batch_size - 1) / job.batch_size, buffer = 0, corrects = 0;
    double loss = 0;
    end_of(NUM_PHASES);
    draw_order(epoch);
    look_up(train, epoch);
    __syncthreads();  // (1)
    write_pads();
    end_of(ORDER);
    Chunk chunk = chunk_at(0, 0);
    fetch(nullptr, true, 0, chunk.rows, buffer);
    if (run.has_dropout) draw_masks(epoch, 0, 0, chunk.rows);
    for (; chunk.step < num_steps; buffer ^= 1) {
        wait_for_copies();
        __syncthreads();  // (2)
        end_of(UPDATE);
        Chunk next = after(chunk);
        fetch(nullptr, true, next.step * job.batch_size + next.row, next.rows, buffer ^ 1);
        int place = chunk.step % blockDim.x;
        if (chunk.row == 0 && place == 0) find_rates(epoch, chunk.step, num_steps);
        backpropagate(buffer, chunk.rows, chunk.step == num_steps - 1 ? job.last_share : job.share, loss, corrects);
        if (run.has_dropout) draw_masks(epoch, next.step, next.row, next.rows);
        end_of(MASKS);
        const real* rates = shared + job.rates_at + 2 * place;
        update_layers(images_of(buffer), chunk.rows,
                      {chunk.row == 0, is_last(chunk), chunk.step == num_steps - 1, rates[0], rates[1]});
        chunk = next;
    }
    __syncthreads();  // (6)
    end_of(UPDATE);
    if (threadIdx.x < SUM_THREADS) partial(0, threadIdx.x) = loss, partial(1, threadIdx.x) = corrects;
    find_totals(2);
    if (threadIdx.x < 2) metrics[SEEN_LOSS + threadIdx.x] = totals[threadIdx.x];
}

// The run's loss and right predictions on a split, dropout off, each sample's loss clipped: into totals 0 and 1
__device__ __noinline__ void evaluate(const int* samples, int n) {
    double loss = 0;
    int corrects = 0, at_once = job.evaluated_rows, buffer = 0;
    const Layer& output = job.layers[job.num_layers];
    fetch(samples, false, 0, min(at_once, n), buffer);
    for (int begin = 0; begin < n; begin += at_once, buffer ^= 1) {
        int rows = min(at_once, n - begin);
        wait_for_copies();
        __syncthreads();  // (7)
        fetch(samples, false, begin + at_once, min(at_once, n - begin - at_once), buffer ^ 1);
        forward_layers(images_of(buffer), rows, false);
        // Thread t adds up the samples t, t + 64, ...: no sum depends on how many are evaluated at a time
        int b = (threadIdx.x - begin) & (SUM_THREADS - 1);
        if (threadIdx.x < SUM_THREADS && b < rows) {
            const real* logits = shared + output.deltas_at + b * (output.outputs + PAD);
            real powers[CLASSES], total;
            bool is_right;
            double one = softmax(logits, labels_of(buffer)[b], powers, total, is_right);
            if (one < job.lowest) one = job.lowest;  // comparisons with NaN are false: NaN stays NaN
            else if (one > job.highest) one = job.highest;
            loss += one;
            corrects += is_right;
        }
    }
    // The shares lie where the images lay, which are no longer read since (3)
    if (threadIdx.x < SUM_THREADS) partial(0, threadIdx.x) = loss, partial(1, threadIdx.x) = corrects;
    find_totals(2);
}

// Euclidean norms of the last step's gradients and of the parameters, by layer: 2 L numbers
__device__ __noinline__ void find_norms(double* norms) {
    if (threadIdx.x < SUM_THREADS)
        for (int number = 1; number <= job.num_layers; number++) {
            const Layer& layer = job.layers[number];
            int H = layer.outputs;
            const real* gradients = job.gradients + run.row_at + layer.start;
            double squares = 0, gradient_squares = 0;
            for (int i = threadIdx.x; i < (layer.inputs + 1) * H; i += SUM_THREADS) {
                double w = shared[layer.weights_at + i / H * (H + PAD) + i % H], g = gradients[i];
                squares += w * w, gradient_squares += g * g;
            }
            partial(number - 1, threadIdx.x) = gradient_squares;
            partial(job.num_layers + number - 1, threadIdx.x) = squares;
        }
    find_totals(2 * job.num_layers);
    if (threadIdx.x < 2 * job.num_layers) norms[threadIdx.x] = sqrt(totals[threadIdx.x]);
}

// What the loop would decide after an evaluated epoch: see evaluation.Best and evaluation.EarlyStopping. Every thread
// has the same numbers, and comes to the same decision.
struct Judge {
    double best_accuracy, best_loss, reference_accuracy, reference_loss, min_delta;
    int reference_epoch, patience;

    __device__ explicit Judge(const double* known)
        : best_accuracy(known[BEST_ACCURACY]), best_loss(known[BEST_LOSS]),
          reference_accuracy(known[REFERENCE_ACCURACY]), reference_loss(known[REFERENCE_LOSS]),
          min_delta(known[MIN_DELTA]), reference_epoch((int)known[REFERENCE_EPOCH]), patience((int)known[PATIENCE]) {}

    // Whether the epoch is the best so far; an accuracy below 0 stands for none
    __device__ bool is_best(double accuracy, double loss) {
        bool is_better = accuracy > best_accuracy || (accuracy == best_accuracy && loss < best_loss);
        if (is_better) best_accuracy = accuracy, best_loss = loss;
        return is_better;
    }

    // What the next launch must know, if it is queued before the host has read this one's results
    __device__ void write(double* known) const {
        known[BEST_ACCURACY] = best_accuracy, known[BEST_LOSS] = best_loss;
        known[REFERENCE_EPOCH] = reference_epoch;
        known[REFERENCE_ACCURACY] = reference_accuracy, known[REFERENCE_LOSS] = reference_loss;
    }

    // Whether early stopping ends the run here; a reference epoch of 0 stands for none
    __device__ bool stops(int epoch, double accuracy, double loss) {
        if (patience == 0) return false;
        bool is_improvement = reference_epoch == 0;
        if (min_delta > 0) is_improvement |= accuracy > reference_accuracy + min_delta;
        else is_improvement |= accuracy > reference_accuracy || (accuracy == reference_accuracy && loss < reference_loss);
        if (is_improvement) reference_epoch = epoch, reference_accuracy = accuracy, reference_loss = loss;
        return epoch - reference_epoch >= patience;
    }
};

// Evaluates an epoch that is due, and keeps its weights if they are the best; whether the run goes on
__device__ __noinline__ bool assess(const int* train, const int* val, int epoch, double* metrics, Judge& judge) {
    evaluate(train, job.num_train);
    double train_loss = totals[0] / job.num_train;
    if (threadIdx.x < 2) metrics[TRAIN_LOSS + threadIdx.x] = totals[threadIdx.x];
    evaluate(val, job.num_val);
    double loss = totals[0] / job.num_val, accuracy = totals[1] / job.num_val;
    if (threadIdx.x < 2) metrics[VAL_LOSS + threadIdx.x] = totals[threadIdx.x];
    find_norms(metrics + NORMS);
    end_of(EVALUATE);
    // The losses seen in training may be finite while the weights after the last step are not
    if (!is_finite(loss) || !is_finite(train_loss)) return false;
    if (judge.is_best(accuracy, loss)) move_row(&Layer::weights_at, job.best + run.row_at, false);
    return !judge.stops(epoch, accuracy, loss);
}

// --- kernels -------------------------------------------------------------------------------------------------------

// Copies the block's job and what it must know of its run; false: the block has none
__device__ __noinline__ bool enter(const Job* jobs) {
    for (int i = threadIdx.x; i < sizeof(Job) / 4; i += blockDim.x)
        reinterpret_cast<int*>(&job)[i] = reinterpret_cast<const int*>(jobs + blockIdx.y)[i];
    __syncthreads();  // (8)
    if (blockIdx.x >= job.num_blocks) return false;
    int slot = job.slots[blockIdx.x];
    if (threadIdx.x == 0) {
        const double* settings = job.settings + NUM_SETTINGS * slot;
        run.slot = slot, run.row_at = (uint64_t)slot * job.num_parameters;
        run.kind = job.activations[slot], run.threshold = job.thresholds[slot];
        run.has_dropout = run.threshold > 0 && job.num_units > 0;
        run.num_copies = job.copies[slot], run.first_row = job.first_rows[slot], run.scale = job.scales[slot];
        run.seed_low = (uint32_t)job.seeds[slot], run.seed_high = (uint32_t)(job.seeds[slot] >> 32);
        run.momentum = settings[MOMENTUM], run.decay = settings[WEIGHT_DECAY], run.epsilon = settings[EPSILON];
        // 1 - beta is computed in float64: in float32 it may be 0
        run.gain1 = 1 - settings[BETA1], run.beta2 = settings[BETA2], run.gain2 = 1 - settings[BETA2];
        run.keep_scale = settings[KEEP_SCALE], run.is_nesterov = settings[NESTEROV] > 0;
    }
    if (threadIdx.x <= job.num_layers) run.widths[threadIdx.x] = job.widths[slot * (job.num_layers + 1) + threadIdx.x];
    __syncthreads();  // (8)
    return true;
}

// The epochs of a launch. A run that diverges or stops early trains no further, in the launches that were queued
// meanwhile either: its weights are those of that epoch.
extern "C" __global__ void train_epochs(const Job* jobs) {
    if (!enter(jobs)) return;
    double* known = job.decisions + NUM_DECISIONS * run.slot;
    if (known[END_EPOCH] > 0) {  // the same for all threads; written below, in an earlier launch
        if (threadIdx.x == 0) job.ends[blockIdx.x] = (int)known[END_EPOCH];
        return;
    }
    real* rows[] = {job.parameters, job.first, job.second};
    int Layer::*places[] = {&Layer::weights_at, &Layer::first_at, &Layer::second_at};
    int num_rows = !job.state_in_shared ? 1 : job.is_adam ? 3 : 2;
    for (int i = 0; i < num_rows; i++) move_row(places[i], rows[i] + run.row_at, true);  // read after (1) and (2)
    const int *train = job.train + (uint64_t)run.slot * job.num_train, *val = job.val + (uint64_t)run.slot * job.num_val;
    Judge judge(known);
    bool goes_on = true;
    int epoch = job.first_epoch, end = epoch + job.num_epochs - 1;
    for (;; epoch++) {
        uint64_t place = (uint64_t)blockIdx.x * job.num_epochs + (epoch - job.first_epoch);
        double* metrics = job.metrics + place * (NORMS + 2 * job.num_layers);
        train_epoch(train, epoch, metrics);
        goes_on = is_finite(totals[0] / job.num_train);
        if (goes_on && job.dues[place]) goes_on = assess(train, val, epoch, metrics, judge);
        if (!goes_on || epoch == end) break;
    }
    if (threadIdx.x == 0) {
        job.ends[blockIdx.x] = epoch;
        judge.write(known);
        if (!goes_on) known[END_EPOCH] = epoch;
    }
    for (int i = 0; i < num_rows; i++) move_row(places[i], rows[i] + run.row_at, false);
}

// Evaluates each run on a split of `num_samples` (0: none), and finds its norms
extern "C" __global__ void evaluate_runs(const Job* jobs) {
    if (!enter(jobs)) return;
    move_row(&Layer::weights_at, job.parameters + run.row_at, true);  // read after (7), or after find_totals
    double* metrics = job.metrics + (uint64_t)blockIdx.x * (2 + 2 * job.num_layers);
    evaluate(job.samples + (uint64_t)run.slot * job.num_samples, job.num_samples);
    if (threadIdx.x < 2) metrics[threadIdx.x] = totals[threadIdx.x];
    find_norms(metrics + 2);
}

// The logits of one run (N x C), with the parameters in `job.row`; the blocks of the launch share the chunks
extern "C" __global__ void write_logits(const Job* jobs) {
    if (!enter(jobs)) return;
    move_row(&Layer::weights_at, const_cast<real*>(job.row), true);
    const int* samples = job.samples + (uint64_t)run.slot * job.num_samples;
    const Layer& output = job.layers[job.num_layers];
    int at_once = job.evaluated_rows;
    for (int begin = blockIdx.x * at_once; begin < job.num_samples; begin += job.num_blocks * at_once) {
        int rows = min(at_once, job.num_samples - begin);
        fetch(samples, false, begin, rows, 0);
        wait_for_copies();
        __syncthreads();  // (7)
        forward_layers(images_of(0), rows, false);
        for (int i = threadIdx.x; i < rows * CLASSES; i += blockDim.x)
            job.logits[(uint64_t)begin * CLASSES + i] =
                shared[output.deltas_at + i / CLASSES * (output.outputs + PAD) + i % CLASSES];
    }
}

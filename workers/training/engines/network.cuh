// What the parts of the CUDA engine share: the job of a launch, the run of a block, arithmetic, sums over a block.
//
// Shape letters: R runs in the stack, L layers, P parameters of a network; K epochs of a launch; N samples of a split, M
// images of all datasets; B rows of a forward pass (of a chunk in training); D inputs and H outputs of a layer, T
// hidden units of all layers together, all padded to multiples of 16; C = 10 classes.
//
// A matrix in shared memory has lines of its width + PAD numbers. The pad keeps accesses of 16 bytes aligned and spreads
// the lines over the banks. Beside a line of values (B x H), the pad holds 1 0 0 0: the line's input to the biases, so
// that the biases' gradient is one more line of the weights' gradient. A layer's parameters are D + 1 such lines of H
// numbers: the weights, then the biases.
#pragma once
#ifndef EMULATED
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#endif
#ifdef IS_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#define MAX_LAYERS 9
#define CLASSES 10
#define PIXELS 64
#define PAD 4
#define TILE 4           // rows of a product's tile, and rows and columns of a gradient's
#define SUM_THREADS 64   // threads that add up numbers; fixed, so that no sum depends on the size of a block

enum Setting {  // columns of `settings`, as in stack.Setting
    LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, BETA1, BETA2, EPSILON, KEEP_SCALE, WARMUP_STEPS, TOTAL_STEPS, NESTEROV,
    NUM_SETTINGS
};
enum Decision {  // columns of `decisions`, as in stack.Decisions; and the epoch at which the run ended, or 0
    BEST_ACCURACY, BEST_LOSS, REFERENCE_EPOCH, REFERENCE_ACCURACY, REFERENCE_LOSS, PATIENCE, MIN_DELTA, END_EPOCH,
    NUM_DECISIONS
};
enum Metric { SEEN_LOSS, SEEN_CORRECTS, TRAIN_LOSS, TRAIN_CORRECTS, VAL_LOSS, VAL_CORRECTS, NORMS };
enum Phase { ORDER, FORWARD, SOFTMAX, BACKWARD, MASKS, UPDATE, EVALUATE, NUM_PHASES };

struct Layer {  // numbers count from 1; layer 0 are the images
    int inputs, outputs;                  // D, H
    int start;                            // of its parameters in a row (P)
    int weights_at, first_at, second_at;  // in shared memory, in numbers: (D + 1) x (H + PAD) each
    int values_at;                        // B x (H + PAD); of layer 0: two buffers of images
    int dropped_at;                       // the same after dropout
    int deltas_at;                        // B x (H + PAD): gradients with respect to the outputs before activation;
                                          // of the last layer, the logits before
    int first_unit;                       // of T
    int forward_columns, evaluated_columns, back_columns;  // of a thread's tile: 1, 2 or 4
    uint32_t forward_inverse, evaluated_inverse, back_inverse, gradient_inverse;  // of the tiles in a line, see `quotient`
    int end_item;                         // the gradient tiles of this layer and those before it
};

struct Job {  // a stack's launch; the same in Python: cuda_plan.Job
    real *parameters, *gradients, *first, *second, *best;  // R x P
    const double* settings;        // R x NUM_SETTINGS
    const long long* seeds;        // R
    const int *activations, *thresholds, *copies, *first_rows;  // R
    const float* scales;           // R
    const int* widths;             // R x (L + 1), without padding
    const int *train, *val;        // R x N: rows of images
    const real* images;            // M x 64
    const int* labels;             // M
    const uint8_t* bank;           // copies x images of the dataset x 64
    const int* slots;              // of each block
    const uint8_t* dues;           // blocks x K: which epochs are evaluated
    double* decisions;             // R x NUM_DECISIONS: read, and written for the next launch
    double* metrics;               // blocks x K x (NORMS + 2 L)
    int* ends;                     // of each block: the last epoch that its run has trained
    const int* samples;            // R x N: the split that evaluate_runs and write_logits read
    const real* row;               // P: the parameters that write_logits reads
    real* logits;                  // N x C
    long long* cycles;             // NUM_PHASES, with -DPROFILE
    double lowest, highest;        // bounds of a sample's loss in evaluation
    double share, last_share;      // 1 / samples of a batch, and of the last batch
    int num_blocks, num_layers, num_parameters, num_units, num_train, num_val, num_samples;
    int batch_size, chunk, evaluated_rows;  // rows at a time, in training and in evaluation
    int is_adam, has_dropout, state_in_shared, bank_images;
    int first_epoch, num_epochs;
    int images_step;               // between the two buffers of images
    int masks_at, labels_at, order_at, copies_at, rates_at;
    int scratch_at;                // where values and deltas lie: free between steps
    Layer layers[MAX_LAYERS + 1];
};

struct Run {  // what a block knows of its network
    int slot, kind, threshold, has_dropout, num_copies, first_row, is_nesterov;
    uint32_t seed_low, seed_high;
    float scale;
    real momentum, decay, epsilon, beta2, gain1, gain2, keep_scale;
    uint64_t row_at;  // of its row in R x P
    int widths[MAX_LAYERS + 1];
};

#ifdef JOB_BYTES
static_assert(sizeof(Job) == JOB_BYTES, "cuda_plan.Job has another size");
#endif

#ifndef EMULATED
extern __shared__ __align__(16) real shared[];
#endif
__shared__ Job job;
__shared__ Run run;
__shared__ double totals[2 * MAX_LAYERS];

// Cycles by phase of the first block, for -DPROFILE: a phase ends where it is named
__device__ __forceinline__ void end_of(int phase) {
#ifdef PROFILE
    __shared__ long long began;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        long long now = clock64();
        if (phase < NUM_PHASES) job.cycles[phase] += now - began;
        began = now;
    }
#endif
}

// --- arithmetic: every operation is written out, so that no compiler chooses a bit ---------------------------------

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }
__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }

// E to the x: the range reduction and polynomial of expf in the Cephes library, S. L. Moshier,
// https://www.netlib.org/cephes/, as in kernels.py; the GPU's own expf is not the same on every GPU.
__device__ __forceinline__ float exponential(float x) {
    float clipped = fminf(fmaxf(x, -87.0f), 87.0f);  // keeps the power and its inverse normal numbers
    float exponent = floorf(fmaf(clipped, 1.44269504f, 0.5f));
    float r = fmaf(exponent, -0.693359375f, clipped);  // ln 2 in two parts; the first has few bits
    r = fmaf(exponent, 2.12194440e-4f, r);
    float power = 1.9875691500e-4f;
    power = fmaf(power, r, 1.3981999507e-3f);
    power = fmaf(power, r, 8.3334519073e-3f);
    power = fmaf(power, r, 4.1665795894e-2f);
    power = fmaf(power, r, 1.6666665459e-1f);
    power = fmaf(power, r, 5.0000001201e-1f);
    power = fmaf(power, r * r, r) + 1.0f;
    power *= __int_as_float(((int)exponent + 127) << 23);
    return x == x ? power : x;  // the clipping loses a NaN
}

// The natural logarithm of a normal, positive number; NaN and infinity stay what they are. Cephes' logf.
__device__ __forceinline__ float logarithm(float x) {
    int bits = __float_as_int(x), exponent = (bits >> 23 & 255) - 126;
    float m = __int_as_float((bits & 0x007FFFFF) | 0x3F000000);  // x = m 2^exponent, m in 0.5 ... 1
    if (m < 0.707106781f) exponent -= 1, m = m + m;
    m -= 1.0f;
    float y = 7.0376836292e-2f;
    y = fmaf(y, m, -1.1514610310e-1f);
    y = fmaf(y, m, 1.1676998740e-1f);
    y = fmaf(y, m, -1.2420140846e-1f);
    y = fmaf(y, m, 1.4249322787e-1f);
    y = fmaf(y, m, -1.6668057665e-1f);
    y = fmaf(y, m, 2.0000714765e-1f);
    y = fmaf(y, m, -2.4999993993e-1f);
    y = fmaf(y, m, 3.3333331174e-1f);
    float square = m * m;
    y = y * m * square;
    y = fmaf((float)exponent, -2.12194440e-4f, y);
    y = fmaf(square, -0.5f, y);
    float result = fmaf((float)exponent, 0.693359375f, m + y);
    return x - x == 0 ? result : x;
}

__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }

// 1 / x for x from 1 to 2^126, rounded to nearest: what the compiler makes of a division, without its branch for other x
__device__ __forceinline__ float inverse_of(float x) {
#ifdef EMULATED
    return 1.0f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return fmaf(y, -fmaf(x, y, -1.0f), y);
#endif
}
__device__ __forceinline__ double inverse_of(double x) { return 1.0 / x; }

enum Activation { SIGMOID, TANH, RELU };  // as in stack.ACTIVATIONS

template <int COLUMNS, class Function>
__device__ __forceinline__ void apply(real (&tile)[TILE][COLUMNS], Function function) {
#pragma unroll
    for (int i = 0; i < TILE; i++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) tile[i][c] = function(tile[i][c]);
}

// A tile of sums becomes activations. A branch for each number would cost more than what it chooses.
template <int COLUMNS>
__device__ __forceinline__ void activate(int kind, real (&tile)[TILE][COLUMNS]) {
    if (kind == RELU) apply(tile, [](real z) { return z < real(0) ? real(0) : z; });  // NaN stays NaN
    else if (kind == SIGMOID) apply(tile, [](real z) { return inverse_of(real(1) + exponential(-z)); });
    else apply(tile, [](real z) { return real(1) - real(2) * inverse_of(exponential(z + z) + real(1)); });
}

// Of an activation, from its output; all three are computed and one is chosen, which is quicker than a branch
__device__ __forceinline__ real derivative(int kind, real a) {
    real of_sigmoid = a * (real(1) - a), of_tanh = multiply_add(-a, a, real(1)), of_relu = a > real(0) ? real(1) : real(0);
    return kind == SIGMOID ? of_sigmoid : kind == TANH ? of_tanh : of_relu;
}

// `item` / n for items below 2^16, where inverse = 2^32 / n, rounded up
__device__ __forceinline__ int quotient(int item, uint32_t inverse) { return __umulhi(item, inverse); }

// --- shared memory -------------------------------------------------------------------------------------------------

__device__ __forceinline__ uint8_t* masks() { return reinterpret_cast<uint8_t*>(shared + job.masks_at); }
// Of an epoch's samples (N): the rows of their images, and the copies that they show
__device__ __forceinline__ uint16_t* order() { return reinterpret_cast<uint16_t*>(shared + job.order_at); }
__device__ __forceinline__ uint16_t* copies() { return reinterpret_cast<uint16_t*>(shared + job.copies_at); }
__device__ __forceinline__ int* labels_of(int buffer) {
    return reinterpret_cast<int*>(shared + job.labels_at) + buffer * max(job.chunk, job.evaluated_rows);
}
__device__ __forceinline__ int images_of(int buffer) { return job.layers[0].values_at + buffer * job.images_step; }
// Bit i: whether dropout keeps a unit of T for the sample b + i. A byte of `masks` serves eight samples; b is a multiple
// of TILE, so a tile's bits lie in one byte.
__device__ __forceinline__ uint32_t kept_from(int b, int unit) { return masks()[(b >> 3) * job.num_units + unit] >> (b & 7); }

__device__ __forceinline__ void load4(const real* from, real (&to)[4]) {  // in accesses of 16 bytes
#ifdef IS_DOUBLE
    double2 a = *reinterpret_cast<const double2*>(from), b = *reinterpret_cast<const double2*>(from + 2);
    to[0] = a.x, to[1] = a.y, to[2] = b.x, to[3] = b.y;
#else
    float4 a = *reinterpret_cast<const float4*>(from);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
#endif
}

__device__ __forceinline__ void store4(real* to, const real (&from)[4]) {
#ifdef IS_DOUBLE
    *reinterpret_cast<double2*>(to) = make_double2(from[0], from[1]);
    *reinterpret_cast<double2*>(to + 2) = make_double2(from[2], from[3]);
#else
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
#endif
}

// Copies 16 bytes to shared memory; they are there after `wait_for_copies`, for other threads after a barrier too
__device__ __forceinline__ void copy_async(real* to, const real* from) {
#ifdef EMULATED
    for (unsigned i = 0; i < 16 / sizeof(real); i++) to[i] = from[i];
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from));
#endif
}

// The same with one number of 4 bytes
__device__ __forceinline__ void copy_async(int* to, const int* from) {
#ifdef EMULATED
    *to = *from;
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from));
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#ifndef EMULATED
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// A run's parameters or optimizer state, from a row in memory (P) to their lines in shared memory, or back.
// `at` is the member of Layer that says where.
__device__ __noinline__ void move_row(int Layer::*at, real* row, bool to_shared) {
    for (int number = 1; number <= job.num_layers; number++) {
        const Layer& layer = job.layers[number];
        int H = layer.outputs, size = (layer.inputs + 1) * H;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            int line = i / H;
            real *there = row + layer.start + i, *here = shared + layer.*at + line * (H + PAD) + i - line * H;
            if (to_shared) *here = *there;
            else *there = *here;
        }
    }
}

// --- sums over the threads of a block ------------------------------------------------------------------------------

// Thread t's share of the sum number q; all of the first SUM_THREADS threads write theirs. It lies in the scratch memory.
__device__ __forceinline__ double& partial(int q, int t) {
    return reinterpret_cast<double*>(shared + job.scratch_at)[q * SUM_THREADS + t];
}

// Adds up `count` sums, each in the order of the threads, into `totals`
__device__ __noinline__ void find_totals(int count) {
    __syncthreads();  // the shares are written, and the last totals have been read
    if (threadIdx.x < count) {
        double total = 0;
        for (int t = 0; t < SUM_THREADS; t++) total += partial(threadIdx.x, t);
        totals[threadIdx.x] = total;
    }
    __syncthreads();  // the totals are there, and the scratch memory is free
}

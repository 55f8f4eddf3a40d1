// The CUDA engine's kernels as a library for a CPU: `launch` does what a launch on a GPU does, see emulate.h.
#include "emulate.h"
#define MAX_SHARED_BYTES (227 * 1024)
#ifdef IS_DOUBLE
alignas(64) static double shared[MAX_SHARED_BYTES / 8 + 64];
#else
alignas(64) static float shared[MAX_SHARED_BYTES / 4 + 128];
#endif
#include TRAIN_CU

typedef void (*Kernel)(const Job*);

static Kernel find_kernel(const char* name) {
    if (!strcmp(name, "train_epochs")) return train_epochs;
    if (!strcmp(name, "evaluate_runs")) return evaluate_runs;
    return strcmp(name, "write_logits") ? nullptr : write_logits;
}

// All bits of NaN: what is read before it is written shows
static void forget() {
    memset((void*)shared, 0xFF, sizeof shared);
    memset((void*)&job, 0xFF, sizeof job);
    memset((void*)&run, 0xFF, sizeof run);
    memset((void*)totals, 0xFF, sizeof totals);
}

#ifdef EMULATE_THREADS
static int run_block(Kernel kernel, const Job* jobs, int threads, std::mt19937*) {
    Index block = blockIdx;
    pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> pool;
    for (unsigned t = 0; t < (unsigned)threads; t++)
        pool.emplace_back([=] { threadIdx = {t, 0, 0}, blockIdx = block, kernel(jobs); });
    for (auto& each : pool) each.join();
    pthread_barrier_destroy(&barrier);
    return 0;
}
#else
static Kernel current;
static const Job* current_jobs;

static void start() {
    current(current_jobs);
    fibers[threadIdx.x].is_done = true;
    _longjmp(scheduler, 1);
}

static void resume(unsigned number) {
    Fiber& fiber = fibers[number];
    threadIdx = {number, 0, 0};
    if (_setjmp(scheduler)) return;
    if (fiber.is_started) _longjmp(fiber.place, 1);
    fiber.is_started = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
    setcontext(&fiber.context);
}

static int run_block(Kernel kernel, const Job* jobs, int threads, std::mt19937* random) {
    current = kernel, current_jobs = jobs;
    std::vector<int> numbers(threads);
    if (fibers.size() < (unsigned)threads) fibers.resize(threads);
    for (int t = 0; t < threads; t++) {
        numbers[t] = t;
        fibers[t].stack.resize(128 * 1024);
        fibers[t].is_started = fibers[t].is_done = false;
    }
    for (;;) {
        if (random) std::shuffle(numbers.begin(), numbers.end(), *random);
        for (int t : numbers) resume(t);
        const Fiber& first = fibers[0];
        for (int t = 1; t < threads; t++)
            if (fibers[t].is_done != first.is_done || (!first.is_done && fibers[t].line != first.line)) {
                fprintf(stderr, "threads part at a barrier: lines %d, %d\n", first.line, fibers[t].line);
                return 1;
            }
        if (first.is_done) return 0;
    }
}
#endif

// Runs a kernel for `blocks` x `num_jobs` blocks; seed 0: the threads of a block in order. Returns 0, or an error.
extern "C" int launch(const char* name, const Job* jobs, int blocks, int num_jobs, int threads, int shared_bytes, int seed) {
    Kernel kernel = find_kernel(name);
    if (!kernel || shared_bytes > MAX_SHARED_BYTES) return 2;
    std::mt19937 random(seed);
    blockDim = {(unsigned)threads, 1, 1};
    int error = 0;
    for (int y = 0; y < num_jobs && !error; y++)
        for (int x = 0; x < blocks && !error; x++) {
            forget();
            blockIdx = {(unsigned)x, (unsigned)y, 0};
            error = run_block(kernel, jobs, threads, seed ? &random : nullptr);
        }
    return error;
}

extern "C" int size_of_job() { return sizeof(Job); }

// Runs the CUDA engine's kernels on a CPU: each block in turn, its threads one by one from barrier to barrier, in an
// order that is shuffled anew at each barrier, so that a missing barrier changes what comes out. With EMULATE_THREADS
// the threads are real ones, for ThreadSanitizer, to which a missing barrier is a data race.
#pragma once
#define EMULATED
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>
using std::max;
using std::min;
#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __shared__ static

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
static inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
static inline double2 make_double2(double a, double b) { return {a, b}; }
static inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint64_t)a * b >> 32; }
static inline int __float_as_int(float x) { int bits; memcpy(&bits, &x, 4); return bits; }
static inline float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }

struct Index { unsigned x, y, z; };
static Index blockDim;

#ifdef EMULATE_THREADS
#include <pthread.h>
#include <thread>
static thread_local Index threadIdx, blockIdx;
static pthread_barrier_t barrier;
static inline void __syncthreads() { pthread_barrier_wait(&barrier); }
static inline uint32_t atomicAdd(uint32_t* at, uint32_t value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
#else
#include <csetjmp>
#include <ucontext.h>
static Index threadIdx, blockIdx;

struct Fiber {  // an emulated thread: started by ucontext, then resumed by longjmp, which makes no system call
    ucontext_t context;
    jmp_buf place;
    int line;  // of the barrier at which it waits
    bool is_started, is_done;
    std::vector<char> stack;
};
static std::vector<Fiber> fibers;
static jmp_buf scheduler;

static void wait_at(int line) {
    unsigned number = threadIdx.x;
    Fiber& me = fibers[number];
    me.line = line;
    if (!_setjmp(me.place)) _longjmp(scheduler, 1);
    threadIdx.x = number;
}
#define __syncthreads() wait_at(__LINE__)
static inline uint32_t atomicAdd(uint32_t* at, uint32_t value) { uint32_t old = *at; *at += value; return old; }
#endif

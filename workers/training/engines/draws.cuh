// The random draws of one network: the order of the samples, their copies, and dropout. The numbers are those of
// `randomness`: each is a function of the run's seed, its purpose, the epoch, the step and an index.
#pragma once
#include "network.cuh"

#define BUCKET_BITS 10  // upper bits of a word, which choose its bucket
#define BUCKETS (1 << BUCKET_BITS)

enum Purpose { DATA_ORDER = 2, DROPOUT = 3, COPY_CHOICE = 6 };  // as in randomness.Purpose

// Philox 4x32-10 (Salmon et al., SC 2011): the counter (index, epoch, purpose, step) becomes four random words
__device__ __forceinline__ void philox(uint32_t index, uint32_t epoch, uint32_t purpose, uint32_t step, uint32_t (&c)[4]) {
    c[0] = index, c[1] = epoch, c[2] = purpose, c[3] = step;
    uint32_t key_low = run.seed_low, key_high = run.seed_high;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)c[0] * 0xD2511F53u, product1 = (uint64_t)c[2] * 0xCD9E8D57u;
        c[0] = (uint32_t)(product1 >> 32) ^ c[1] ^ key_low, c[1] = (uint32_t)product1;
        c[2] = (uint32_t)(product0 >> 32) ^ c[3] ^ key_high, c[3] = (uint32_t)product0;
        key_low += 0x9E3779B9u, key_high += 0xBB67AE85u;
    }
}

// The order of an epoch (N): samples sorted by a random word each, of equal words the earlier sample first. A sample is
// its place in the train split.
//
// Buckets by the upper bits, then each bucket by insertion. Atomic additions put the samples of a bucket in any order,
// which the insertion makes the one order that there is. Needs the scratch memory.
__device__ __noinline__ void draw_order(int epoch) {
    int n = job.num_train, t = threadIdx.x, num_threads = blockDim.x;
    uint16_t* sorted = order();
    if (job.batch_size >= n) {  // a full batch is one sum over all samples
        for (int i = t; i < n; i += num_threads) sorted[i] = i;  // no barrier: `look_up` reads what the same thread wrote
        return;
    }
    uint32_t* words = reinterpret_cast<uint32_t*>(shared + job.scratch_at);  // N + 3: the last block may run over
    uint32_t* places = words + n + 3;                                        // of the buckets
    uint32_t* sums = places + BUCKETS;                                       // one a thread
    for (int i = t; i < BUCKETS; i += num_threads) places[i] = 0;
    for (int block = t; block < (n + 3) / 4; block += num_threads) {
        uint32_t drawn[4];
        philox(block, epoch, DATA_ORDER, 0, drawn);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (4 * block + i < n + 3) words[4 * block + i] = drawn[i];
    }
    __syncthreads();  // words are drawn, places are 0
    for (int i = t; i < n; i += num_threads) atomicAdd(&places[words[i] >> (32 - BUCKET_BITS)], 1u);
    __syncthreads();  // places are the buckets' sizes
    // A thread's buckets are `from` ... `to`: their sizes become the places where they begin
    int share = (BUCKETS + num_threads - 1) / num_threads, from = min(t * share, BUCKETS), to = min(from + share, BUCKETS);
    uint32_t total = 0, before = 0;
    for (int i = from; i < to; i++) total += places[i];
    sums[t] = total;
    __syncthreads();  // every thread's sum is there
    for (int i = 0; i < t; i++) before += sums[i];
    for (int i = from; i < to; i++) {
        uint32_t size = places[i];
        places[i] = before;
        before += size;
    }
    __syncthreads();  // places are where the buckets begin
    for (int i = t; i < n; i += num_threads) sorted[atomicAdd(&places[words[i] >> (32 - BUCKET_BITS)], 1u)] = i;
    __syncthreads();  // every sample lies in its bucket, and places are where the buckets end
    for (int bucket = from; bucket < to; bucket++) {
        int begin = bucket ? places[bucket - 1] : 0, end = places[bucket];
        for (int i = begin + 1; i < end; i++) {
            uint16_t sample = sorted[i];
            uint32_t word = words[sample];
            int place = i;
            for (; place > begin; place--) {
                uint16_t other = sorted[place - 1];
                if (words[other] < word || (words[other] == word && other < sample)) break;
                sorted[place] = other;
            }
            sorted[place] = sample;
        }
    }
    __syncthreads();  // the order is there
}

// Puts the rows of their images in place of the samples in `order`, and finds the copy that each shows. So a step needs
// one load from global memory less before it can fetch an image.
__device__ __noinline__ void look_up(const int* train, int epoch) {
    for (int i = threadIdx.x; i < job.num_train; i += blockDim.x) {
        int sample = order()[i];
        order()[i] = train[sample];
        if (run.num_copies == 0) continue;
        uint32_t drawn[4];
        philox(sample / 4, epoch, COPY_CHOICE, 0, drawn);
        int which = sample % 4;
        uint32_t word = which == 0 ? drawn[0] : which == 1 ? drawn[1] : which == 2 ? drawn[2] : drawn[3];
        copies()[i] = __umulhi(word, run.num_copies);
    }
}

// Which units dropout keeps for the samples of a chunk, which begins at `row` of a step's batch: see `kept_from`.
// A block of eight numbers of 16 bits serves one unit for eight samples.
__device__ __noinline__ void draw_masks(int epoch, int step, int row, int rows) {
    int groups = (rows + 7) / 8, first_group = row / 8;
    for (int i = threadIdx.x; i < groups * job.num_units; i += blockDim.x) {
        uint32_t drawn[4], mask = 0;
        philox(first_group * job.num_units + i, epoch, DROPOUT, step, drawn);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            mask |= (uint32_t)((int)(drawn[j] & 0xFFFF) >= run.threshold) << (2 * j);
            mask |= (uint32_t)((int)(drawn[j] >> 16) >= run.threshold) << (2 * j + 1);
        }
        masks()[i] = mask;
    }
}

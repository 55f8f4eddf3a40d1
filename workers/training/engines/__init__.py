"""How an epoch of a stack is computed: by compiled code on a CPU, by batched torch operations or one kernel elsewhere.

Why three engines
-----------------
The networks are tiny. A training step of one of them takes 3 to 15 microseconds on a CPU core, and the call of
a single torch operation about six: in torch, a step is nearly all overhead. There are three ways around that.

* `numba_engine.CompiledEngine`, on a CPU: a run's whole epoch (data order, dropout, all steps) is one call into code
  that Numba compiled. Runs are trained side by side, each by one thread, in memory that fits the core's cache.
  `kernels.py` has the arithmetic, `llvm_tiles.py` the inner loops of the matrix products, `draws.py` the random
  numbers, `compilation.py` the compiler's options. It is not `torch.compile` or a C extension because these need a
  compiler on the user's machine; Numba's wheel brings its own.
* `torch_engine.BatchedEngine`, on MPS, on CUDA without the fused engine, and on a CPU without Numba: each operation
  computes all runs of the stack at once, so R runs share its overhead. CUDA replays an epoch of at most 256 steps as
  one recorded graph.
* `cuda_engine.FusedEngine`, on CUDA, unless the setting DIGITLAB_CUDA_ENGINE says otherwise, where the networks fit a
  block's shared memory and the kernels compute what torch does on a CPU (`cuda_check.py`): a block of threads trains a
  run for many epochs in one launch of `train.cu`, with its evaluations and the decisions that they lead to. Stacks of
  several shapes may share a launch (`side_by_side.py`). It is CUDA C++, compiled by NVRTC when a trainer first starts,
  and needs nothing beyond torch's CUDA wheels. `train.cu` tells what a block does between which barriers;
  `network.cuh`, `draws.cuh` and `products.cuh` are its parts, `cuda_plan.py` says what lies where in shared memory,
  `cuda_driver.py` compiles and launches.

`choice.make_engine` chooses. All are a `stack.Engine`, compute the same formulas in place on the same tensors, and draw
the same random numbers. Their last bits differ, as those of different CPU types do: a run's `provenance` names engine
and CPU or GPU.

Measured
--------
Microseconds per run and step, batch 20, R runs in a stack, without evaluation; `python tests/benchmarks/training.py` on
two cores of an AMD EPYC (Zen 4), 2026-11-24; docs/benchmarks.md has the figures of a GPU.

                                   12-12, sigmoid                 52-52, sigmoid
                             R = 1  R = 8  R = 128          R = 1  R = 8  R = 128
    compiled engine            4.7    2.2      1.7           12.7    7.6      6.4
    the same, one thread       3.4    3.4      3.4           12.6   12.7     13.1
    torch engine, on a CPU   141.8   31.6     16.4          168.5   55.2     65.9
    JAX, jit(vmap(scan))      15.5   11.5     10.7           30.8   27.3     32.9
    torch.nn, torch.optim    316.8                          364.9

The arithmetic alone, at the 49 billion multiply-adds a second that torch's product of two 1024 x 1024 matrices does on
a core, is 0.94 us for 12-12 (1.5 us padded) and 6.6 us for 52-52 (9.6 us padded). Dropout of 25 % adds 10 to 25 %.

A tile
------
A product of matrices is cut into tiles of ROWS x COLUMNS = 4 x 16 numbers of its result. A tile's 64 sums stay in
registers for the whole depth of the product: a layer's inputs in the forward pass, the batch for a gradient.

                                     right (K x H)
                                     +------+----------------+------+
                                   k |      |################|      |  one load of 16 neighbours
                                     +------+----------------+------+
                                            |                |
        left (B x K)                        v out (B x H)    v
        +-----------+---+-----+      +------+----------------+------+
      r |           | a |     |  ->  |      | a * ########## |      |  16 sums, += by one fused multiply-add
        |           | b |     |  ->  |      | b * ########## |      |  16 sums
        |           | c |     |  ->  |      | c * ########## |      |  16 sums
        |           | d |     |  ->  |      | d * ########## |      |  16 sums
        +-----------+---+-----+      +------+----------------+------+
                      k                      columns c to c + 15

    load the 4 x 16 sums from out;  for k in 0 ... K - 1: the picture;  store the sums

Each step loads 16 + 4 numbers and does 64 multiply-adds: 40 billion a second on one core, where plain loops, which
store and reload the sums, reached 8 to 20. Tiles need no special cases at the edges, because widths are padded to
multiples of 16 and batches to multiples of 4. The order of a sum depends on the run's shape only.

What the runs of a stack share
------------------------------
The shape (padded widths, batch size, optimizer kind, sizes of the splits), the images, the loop around the engine, the
worker's claim and its transactions; the torch engine's runs also share each operation. Parameters, optimizer state,
settings, seeds and splits are not shared: each is one row per slot. A run on a CPU has the same bits alone and in any
stack, and so has a run of the fused engine.

How to debug the compiled engine
--------------------------------
* Compare it with the torch engine: `StackTraining(members, device, is_compiled=False)`, in which every tensor can be
  printed. Both follow plain torch to 1e-8 with `dtype=torch.float64`. `tests/workers/training/test_stack.py` checks
  that, and a run's bits in stacks; test_randomness.py checks the random numbers against Random123's known answers.
* Call one kernel with numpy arrays: `draws.draw_order(3, 1, 6)`. `print` works inside a kernel. A kernel that calls
  neither a tile nor `exp` also runs as Python, under a debugger: `kernels.step_sgd.py_func(...)`.
* `NUMBA_DISABLE_JIT=1` does not help: tiles exist only as LLVM code and raise NotImplementedError in Python. The
  service removes the variable from its environment (`app/surroundings.py`).
* `NUMBA_BOUNDSCHECK=1` raises IndexError at a wrong index, except inside tiles. It is no part of the cache's key, so it
  needs an empty cache: `NUMBA_CACHE_DIR=/tmp/checked`.
* The cache: `engines/__pycache__/*.nbi` and `*.nbc`; Numba's user-wide cache folder if that is not writable; or
  `NUMBA_CACHE_DIR` (in the Docker image, /data/numba-cache). File names carry a digest of the sources
  (`compilation.DIGEST`), so after any edit, of a comment too, the kernels are compiled anew, in a dozen seconds or
  more. Old files may be deleted.

How to debug the fused engine
-----------------------------
* Without a GPU: `tests/workers/training/engines/emulation.py` compiles `train.cu` by g++, and `FusedEngine` runs it on
  tensors of the CPU, threads one by one between barriers. In float64 it has the compiled engine's bits (SGD without
  schedule, batches of at most 32), else the difference is in the last digits. `printf` and gdb work; shared memory
  begins as NaN; threads that part at a barrier are reported with both lines.
* `tests/workers/training/engines/test_cuda_barriers.py` records launches and replays them with the threads in other
  orders, without a barrier, and under ThreadSanitizer.
* With a GPU: `python -m tests.benchmarks.gpu` compares with the CPU, looks at bits and runs compute-sanitizer.
* The cache: `train-*.cubin` beside Numba's files. A name has a digest of sources, options, compiler and architecture.
"""

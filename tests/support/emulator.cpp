// A GPU in name only: the kernels' own source, compiled for the CPU and run block by block.
//
// Each thread of a block is a fibre that runs until a barrier, in rising or in falling order. So a barrier that is
// missing shows: one order or the other reads shared memory before it was written.

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <vector>

using std::max;
using std::min;

struct Dim { unsigned x, y, z; };
static Dim threadIdx, blockIdx;

static const int MOST = 256;
static const size_t STACK = 64 << 10;
static jmp_buf scheduler, fibres[MOST];
static bool done[MOST];
static int running;
static void (*kernel)();
static const void *arguments;

// Contexts make the fibres, jumps switch between them: a context saves the signals too, by a system call.
static void leave()
{
    if (!_setjmp(fibres[running]))
        _longjmp(scheduler, 1);
}

static void live() // a fibre's life: one kernel after another
{
    for (;;) {
        leave();
        kernel();
        done[running] = true;
    }
}

// Filled with NaN before each block: what a kernel reads without having written it spoils its result, and what it
// writes into the guard beyond its own part is seen.
static const int GUARD = 256;
alignas(16) static float memory[(12 << 10) + GUARD];

static void __syncthreads() { leave(); }
static unsigned atomicOr(unsigned *at, unsigned bits) { unsigned old = *at; *at |= bits; return old; }
static int __ffs(unsigned bits) { return __builtin_ffs((int)bits); }
static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }

#define __device__ static
#define __global__
#define __grid_constant__
#define __shared__ __attribute__((unused)) // `extern __shared__ float memory[]` is the one above
#include "kernels.cu"

template <typename Arguments, void (*function)(Arguments)> static void enter()
{
    function(*(const Arguments *)arguments);
}

static void resume(int fibre)
{
    running = fibre;
    threadIdx = {(unsigned)fibre, 0, 0};
    if (!_setjmp(scheduler))
        _longjmp(fibres[fibre], 1);
}

static void make_fibres()
{
    static std::vector<char> stacks(MOST * STACK);
    static ucontext_t here, fibre;
    for (running = 0; running < MOST; running++) {
        getcontext(&fibre);
        fibre.uc_stack.ss_sp = &stacks[running * STACK];
        fibre.uc_stack.ss_size = STACK;
        fibre.uc_link = nullptr;
        makecontext(&fibre, live, 0);
        if (!_setjmp(scheduler))
            swapcontext(&here, &fibre); // it comes back by a jump, before its first kernel
    }
}

static void run_block(int threads, bool falling)
{
    std::fill_n(done, threads, false);
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < threads; i++) {
            int fibre = falling ? threads - 1 - i : i;
            if (done[fibre])
                continue;
            resume(fibre);
            more |= !done[fibre];
        }
    }
}

static void (*find(const char *name))()
{
#define KERNEL(arguments, kernel) if (!strcmp(name, #kernel)) return enter<arguments, kernel>
    KERNEL(ScaleArguments, scale_uint8);
    KERNEL(ScaleArguments, scale_float32);
    KERNEL(DecodeArguments, decode_cells_float32);
    KERNEL(DecodeArguments, decode_cells_float16);
    KERNEL(DecodeArguments, decode_labels_float32);
    KERNEL(DecodeArguments, decode_labels_float16);
    return nullptr;
}

// 0; or 1 where there is no such kernel, 2 where a block does not fit, 3 where one wrote beyond its shared memory.
extern "C" int launch(const char *name, const unsigned grid[3], int threads, int shared, const void *given, int falling)
{
    kernel = find(name);
    if (!kernel)
        return 1;
    if (threads > MOST || shared > (int)sizeof(memory) - 4 * GUARD)
        return 2;
    static bool made = (make_fibres(), true);
    arguments = given;
    for (unsigned y = 0; made && y < grid[1]; y++)
        for (unsigned x = 0; x < grid[0]; x++) {
            std::fill_n(memory, shared / 4 + GUARD, NAN);
            blockIdx = {x, y, 0};
            run_block(threads, falling);
            if (!std::all_of(memory + shared / 4, memory + shared / 4 + GUARD, [](float value) { return isnan(value); }))
                return 3;
        }
    return 0;
}

extern "C" void widen(const unsigned short *halves, float *out, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = score(halves, i);
}

extern "C" int argument_bytes(int decode) { return decode ? sizeof(DecodeArguments) : sizeof(ScaleArguments); }

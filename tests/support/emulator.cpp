// A GPU in name only: the kernels' own source, compiled for the CPU and run block by block.
//
// Each thread of a block is a fibre that runs until a barrier, in rising or in falling order. So a barrier that is
// missing shows: one order or the other reads shared memory before it was written.

#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <iterator>
#include <vector>

using std::max;
using std::min;

struct Dim { unsigned x, y, z; };
static Dim threadIdx, blockIdx;

static const int MOST = 256;
static const size_t STACK = 64 << 10;
static ucontext_t scheduler, fibres[MOST];
static bool done[MOST];
static int running;

// Filled with NaN before each block: what a kernel reads without having written it spoils its result, and what it
// writes beyond its own part is seen.
alignas(16) static float memory[12 << 10];

static void __syncthreads() { swapcontext(&fibres[running], &scheduler); }
static unsigned atomicOr(unsigned *at, unsigned bits) { unsigned old = *at; *at |= bits; return old; }
static int __ffs(unsigned bits) { return __builtin_ffs((int)bits); }
static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }

#define __device__ static
#define __global__
#define __shared__ __attribute__((unused)) // `extern __shared__ float memory[]` is the one above
#include "kernels.cu"

template <typename Arguments, void (*kernel)(Arguments)> static void enter()
{
    extern const void *arguments;
    kernel(*(const Arguments *)arguments);
    done[running] = true;
    swapcontext(&fibres[running], &scheduler);
}

const void *arguments;

static void run_block(void (*entry)(), int threads, bool falling)
{
    static std::vector<char> stacks(MOST * STACK);
    for (int i = 0; i < threads; i++) {
        getcontext(&fibres[i]);
        fibres[i].uc_stack.ss_sp = &stacks[i * STACK];
        fibres[i].uc_stack.ss_size = STACK;
        fibres[i].uc_link = nullptr;
        makecontext(&fibres[i], entry, 0);
        done[i] = false;
    }
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < threads; i++) {
            running = falling ? threads - 1 - i : i;
            if (done[running])
                continue;
            threadIdx = {(unsigned)running, 0, 0};
            swapcontext(&scheduler, &fibres[running]);
            more |= !done[running];
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
    void (*entry)() = find(name);
    if (!entry)
        return 1;
    if (threads > MOST || shared > (int)sizeof(memory))
        return 2;
    arguments = given;
    for (unsigned y = 0; y < grid[1]; y++)
        for (unsigned x = 0; x < grid[0]; x++) {
            std::fill(std::begin(memory), std::end(memory), NAN);
            blockIdx = {x, y, 0};
            run_block(entry, threads, falling);
            if (!std::all_of(memory + shared / 4, std::end(memory), [](float value) { return isnan(value); }))
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

// A frame scaled to the network's input, and the network's scores decoded to labels.
//
// NVRTC compiles this for the GPU at hand. It includes nothing and asks little of C++, so that a C++ compiler takes
// it too: that is how the tests run every line of it, barriers included, where there is no GPU.
//
// Where pixels lie between samples does not change from frame to frame, so it is worked out once, on the host, in
// integers (geometry.py), and read here from tables: no division is left, and the tables stay in the cache.
//
// Each kernel has one parameter, a struct whose twin is in kernels.py; as a grid constant it is read where it lies,
// and no thread has a copy of its own.

const int THREADS = 256;      // a block: 8 warps, small enough that several blocks share a multiprocessor and hide
                              // each other's barriers, large enough that a tile's edge is a small part of it
const int LANES = 32;
const int WARPS = THREADS / LANES;
const int STRIP = 4;          // labels a thread writes at once: a warp's store is then 128 bytes, a whole cache line
const int MASK_WORDS = 8;     // 254 classes, one bit each
const unsigned INFINITE = 0x7f800000u;

// ---------------------------------------------------------------------------------------------------------- scale

struct alignas(16) Taps {     // which samples make a pixel; first is -1 on the border
    int first, last;
    float head, tail;         // the shares of the first and the last sample; those between share alike
};

struct ScaleArguments {
    const unsigned *frame;    // uint8 (H, W, 3), read in whole words
    void *out;
    const Taps *rows, *columns;  // of every row and column of `out`
    float row_body, column_body;  // the share of each sample between the first and the last
    int pitch;                // bytes of a row of the frame
    int width, content;       // columns of `out`, and those of them that are no border
    int tile;                 // columns of a block: 3 * tile threads have one byte or float each to write
    int row_step, column_step;  // in elements of `out`
    int channel_at[3];        // where blue, green and red go, likewise
    float factor[3], shift[3];  // of blue, green and red, where `out` is float
    float border[3];          // their levels beyond the content
};

// The sum of four neighbouring bytes over the rows of one output row. Vertical first: a warp then reads 128
// consecutive bytes at a time, and each byte once for each row that it is part of.
__device__ void sum_rows(const ScaleArguments &a, const Taps &row, int begin, int word, float *sums)
{
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    unsigned at = (unsigned)row.first * a.pitch + begin + 4 * word;
    for (int sample = row.first; sample <= row.last; sample++, at += a.pitch) {
        float share = sample == row.first ? row.head : sample == row.last ? row.tail : a.row_body;
        const unsigned *words = a.frame + (at >> 2);
        unsigned shift = (at & 3) * 8;  // rows of 3 * W bytes begin anywhere in a word
        unsigned bytes = words[0] >> shift;
        if (shift)
            bytes |= words[1] << (32 - shift);
        for (int i = 0; i < 4; i++) {
            // Adding 2^23 by its bits turns a byte into a float with no conversion, of which a multiprocessor does
            // 16 a clock where it does 128 subtractions (CUDA C++ Programming Guide, arithmetic throughput).
            float level = __uint_as_float(0x4b000000u | (bytes >> 8 * i & 255u)) - 8388608.0f;
            total[i] = fmaf(share, level, total[i]);
        }
    }
    for (int i = 0; i < 4; i++)
        sums[4 * word + i] = total[i];
}

__device__ float sum_columns(const ScaleArguments &a, const Taps &column, const float *sums)
{
    const float *sample = sums + 3 * column.first;
    float total = column.head * *sample;
    for (int i = column.first + 1; i < column.last; i++)
        total = fmaf(a.column_body, *(sample += 3), total);
    return column.first < column.last ? fmaf(column.tail, sample[3], total) : total;
}

__device__ void put(unsigned char *out, float level, float, float) { *out = (unsigned char)level; }
__device__ void put(float *out, float level, float factor, float shift)
{
    float scaled = level * factor;  // two roundings, as on the host
    *out = scaled - shift;
}

template <typename Out> __device__ void scale(const ScaleArguments &a)
{
    extern __shared__ float memory[];
    int from = blockIdx.x * a.tile, thread = threadIdx.x;
    Taps row = a.rows[blockIdx.y];
    int begin = 0;
    if (row.first >= 0 && from < a.content) {
        int last = min(from + a.tile, a.content) - 1;
        begin = 3 * a.columns[from].first & ~3;  // whole words, where rows are
        int end = 3 * a.columns[last].last + 3;
        for (int word = thread; begin + 4 * word < end; word += THREADS)
            sum_rows(a, row, begin, word, memory);
    }
    __syncthreads();
    int x = from + thread / 3, channel = thread % 3;
    if (thread >= 3 * a.tile || x >= a.width)
        return;
    float level = a.border[channel];
    if (row.first >= 0 && x < a.content)
        level = floorf(sum_columns(a, a.columns[x], memory + channel - begin) + 0.5f);
    Out *out = (Out *)a.out + (int)blockIdx.y * a.row_step + x * a.column_step + a.channel_at[channel];
    put(out, level, a.factor[channel], a.shift[channel]);
}

extern "C" __global__ void scale_uint8(__grid_constant__ const ScaleArguments a) { scale<unsigned char>(a); }
extern "C" __global__ void scale_float32(__grid_constant__ const ScaleArguments a) { scale<float>(a); }

// --------------------------------------------------------------------------------------------------------- decode

struct alignas(8) Place {     // where a label lies between two samples
    int sample;               // the one before it
    float weight;             // the share of the one after it, in [0, 1)
};

struct DecodeArguments {
    const void *scores;       // float32 or float16 (C, h, w)
    unsigned char *labels;    // uint8 (H, W)
    const Place *rows, *columns;  // of every row and column of `labels`
    const int *bands;         // the first row of each block, and the end of the last; a band has one row of cells
    int classes, plane, pitch;  // plane and pitch: elements from class to class and from row to row
    int bottom, right;        // the last row and column of samples
    int height, width;        // of `labels`
    int span;                 // samples across the widest block, its right edge included
};

__device__ float score(const float *scores, int at) { return scores[at]; }

// Half precision by its bits, because cuda_fp16.h is not part of NVRTC: exact, infinities and NaN included.
__device__ float score(const unsigned short *scores, int at)
{
    unsigned half = scores[at];
    float scaled = __uint_as_float((half & 0x7fffu) << 13) * 5.192296858534828e33f;  // 2^112: the biases' difference
    unsigned bits = __float_as_uint(scaled) | (scaled >= 65536.0f ? INFINITE : 0u);
    return __uint_as_float(bits | (half & 0x8000u) << 16);
}

__device__ bool is_finite(float value) { return fabsf(value) < __uint_as_float(INFINITE); }

// A score between four samples. A weight of 0 hides its sample, were that infinite or NaN.
__device__ float blend(float a, float b, float c, float d, float down, float right)
{
    float up = 1.0f - down, left = 1.0f - right;
    float value = left * (up * a + down * c) + right * (up * b + down * d);
    if (is_finite(value))
        return value;
    float corner[4] = {a, b, c, d}, total = 0.0f;
    for (int i = 0; i < 4; i++) {
        float weight = (i >= 2 ? down : up) * (i % 2 ? right : left);
        if (weight > 0.0f)
            total += weight * corner[i];
    }
    return total;
}

const int MIXED = -1;         // instead of a label, in a cell whose corners disagree

struct Tile {                 // a block's part of the scores, in shared memory
    float *corners;           // (C, 2, span): the samples above and below the band
    float *mean;              // (4, span): of the four winners of a cell, at its corners
    unsigned *mask;           // (span, MASK_WORDS): the classes that may win in a cell
    int *winners;             // (2, span): the best class at each sample, the lowest of equals
    int *settled;             // (span): a cell's label, or MIXED
};

__device__ Tile tile(const DecodeArguments &a, float *memory)
{
    Tile t;
    t.corners = memory;
    t.mean = t.corners + a.classes * 2 * a.span;
    t.mask = (unsigned *)(t.mean + 4 * a.span);
    t.winners = (int *)(t.mask + MASK_WORDS * a.span);
    t.settled = t.winners + 2 * a.span;
    return t;
}

template <typename Score> __device__ void load(const DecodeArguments &a, Tile t, int top, int left)
{
    const Score *scores = (const Score *)a.scores;
    for (int line = threadIdx.x / LANES; line < 2 * a.classes; line += WARPS) {
        int start = line / 2 * a.plane + min(top + line % 2, a.bottom) * a.pitch;
        for (int x = threadIdx.x % LANES; x < a.span; x += LANES)
            t.corners[line * a.span + x] = score(scores, start + min(left + x, a.right));
    }
}

__device__ void find_winners(const DecodeArguments &a, Tile t)
{
    for (int i = threadIdx.x; i < 2 * a.span; i += THREADS) {
        float best = -__uint_as_float(INFINITE);
        int winner = 0;
        for (int k = 0; k < a.classes; k++) {
            float value = t.corners[k * 2 * a.span + i];
            if (value > best) {  // never where it is NaN
                best = value;
                winner = k;
            }
        }
        t.winners[i] = winner;
    }
}

// Most cells have one winner at all four corners, and are settled by that. Infinite scores make no difference: a class
// that is nowhere below another is below none between; and where no class has a score at a corner, class 0 is taken,
// which is what becomes of every label that the corner has a share in.
__device__ void settle_cells(const DecodeArguments &a, Tile t)
{
    for (int cell = threadIdx.x; cell < a.span - 1; cell += THREADS) {
        const int *above = t.winners + cell, *below = above + a.span;
        int winner[4] = {above[0], above[1], below[0], below[1]};
        bool same = winner[0] == winner[1] && winner[0] == winner[2] && winner[0] == winner[3];
        t.settled[cell] = same ? winner[0] : MIXED;
        if (same)
            continue;
        for (int i = 0; i < MASK_WORDS; i++)
            t.mask[cell * MASK_WORDS + i] = 0;
        for (int corner = 0; corner < 4; corner++) {
            const float *scores = t.corners + corner / 2 * a.span + cell + corner % 2;
            float quarter[4];
            for (int i = 0; i < 4; i++)
                quarter[i] = 0.25f * scores[winner[i] * 2 * a.span];
            // Summed in pairs, rounding cannot lift the mean above the greatest of the four.
            t.mean[corner * a.span + cell] = (quarter[0] + quarter[1]) + (quarter[2] + quarter[3]);
        }
    }
}

// A class that is below the mean of the corners' winners at all four corners is below one of them everywhere between,
// at an infinite mean too; where the mean is NaN or minus infinity, no class is left out.
__device__ void gather_candidates(const DecodeArguments &a, Tile t)
{
    for (int k = threadIdx.x / LANES; k < a.classes; k += WARPS) {
        const float *above = t.corners + k * 2 * a.span, *below = above + a.span;
        for (int cell = threadIdx.x % LANES; cell < a.span - 1; cell += LANES) {
            if (t.settled[cell] != MIXED)
                continue;
            const float *mean = t.mean + cell;
            if (above[cell] < mean[0] && above[cell + 1] < mean[a.span] && below[cell] < mean[2 * a.span] &&
                below[cell + 1] < mean[3 * a.span])
                continue;
            atomicOr(&t.mask[cell * MASK_WORDS + k / 32], 1u << k % 32);
        }
    }
}

__device__ int contest(const DecodeArguments &a, Tile t, int cell, float down, float right)
{
    float best = -__uint_as_float(INFINITE);
    int winner = 0;
    for (int base = 0; base < a.classes; base += 32) {
        for (unsigned mask = t.mask[cell * MASK_WORDS + base / 32]; mask; mask &= mask - 1) {  // from the lowest class up: the first of equals stays
            int k = base + __ffs(mask) - 1;
            const float *above = t.corners + k * 2 * a.span + cell, *below = above + a.span;
            float value = blend(above[0], above[1], below[0], below[1], down, right);
            if (value > best) {
                best = value;
                winner = k;
            }
        }
    }
    return winner;
}

// For cells of several labels. A block has one row of cells and 128 columns of labels: it reads its corners once,
// into shared memory, where every label between them finds them again.
template <typename Score> __device__ void decode_cells(const DecodeArguments &a)
{
    extern __shared__ float memory[];
    Tile t = tile(a, memory);
    int from = blockIdx.x * LANES * STRIP, first = a.bands[blockIdx.y], end = a.bands[blockIdx.y + 1];
    int left = a.columns[from].sample;
    load<Score>(a, t, a.rows[first].sample, left);
    __syncthreads();
    find_winners(a, t);
    __syncthreads();
    settle_cells(a, t);
    __syncthreads();
    gather_candidates(a, t);
    __syncthreads();
    from += threadIdx.x % LANES * STRIP;
    if (from >= a.width)
        return;
    int cells[STRIP];
    float weights[STRIP];
    for (int i = 0; i < STRIP; i++) {
        Place place = a.columns[min(from + i, a.width - 1)];
        cells[i] = place.sample - left;
        weights[i] = place.weight;
    }
    for (int y = first + threadIdx.x / LANES; y < end; y += WARPS) {
        float down = a.rows[y].weight;
        unsigned labels = 0;
        for (int i = 0; i < STRIP; i++) {
            int label = t.settled[cells[i]];
            if (label < 0)
                label = contest(a, t, cells[i], down, weights[i]);
            labels |= (unsigned)label << 8 * i;
        }
        unsigned char *out = a.labels + (long long)y * a.width + from;
        if (a.width % STRIP == 0)
            *(unsigned *)out = labels;
        else
            for (int i = 0; i < min(STRIP, a.width - from); i++)
                out[i] = (unsigned char)(labels >> 8 * i);
    }
}

// For cells of few labels or none, where the scores are most of the bytes and finding winners first saves nothing:
// a thread a label, whose samples its neighbours read too and find in the cache.
template <typename Score> __device__ void decode_labels(const DecodeArguments &a)
{
    int x = blockIdx.x * LANES + threadIdx.x % LANES, y = blockIdx.y * WARPS + threadIdx.x / LANES;
    if (x >= a.width || y >= a.height)
        return;
    Place row = a.rows[y], column = a.columns[x];
    int above = row.sample * a.pitch, below = min(row.sample + 1, a.bottom) * a.pitch;
    int left = column.sample, right = min(column.sample + 1, a.right);
    float best = -__uint_as_float(INFINITE);
    int winner = 0;
    const Score *scores = (const Score *)a.scores;
    for (int k = 0; k < a.classes; k++, scores += a.plane) {
        float value = blend(score(scores, above + left), score(scores, above + right), score(scores, below + left),
                            score(scores, below + right), row.weight, column.weight);
        if (value > best) {
            best = value;
            winner = k;
        }
    }
    a.labels[(long long)y * a.width + x] = (unsigned char)winner;
}

extern "C" __global__ void decode_cells_float32(__grid_constant__ const DecodeArguments a) { decode_cells<float>(a); }
extern "C" __global__ void decode_cells_float16(__grid_constant__ const DecodeArguments a) { decode_cells<unsigned short>(a); }
extern "C" __global__ void decode_labels_float32(__grid_constant__ const DecodeArguments a) { decode_labels<float>(a); }
extern "C" __global__ void decode_labels_float16(__grid_constant__ const DecodeArguments a) { decode_labels<unsigned short>(a); }

// What the kernels are told: plain argument blocks of pointers, sizes and strides (in elements, unless named bytes).
//
// A kernel is a function over one *item* of its arguments; items are independent, write disjoint
// memory and never share a sum, so that their order and their threads cannot change a bit.
// Nothing here is inline code: these headers are compiled into every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

enum class Format : int32_t { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K };
enum class CacheType : int32_t { F32, BF16, F16 };
enum class GatedActivation : int32_t { SiLU, GELUTanh };

// y (rows, out_features) = x (rows, in_features) · Wᵀ + bias; bias may be null.
struct LinearArguments {
    const float* x;
    int64_t x_stride;
    const std::byte* weight;  // panels, see panel.h
    Format format;
    const float* bias;
    float* y;
    int64_t y_stride;
    int64_t rows, in_features, out_features;
};

// x (rows, in_features) to bytes, per row and group of 32: x ≈ scale·q with scale = max|x| / 127. in_features is a
// multiple of 32. Scales and sums lie by group, so that the rows of a tile are neighbours.
struct QuantizeArguments {
    const float* x;
    int64_t x_stride;
    int8_t* q;       // (rows, in_features)
    float* scales;   // (in_features / 32, rows)
    int32_t* sums;   // (in_features / 16, rows): of q, over each half of a group
    int64_t rows, in_features;
};

// y (rows, out_features) = quantised x · Wᵀ + bias, for block formats.
struct LinearInt8Arguments {
    const int8_t* q;  // as QuantizeArguments leaves them
    const float* scales;
    const int32_t* sums;
    const std::byte* weight;
    Format format;
    const float* bias;
    float* y;
    int64_t y_stride;
    int64_t rows, in_features, out_features;
};

// y (rows, in_features): rows `ids` of W; ids null means rows 0, 1, 2, …
struct EmbeddingArguments {
    const int64_t* ids;
    const std::byte* weight;
    Format format;
    float* y;
    int64_t rows, in_features, out_features;
};

// y = x / sqrt(mean(x²) + eps) · weight. With residual: x + residual is normed, and written to total.
struct RmsNormArguments {
    const float* x;
    int64_t x_stride;
    const float* residual;  // contiguous, or null
    float* total;           // contiguous, or null with residual
    const float* weight;
    float* y;  // contiguous
    int64_t rows, channels;
    float eps;
};

struct LayerNormArguments {
    const float* x;
    int64_t x_stride;
    const float* weight;
    const float* bias;  // or null
    float* y;           // contiguous
    int64_t rows, channels;
    float eps;
};

// In place on the first rotary_size elements of each of `heads` heads, head_stride apart.
struct RotaryArguments {
    float* x;
    int64_t token_stride, head_stride;
    const float* cos_sin;  // (positions, rotary_size), row = [cos | sin]
    const int64_t* positions;
    int64_t tokens, heads, rotary_size;
};

// y (rows, features) = act(x[:, :features]) · x[:, features:]
struct GatedArguments {
    const float* x;
    int64_t x_stride;
    float* y;  // contiguous
    int64_t rows, features;
    GatedActivation activation;
};

// A cache (num_blocks, block_size, heads, head_size) with contiguous last dimension.
struct CacheView {
    std::byte* data;
    int64_t block_stride, slot_stride, head_stride;
};

struct StoreArguments {
    const float* x;
    int64_t token_stride, head_stride;
    CacheView cache;
    CacheType type;
    const int64_t* slots;
    int64_t tokens, heads, head_size, block_size;
};

// Query rows of one request, and the splits of its keys (kKvSplit of them at fixed positions) that they walk.
struct AttentionTile {
    int32_t request, first_row, num_tokens;  // rows counted over the step
    int32_t first_split, num_splits;         // splits without a key that the rows see may be among them
    float* partial;                          // see PartialRows of kernels/attention_state.h; null to write o
    int32_t partial_tokens, partial_token;   // tokens that share `partial`, and which of them is the tile's first
};

// One item is (tile, KV head), the heads of a tile one after the other: their keys are neighbours in memory.
struct AttentionArguments {
    const float* q;
    int64_t q_token_stride, q_head_stride;
    CacheView k, v;
    CacheType type;
    float* o;  // contiguous (tokens, heads, value_size)
    const int32_t* query_starts;
    const int32_t* seq_lens;
    const int32_t* block_tables;
    int64_t max_blocks, block_size;
    const AttentionTile* tiles;
    int64_t num_tiles;
    int64_t heads, kv_heads, key_size, value_size;
    float scale, softcap;
    int64_t window;        // at least 1; INT64_MAX for none
    const float* sinks;    // (heads,) or null
    bool is_causal;        // else every row sees all keys, and window is none
};

// Every instruction set fills one of these. `item` counts from 0 to the number that items.h gives.
struct KernelTable {
    const char* name;
    void (*linear)(const void* arguments, int64_t item);
    void (*quantize)(const void* arguments, int64_t item);
    void (*linear_int8)(const void* arguments, int64_t item);
    void (*embedding)(const void* arguments, int64_t item);
    void (*rms_norm)(const void* arguments, int64_t item);
    void (*layer_norm)(const void* arguments, int64_t item);
    void (*rotary)(const void* arguments, int64_t item);
    void (*gated)(const void* arguments, int64_t item);
    void (*store)(const void* arguments, int64_t item);
    void (*attention)(const void* arguments, int64_t item);
    void (*attention_merge)(const void* arguments, int64_t item);
};

// One of several ways to run linear_int8 on one instruction set; they differ in speed only.
struct Int8Path {
    const char* name;
    void (*run)(const void* arguments, int64_t item);
    int64_t min_rows;  // from how many rows on it is the faster one
};

// One of several ways to run attention on one instruction set; their bits may differ. The splits are merged by the table's
// attention_merge.
struct AttentionPath {
    const char* name;
    void (*run)(const void* arguments, int64_t item);
    bool is_bf16_only;  // for caches of that type only
};

// How work is cut into items. Cutting decides who computes a row, never how.
constexpr int64_t kPanelColumns = 32;
constexpr int64_t kLinearRowsPerItem = 240;
constexpr int64_t kInt8RowsPerItem = 256;
constexpr int64_t kElementsPerItem = 16384;  // of row-wise kernels
constexpr int64_t kMinAttentionRows = 64, kMaxAttentionRows = 512;  // of an item: tokens · heads a group

// Keys are merged in splits of this many, in order, by whoever computes them: bits depend on it.
constexpr int64_t kKvSplit = 2048;
constexpr int64_t kPartialAlignment = 32;  // of a row of a partial result, in elements

// Scratch of the calling thread, 64-byte aligned, uninitialised, at least `bytes`; valid until the next call on it.
void* thread_scratch(size_t bytes);

}  // namespace octavo

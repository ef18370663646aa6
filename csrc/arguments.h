// What the kernels are told: plain argument blocks of pointers, sizes and strides (in elements, unless named bytes).
//
// A kernel is a function over one *item* of its arguments; items are independent, write disjoint
// memory and never share a sum, so that their order and their threads cannot change a bit.
// Nothing here is inline code: these headers are compiled into every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

enum class Format : int32_t { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, I8, BF16Tiles };
enum class ElementType : int32_t { F32, BF16, F16, F8E4M3, I8 };  // of queries, and of caches
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
struct QuantizeGroupsArguments {
    const float* x;
    int64_t x_stride;
    int8_t* q;       // (rows, in_features)
    float* scales;   // (in_features / 32, rows)
    int32_t* sums;   // (in_features / 16, rows): of q, over each half of a group
    int64_t rows, in_features;
};

// y (rows, out_features) = quantised x · Wᵀ + bias, for block formats.
struct LinearInt8Arguments {
    const int8_t* q;  // as QuantizeGroupsArguments leaves them
    const float* scales;
    const int32_t* sums;
    const std::byte* weight;
    Format format;
    const float* bias;
    float* y;
    int64_t y_stride;
    int64_t rows, in_features, out_features;
};

// y (rows, channels) = x, rounded to bf16 (to nearest even).
struct RoundArguments {
    const float* x;
    int64_t x_stride;
    uint16_t* y;  // contiguous
    bool is_paired;  // y, as in LinearBf16Arguments; channels is then a multiple of 32
    int64_t rows, channels;
};

// y (rows, out_features) = x (rows, in_features) · Wᵀ + bias with x and W in bf16, for in_features that are multiples of 32.
struct LinearBf16Arguments {
    // Paired rows: blocks of kPairedRows of them (the last of what is left), a block as [in_features / 2][rows of the
    // block][2], so that neighbours along K are side by side, as TDPBF16PS takes its second operand.
    const uint16_t* x;
    const std::byte* weight;
    Format format;
    const float* bias;
    float* y;
    int64_t y_stride;
    int64_t rows, in_features, out_features;
    int64_t num_runs;       // into which the pairs of strips of 16 columns are cut; run() chooses
    int64_t rows_per_item;  // a multiple of 2 · kPairedRows, at most kMaxBf16RowsPerItem; run() chooses
};

// y (rows, features) = act(x·Wᵀ[:features]) · x·Wᵀ[features:] with x, W and y in bf16, for in_features that are multiples of 32
// and features that are.
struct GatedLinearArguments {
    const uint16_t* x;  // paired rows, as in LinearBf16Arguments
    const std::byte* weight;
    Format format;
    uint16_t* y;  // paired rows
    int64_t rows, in_features, features;
    GatedActivation activation;
    int64_t num_runs;       // into which the pairs of strips of 16 columns are cut; run() chooses
    int64_t rows_per_item;  // a multiple of 2 · kPairedRows, at most kMaxBf16RowsPerItem; run() chooses
};

// x (rows, in_features) to bytes, one scale a row: x ≈ scale·q with scale = max|x| / 127.
struct QuantizeRowsArguments {
    const float* x;
    int64_t x_stride;
    int8_t* q;      // (rows, in_features up to a multiple of kRowPadding)
    float* scales;  // (rows)
    int32_t* sums;  // (rows): of q
    int64_t rows, in_features;
};

// y (rows, out_features) = quantised x · Wᵀ + bias, for I8.
struct LinearI8Arguments {
    const int8_t* q;  // as QuantizeRowsArguments leaves them
    const float* scales;
    const int32_t* sums;
    const std::byte* weight;
    const float* bias;
    float* y;
    int64_t y_stride;
    int64_t rows, in_features, out_features;
};

// y (rows, in_features): rows `ids` of W, times scale; ids null means rows 0, 1, 2, …
struct EmbeddingArguments {
    const int64_t* ids;
    const std::byte* weight;
    Format format;
    float scale;
    float* y;
    int64_t rows, in_features, out_features;
};

// y (rows, channels) = rows `ids` of x.
struct TakeRowsArguments {
    const float* x;
    int64_t x_stride;
    const int64_t* ids;
    float* y;  // contiguous
    int64_t rows, channels;
};

// total = x + y, all contiguous.
struct AddArguments {
    const float* x;
    const float* y;
    float* total;
    int64_t rows, channels;
};

// y = cap·tanh(x / cap), both contiguous.
struct SoftcapArguments {
    const float* x;
    float* y;
    int64_t rows, channels;
    float cap;
};

// maximums (rows, ceil(channels / tile)) of x by tiles of `tile` neighbouring channels; NaN for a tile that holds one.
struct TileMaxArguments {
    const float* x;
    int64_t x_stride;
    float* maximums;  // contiguous
    int64_t rows, channels, tile;
};

// y = softmax(x / temperature) over the channels of a row, or its logarithm; temperatures (rows,) or null for 1.
struct SoftmaxArguments {
    const float* x;
    int64_t x_stride;
    const float* temperatures;
    float* y;  // contiguous
    int64_t rows, channels;
    bool is_log;
};

// Where a kernel that is fused with `quantize_groups` or `round` leaves what their arguments describe; q or bf16 null for none.
struct NarrowOutput {
    int8_t* q;
    float* scales;
    int32_t* sums;
    uint16_t* bf16;
    bool is_paired;  // bf16, as in LinearBf16Arguments; channels is then a multiple of 32
};

// y = x / sqrt(mean(x²) + eps) · weight, for each of the `heads` heads of a token: row = token · heads + head.
// With residual, x + residual is normed, and written to total; that takes one head.
struct RmsNormArguments {
    const float* x;
    int64_t x_stride, head_stride;  // of tokens and heads
    const float* residual;  // contiguous, or null
    float* total;           // contiguous, or null with residual
    const float* weight;
    float* y;  // contiguous, or null where only its narrow form is wanted
    NarrowOutput narrow;  // with q, channels is a multiple of 32
    int64_t rows, heads, channels;
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
    int64_t rows, heads, rotary_size;
};

// y (rows, features) = act(x[:, :features]) · x[:, features:]
struct GatedArguments {
    const float* x;
    int64_t x_stride;
    float* y;  // contiguous, or null where only its narrow form is wanted
    NarrowOutput narrow;  // with q, features is a multiple of 32
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
    ElementType type;
    const int64_t* slots;
    int64_t rows, heads, head_size, block_size;
};

// From a token's query, key and value heads to what attention reads, in one pass: q and k normed (a weight that is null:
// not), rotated on their first rotary_size elements; q to q_out, k and v to their cache slots.
struct HeadsArguments {
    const float* q;
    int64_t q_token_stride, q_head_stride;
    float* q_out;  // may be q
    int64_t q_out_token_stride, q_out_head_stride;
    const float* k;
    int64_t k_token_stride, k_head_stride;
    const float* v;
    int64_t v_token_stride, v_head_stride;
    const float* q_weight;
    const float* k_weight;
    float eps;
    const float* cos_sin;  // (positions, rotary_size), row = [cos | sin]
    const int64_t* positions;
    CacheView k_cache, v_cache;
    ElementType type;
    const int64_t* slots;
    int64_t rows, heads, kv_heads, key_size, value_size, rotary_size, block_size;
};

// Query rows of one request, and the splits of its keys (kKvSplit of them at fixed positions) that they walk.
struct AttentionTile {
    int32_t request, first_row, num_tokens;  // rows counted over the step
    int32_t first_split, num_splits;         // splits without a key that the rows see may be among them
    float* partial;                          // see PartialRows of kernels/attention_state.h; null to write o
    int32_t partial_tokens, partial_token;   // tokens that share `partial`, and which of them is the tile's first
};

// What a score goes through on its way to a probability, and which keys a row sees: octavo.ops.AttentionOptions.
struct AttentionScores {
    float scale, softcap;
    int64_t left, right;      // keys before and after its own position that a row sees; kNoWindow for all
    const float* sinks;       // (heads,) or null
    const float* slopes;      // of ALiBi, (heads,) a request, or null
    int64_t slopes_stride;    // from request to request
    const float* bias;        // or null
    int64_t bias_request_stride, bias_head_stride, bias_row_stride, bias_keys;
    const float* k_scales;    // (KV heads,) a request, or null
    const float* v_scales;
    int64_t k_scales_stride, v_scales_stride;
    uint64_t seed;            // of dropout
    uint32_t threshold;       // probabilities whose random word is below it are dropped
    float kept_factor;        // of the others; 0 for no dropout
};

constexpr int64_t kNoWindow = int64_t{1} << 40;

// One item is (tile, KV head), the heads of a tile one after the other: their keys are neighbours in memory.
struct AttentionArguments {
    const std::byte* q;
    ElementType q_type;  // and o's
    int64_t q_token_stride, q_head_stride;
    CacheView k, v;
    ElementType type;
    std::byte* o;
    int64_t o_token_stride, o_head_stride;
    float* lse;  // (heads, tokens), or null
    const int32_t* query_starts;
    const int32_t* seq_lens;
    const int32_t* block_tables;
    const int32_t* key_starts;  // of each request's keys in its table's tokens; null: 0
    int64_t num_requests, max_blocks, block_size;
    const AttentionTile* tiles;
    int64_t num_tiles;
    int64_t heads, kv_heads, key_size, value_size;
    AttentionScores scores;
    std::byte* const* packed;  // of each request, or null: its keys and values as its path packs them, one KV head after the other
};

// Keys and values that are packed once for all the tiles of their request: of one KV head, from first_key on.
struct PackTile {
    int32_t request, kv_head, first_key;
};

// One item is a tile. Keys that no row of their request sees are not read.
struct PackKeysArguments {
    AttentionArguments attention;
    const PackTile* tiles;
};

// A part of one request's gradients: its keys first_key … stop_key − 1, and its rows (token · group + head of the group)
// first_row … stop_row − 1. Those of keys sum over all rows, those of rows over all keys: a part of one has all of the other.
struct GradientTile {
    int32_t request;
    int64_t first_key, stop_key, first_row, stop_row;
    bool of_keys, of_rows;  // which gradients it leaves
};

// dq, dk and dv of attention, all of q's type. One item is (tile, KV head).
struct AttentionBackwardArguments {
    AttentionArguments forward;  // o is not null; no o's strides but those of (tokens, heads, value_size)
    const std::byte* d_o;        // contiguous (tokens, heads, value_size), as o
    const float* d_lse;          // (heads, tokens), or null
    float* delta;                // (heads, tokens): rowsum(dO ∘ O) − dLSE, which attention_delta leaves
    std::byte* dq;               // contiguous (tokens, heads, key_size)
    CacheView dk, dv;            // keys that no row sees are left as they are
    const GradientTile* tiles;
    int64_t num_tiles;
    int64_t kept_bytes;  // that a thread may keep packed rows in; run() chooses
};

// Every instruction set fills one of these. `item` counts from 0 to the number that dispatch.cpp gives.
struct KernelTable {
    const char* name;
    void (*linear)(const void* arguments, int64_t item);
    void (*round)(const void* arguments, int64_t item);
    void (*quantize_groups)(const void* arguments, int64_t item);
    void (*linear_int8)(const void* arguments, int64_t item);
    void (*quantize_rows)(const void* arguments, int64_t item);
    void (*linear_i8)(const void* arguments, int64_t item);
    void (*embedding)(const void* arguments, int64_t item);
    void (*take_rows)(const void* arguments, int64_t item);
    void (*add)(const void* arguments, int64_t item);
    void (*softcap)(const void* arguments, int64_t item);
    void (*tile_max)(const void* arguments, int64_t item);
    void (*softmax)(const void* arguments, int64_t item);
    void (*rms_norm)(const void* arguments, int64_t item);
    void (*layer_norm)(const void* arguments, int64_t item);
    void (*rotary)(const void* arguments, int64_t item);
    void (*gated)(const void* arguments, int64_t item);
    void (*store)(const void* arguments, int64_t item);
    void (*heads)(const void* arguments, int64_t item);
    void (*attention)(const void* arguments, int64_t item);
    void (*attention_merge)(const void* arguments, int64_t item);
    void (*attention_delta)(const void* arguments, int64_t item);
    void (*attention_backward)(const void* arguments, int64_t item);
};

// One of several ways to run linear_int8 and linear_i8 on one instruction set; they differ in speed only.
struct Int8Path {
    const char* name;
    void (*run)(const void* arguments, int64_t item);
    int64_t min_rows;  // from how many rows on it is the faster one
    void (*run_i8)(const void* arguments, int64_t item);  // the same for linear_i8
    int64_t min_rows_i8;
};

// One of several ways to run attention on one instruction set; their bits may differ. The splits are merged by the table's
// attention_merge.
struct AttentionPath {
    const char* name;
    void (*run)(const void* arguments, int64_t item);
    void (*run_backward)(const void* arguments, int64_t item);
    // How it packs the keys and values of a request for several tiles of rows, or null: the bytes of a KV head with so many keys,
    // and the packing of a PackTile.
    int64_t (*packed_bytes)(const AttentionArguments& arguments, int64_t keys);
    void (*pack)(const void* arguments, int64_t item);
};

// How work is cut into items. Cutting decides who computes a row, never how.
constexpr int64_t kPanelColumns = 32;
constexpr int64_t kLinearRowsPerItem = 240;
constexpr int64_t kInt8RowsPerItem = 256;
constexpr int64_t kMaxBf16RowsPerItem = 512;
constexpr int64_t kPairedRows = 16;  // of a tile of bf16
constexpr int64_t kRowPadding = 64;  // of rows of bytes: K of an AMX tile
constexpr int64_t kElementsPerItem = 16384;  // of row-wise kernels
constexpr int64_t kMinAttentionRows = 64, kMaxAttentionRows = 512;  // of an item: tokens · heads a group

// Keys are merged in splits of this many, in order, by whoever computes them: bits depend on it.
constexpr int64_t kKvSplit = 2048;
constexpr int64_t kPackKeys = 256;  // of a PackTile
constexpr int64_t kGradientKeys = 512, kGradientRows = 64;  // that gradients are summed by, at fixed positions
constexpr int64_t kPartialAlignment = 32;  // of a row of a partial result, in elements

// Scratch of the calling thread, 64-byte aligned, uninitialised, at least `bytes`; valid until the next call on it.
void* thread_scratch(size_t bytes);

// Gives back what is large of it: behind items whose scratch grows with the length of a request.
void trim_thread_scratch();

}  // namespace octavo

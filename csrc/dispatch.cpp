#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "thread_pool.h"

namespace octavo {

namespace baseline { extern const KernelTable table; }
#if defined(OCTAVO_X86)
namespace avx2 { extern const KernelTable table; }
namespace avx512 { extern const KernelTable table; }
#endif

namespace {

std::vector<const KernelTable*> available_tables() {
    std::vector<const KernelTable*> tables{&baseline::table};
#if defined(OCTAVO_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        tables.push_back(&avx2::table);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            tables.push_back(&avx512::table);
    }
#endif
    return tables;
}

std::atomic<const KernelTable*>& current() {
    static std::atomic<const KernelTable*> table{available_tables().back()};
    return table;
}

const KernelTable& kernels() { return *current().load(std::memory_order_relaxed); }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As for_rows of kernels/rowwise.h cuts them.
int64_t num_row_items(int64_t rows, int64_t row_elements) {
    return ceil_div(rows, std::max<int64_t>(1, kElementsPerItem / std::max<int64_t>(1, row_elements)));
}

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const KernelTable* table : available_tables()) names.emplace_back(table->name);
    return names;
}

std::string isa() { return kernels().name; }

void force_isa(const std::string& name) {
    for (const KernelTable* table : available_tables())
        if (name == table->name) return current().store(table);
    throw std::invalid_argument("instruction set " + name + " is not available here");
}

void linear(const LinearArguments& a) {
    const int64_t items = ceil_div(a.out_features, kPanelColumns) * ceil_div(a.rows, kLinearRowsPerItem);
    parallel_for(items, kernels().linear, &a);
}

void embedding(const EmbeddingArguments& a) {
    // No rows come with a null pointer, too: they are no rows, not all.
    const int64_t items = a.ids || a.rows == 0 ? a.rows : ceil_div(a.out_features, kPanelColumns);
    parallel_for(items, kernels().embedding, &a);
}

void rms_norm(const RmsNormArguments& a) {
    parallel_for(num_row_items(a.rows, a.channels), kernels().rms_norm, &a);
}

void layer_norm(const LayerNormArguments& a) {
    parallel_for(num_row_items(a.rows, a.channels), kernels().layer_norm, &a);
}

void rotary(const RotaryArguments& a) {
    parallel_for(num_row_items(a.tokens, a.heads * a.rotary_size), kernels().rotary, &a);
}

void gated(const GatedArguments& a) { parallel_for(num_row_items(a.rows, a.features), kernels().gated, &a); }

void store(const StoreArguments& a) {
    parallel_for(num_row_items(a.tokens, a.heads * a.head_size), kernels().store, &a);
}

void attention(AttentionArguments a, int64_t num_requests) {
    a.tile_tokens = std::max<int64_t>(1, kAttentionRowsPerItem / (a.heads / a.kv_heads));
    std::vector<int32_t> requests, rows;
    for (int64_t request = num_requests - 1; request >= 0; --request) {
        // The last tiles first: they see the most keys, so that the items left at the end are small.
        const int32_t start = a.query_starts[request], end = a.query_starts[request + 1];
        for (int64_t tile = ceil_div(end - start, a.tile_tokens) - 1; tile >= 0; --tile) {
            requests.push_back(static_cast<int32_t>(request));
            rows.push_back(static_cast<int32_t>(start + tile * a.tile_tokens));
        }
    }
    a.tile_request = requests.data();
    a.tile_row = rows.data();
    a.num_tiles = static_cast<int64_t>(rows.size());
    parallel_for(a.num_tiles * a.kv_heads, kernels().attention, &a);
}

}  // namespace octavo

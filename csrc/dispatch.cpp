#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#if defined(OCTAVO_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "thread_pool.h"

namespace octavo {

namespace baseline { extern const KernelTable table; }
#if defined(OCTAVO_X86)
namespace avx2 { extern const KernelTable table; }
namespace avx512 { extern const KernelTable table; }
namespace avx2_vnni { extern const Int8Path int8_path; }
namespace avx512_vnni { extern const Int8Path int8_path; }
namespace avx512_amx { extern const Int8Path int8_path; }
namespace avx512_amx_bf16 {
extern const AttentionPath attention_path;
extern void (*const linear_bf16)(const void* arguments, int64_t item);
extern void (*const gated_linear)(const void* arguments, int64_t item);
}
#endif

namespace {

constexpr int64_t kMaxKeptBytes = 16 << 20;
constexpr int64_t kGradientRowsPerItem = 512;  // where its keys' gradients are other items'; a multiple of kGradientRows
constexpr int64_t kAttentionItemsPerThread = 16;  // enough to end together, few enough to share a KV tile among many rows

#if defined(OCTAVO_X86)
// What isa/avx512_amx_bf16.cpp is compiled for beside the tiles: AVX512-BF16 and AVX512-VBMI.
bool has_avx512_bf16_and_vbmi() {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 5 & 1) && __builtin_cpu_supports("avx512vbmi");
}

bool has_avx_vnni() {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

// AMX's tiles need the processor (CPUID leaf 7: AMX-TILE, AMX-BF16, AMX-INT8) and the kernel's leave, which holds for the process.
constexpr uint32_t kAmxBf16 = 1u << 22, kAmxInt8 = 1u << 25;

bool has_amx(uint32_t products) {
#if defined(__linux__)
    constexpr uint32_t kTiles = 1u << 24;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & kTiles) || !(edx & products)) return false;
    static const bool is_granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    return is_granted;
#else
    return false;
#endif
}
#endif

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

std::vector<Int8Path> available_int8_paths() {
    const KernelTable& table = kernels();
    std::vector<Int8Path> paths{{"vector", table.linear_int8, 1, table.linear_i8, 1}};
#if defined(OCTAVO_X86)
    if (&table == &avx2::table && has_avx_vnni()) paths.push_back(avx2_vnni::int8_path);
    if (&table == &avx512::table && __builtin_cpu_supports("avx512vnni")) {
        paths.push_back(avx512_vnni::int8_path);
        if (has_amx(kAmxInt8)) paths.push_back(avx512_amx::int8_path);
    }
#endif
    return paths;
}

AttentionPath vector_attention() {
    return {"vector", kernels().attention, kernels().attention_backward, nullptr, nullptr};
}

std::vector<AttentionPath> available_attention_paths() {
    std::vector<AttentionPath> paths{vector_attention()};
#if defined(OCTAVO_X86)
    if (has_bf16_tiles()) paths.push_back(avx512_amx_bf16::attention_path);
#endif
    return paths;
}

// The ways to run an op on the instruction set in use, slowest first, and the choice among them.
template <class Path>
class Paths {
public:
    Paths(const char* op, std::vector<Path> (*available)()) : op_(op), available_(available), allowed_(available()) {}

    std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const Path& path : available_()) names.emplace_back(path.name);
        return names;
    }

    // Allows the path of that name only, or all of them for "".
    void force(const std::string& name) {
        std::vector<Path> paths = available_();
        if (!name.empty()) std::erase_if(paths, [&](const Path& path) { return name != path.name; });
        if (paths.empty()) throw std::invalid_argument(op_ + " path " + name + " is not available here");
        allowed_ = std::move(paths);
    }

    // Never empty.
    const std::vector<Path>& allowed() const { return allowed_; }

private:
    std::string op_;
    std::vector<Path> (*available_)();
    std::vector<Path> allowed_;  // made anew when an instruction set or a path is forced
};

Paths<Int8Path>& paths_of_int8() {
    static Paths<Int8Path> paths("int8", available_int8_paths);
    return paths;
}

Paths<AttentionPath>& paths_of_attention() {
    static Paths<AttentionPath> paths("attention", available_attention_paths);
    return paths;
}

// The last path whose least number of rows (for linear_int8 or linear_i8) is reached; the first if none is.
const Int8Path& int8_path_for(int64_t rows, int64_t Int8Path::*min_rows) {
    const auto& paths = paths_of_int8().allowed();
    const auto last = std::find_if(paths.rbegin(), paths.rend(), [&](const Int8Path& path) { return path.*min_rows <= rows; });
    return last == paths.rend() ? paths.front() : *last;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As row_range of kernels/math.h cuts them.
int64_t num_row_items(int64_t rows, int64_t row_elements, int64_t batch = 1) {
    const int64_t count = std::max<int64_t>(1, kElementsPerItem / std::max<int64_t>(1, row_elements));
    return ceil_div(rows, ceil_div(count, batch) * batch);
}

// Items (panel, chunk of rows) of a kernel that multiplies by a weight's panels.
int64_t num_panel_items(int64_t out_features, int64_t rows, int64_t rows_per_item) {
    return ceil_div(out_features, kPanelColumns) * ceil_div(rows, rows_per_item);
}

int64_t batch_of(const NarrowOutput& narrow) { return narrow.is_paired ? kPairedRows : 1; }

// Query tiles of every request, of at most `tile_tokens`, with the splits that hold a key they see.
std::vector<AttentionTile> attention_tiles(const AttentionArguments& a, int64_t num_requests, int64_t tile_tokens) {
    std::vector<AttentionTile> tiles;
    for (int64_t request = 0; request < num_requests; ++request) {
        const int64_t end = a.query_starts[request + 1], seq_len = a.seq_lens[request];
        for (int64_t row = a.query_starts[request]; row < end; row += tile_tokens) {
            const int64_t tokens = std::min(tile_tokens, end - row), position = seq_len - (end - row);
            const int64_t oldest = std::max<int64_t>(0, position - a.scores.left);
            const int64_t newest = std::min(seq_len, position + tokens + a.scores.right);
            const int64_t first = oldest / kKvSplit, stop = std::max(first, ceil_div(newest, kKvSplit));
            tiles.push_back({static_cast<int32_t>(request), static_cast<int32_t>(row), static_cast<int32_t>(tokens),
                             static_cast<int32_t>(first), static_cast<int32_t>(stop - first), nullptr,
                             static_cast<int32_t>(tokens), 0});
        }
    }
    return tiles;
}

// How many keys of a tile's splits its last token sees, and those before it at most.
int64_t keys_seen(const AttentionArguments& a, const AttentionTile& tile) {
    const int64_t seq_len = a.seq_lens[tile.request];
    const int64_t last = seq_len - a.query_starts[tile.request + 1] + tile.first_row + tile.num_tokens;
    const int64_t stop = std::min(seq_len, last + a.scores.right), first = std::max(last - 1 - a.scores.left, tile.first_split * kKvSplit);
    return std::clamp<int64_t>(stop - first, 0, tile.num_splits * kKvSplit);
}

// The same tiles, those with several splits cut into one a split, which leave their results in `partials`. `cut` gets
// them whole, to be merged.
std::vector<AttentionTile> cut_into_splits(const AttentionArguments& a, const std::vector<AttentionTile>& tiles,
                                           std::vector<float>& partials, std::vector<AttentionTile>& cut) {
    std::vector<AttentionTile> pieces;
    size_t size = 0;
    const auto floats = [&](const AttentionTile& tile) {  // of one split, as PartialRows of kernels/attention_state.h
        const int64_t row = ceil_div(a.value_size, kPartialAlignment) * kPartialAlignment + 2;
        return static_cast<size_t>(tile.num_tokens * a.heads * row);
    };
    for (const AttentionTile& tile : tiles)
        if (tile.num_splits > 1) size += floats(tile) * static_cast<size_t>(tile.num_splits);
    partials.resize(size);
    float* next = partials.data();
    for (const AttentionTile& tile : tiles) {
        if (tile.num_splits <= 1) {
            pieces.push_back(tile);
            continue;
        }
        cut.push_back(tile);
        cut.back().partial = next;
        for (int32_t split = 0; split < tile.num_splits; ++split, next += floats(tile))
            pieces.push_back({tile.request, tile.first_row, tile.num_tokens, tile.first_split + split, 1, next, tile.num_tokens, 0});
    }
    return pieces;
}

// The keys and values of requests whose rows are several tiles, packed once for all of them.
class PackedRequests {
public:
    PackedRequests(AttentionArguments& a, const AttentionPath& path, const std::vector<AttentionTile>& tiles) {
        if (!path.pack) return;
        std::vector<int64_t> num_tiles(static_cast<size_t>(a.num_requests)), offsets;
        for (const AttentionTile& tile : tiles) ++num_tiles[static_cast<size_t>(tile.request)];
        std::vector<PackTile> pieces;
        int64_t size = 0;
        for (int32_t request = 0; request < a.num_requests; ++request) {
            const bool is_packed = num_tiles[static_cast<size_t>(request)] > 1;
            offsets.push_back(is_packed ? size : -1);
            if (!is_packed) continue;
            const int32_t keys = a.seq_lens[request];
            size += path.packed_bytes(a, keys) * a.kv_heads;
            for (int32_t head = 0; head < a.kv_heads; ++head)
                for (int32_t key = 0; key < keys; key += kPackKeys) pieces.push_back({request, head, key});
        }
        if (pieces.empty()) return;
        memory_.reset(static_cast<std::byte*>(::operator new(static_cast<size_t>(size), std::align_val_t{64})));
        for (const int64_t offset : offsets) packed_.push_back(offset < 0 ? nullptr : memory_.get() + offset);
        a.packed = packed_.data();
        const PackKeysArguments pack{a, pieces.data()};
        parallel_for(static_cast<int64_t>(pieces.size()), path.pack, &pack);
    }

private:
    struct Free {
        void operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{64}); }
    };

    std::unique_ptr<std::byte, Free> memory_;
    std::vector<std::byte*> packed_;
};

struct Runs {
    void (*kernel)(const void* arguments, int64_t item);
    const void* arguments;
    int64_t num_items, num_runs;
};

void run_items(const void* of, int64_t index) {
    const auto& runs = *static_cast<const Runs*>(of);
    const int64_t end = runs.num_items * (index + 1) / runs.num_runs;
    for (int64_t item = runs.num_items * index / runs.num_runs; item < end; ++item) runs.kernel(runs.arguments, item);
}

// Runs of neighbours into which items are cut: as long for every thread, and enough to help each other with.
int64_t num_runs(int64_t num_items) {
    constexpr int64_t kRunsPerThread = 2;
    return std::min<int64_t>(num_items, num_threads() * kRunsPerThread);
}

// parallel_for over the panels of a weight, a thread taking several neighbours at a time: what a kernel prefetches behind a
// panel's end is then its own next one.
void for_panels(int64_t num_items, void (*kernel)(const void*, int64_t), const void* arguments) {
    const Runs runs{kernel, arguments, num_items, num_runs(num_items)};
    parallel_for(runs.num_runs, run_items, &runs);
}

// The same for kernels that take several pairs of strips of a weight at a time.
template <class Block>
void for_strip_pairs(int64_t num_pairs, void (*kernel)(const void*, int64_t), Block& a) {
    // Many rows are shared out by rows, which stay in the caches; fewer by weights, which are then made bf16 once.
    constexpr int64_t kEnoughRows = 128, kCachedElements = 400 << 10;
    const int64_t share = ceil_div(a.rows, num_threads());
    const int64_t cached = kCachedElements / std::max<int64_t>(1, a.in_features);
    a.rows_per_item = std::clamp(share < kEnoughRows ? cached : std::min(share, cached), kEnoughRows, kMaxBf16RowsPerItem);
    a.rows_per_item = ceil_div(a.rows_per_item, 2 * kPairedRows) * 2 * kPairedRows;
    a.num_runs = num_runs(num_pairs);
    parallel_for(a.num_runs * ceil_div(a.rows, a.rows_per_item), kernel, &a);
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
        if (name == table->name) {
            current().store(table);
            paths_of_int8().force("");
            paths_of_attention().force("");
            return;
        }
    throw std::invalid_argument("instruction set " + name + " is not available here");
}

std::vector<std::string> int8_paths() { return paths_of_int8().names(); }

void force_int8_path(const std::string& name) { paths_of_int8().force(name); }

std::vector<std::string> attention_paths() { return paths_of_attention().names(); }

void force_attention_path(const std::string& name) { paths_of_attention().force(name); }

void run(const LinearArguments& a) {
    for_panels(num_panel_items(a.out_features, a.rows, kLinearRowsPerItem), kernels().linear, &a);
}

bool has_bf16_tiles() {
#if defined(OCTAVO_X86)
    // Asked once: CPUID takes microseconds on a virtual machine.
    static const bool has_tiles = has_amx(kAmxBf16) && has_avx512_bf16_and_vbmi();
    return has_tiles && &kernels() == &avx512::table;
#else
    return false;
#endif
}

void run(const RoundArguments& a) { parallel_for(num_row_items(a.rows, a.channels, kPairedRows), kernels().round, &a); }

void run(LinearBf16Arguments a) {
#if defined(OCTAVO_X86)
    if (has_bf16_tiles()) return for_strip_pairs(ceil_div(a.out_features, kPanelColumns), avx512_amx_bf16::linear_bf16, a);
#endif
    throw std::invalid_argument("no bf16 tiles here");
}

void run(GatedLinearArguments a) {
#if defined(OCTAVO_X86)
    if (has_bf16_tiles()) return for_strip_pairs(a.features / 16, avx512_amx_bf16::gated_linear, a);
#endif
    throw std::invalid_argument("no bf16 tiles here");
}

void run(const QuantizeGroupsArguments& a) {
    parallel_for(num_row_items(a.rows, a.in_features), kernels().quantize_groups, &a);
}

void run(const LinearInt8Arguments& a) {
    const Int8Path& path = int8_path_for(a.rows, &Int8Path::min_rows);
    for_panels(num_panel_items(a.out_features, a.rows, kInt8RowsPerItem), path.run, &a);
}

void run(const QuantizeRowsArguments& a) {
    parallel_for(num_row_items(a.rows, a.in_features), kernels().quantize_rows, &a);
}

void run(const LinearI8Arguments& a) {
    const Int8Path& path = int8_path_for(a.rows, &Int8Path::min_rows_i8);
    for_panels(num_panel_items(a.out_features, a.rows, kInt8RowsPerItem), path.run_i8, &a);
}

void run(const EmbeddingArguments& a) {
    // No rows come with a null pointer, too: they are no rows, not all.
    const int64_t items = a.ids || a.rows == 0 ? a.rows : ceil_div(a.out_features, kPanelColumns);
    parallel_for(items, kernels().embedding, &a);
}

void run(const TakeRowsArguments& a) { parallel_for(num_row_items(a.rows, a.channels), kernels().take_rows, &a); }

void run(const AddArguments& a) { parallel_for(num_row_items(a.rows, a.channels), kernels().add, &a); }

void run(const SoftcapArguments& a) { parallel_for(num_row_items(a.rows, a.channels), kernels().softcap, &a); }

void run(const TileMaxArguments& a) { parallel_for(a.rows, kernels().tile_max, &a); }

void run(const SoftmaxArguments& a) { parallel_for(a.rows, kernels().softmax, &a); }

void run(const RmsNormArguments& a) { parallel_for(num_row_items(a.rows, a.channels, batch_of(a.narrow)), kernels().rms_norm, &a); }

void run(const LayerNormArguments& a) { parallel_for(num_row_items(a.rows, a.channels), kernels().layer_norm, &a); }

void run(const RotaryArguments& a) {
    parallel_for(num_row_items(a.rows, a.heads * a.rotary_size), kernels().rotary, &a);
}

void run(const GatedArguments& a) { parallel_for(num_row_items(a.rows, a.features, batch_of(a.narrow)), kernels().gated, &a); }

void run(const StoreArguments& a) {
    parallel_for(num_row_items(a.rows, a.heads * a.head_size), kernels().store, &a);
}

void run(const HeadsArguments& a) {
    parallel_for(num_row_items(a.rows, (a.heads + a.kv_heads) * a.key_size), kernels().heads, &a);
}

void run(AttentionArguments a) {
    if (a.heads == 0) return;
    const int64_t group = a.heads / a.kv_heads, wanted_items = num_threads() * kAttentionItemsPerThread;
    const int64_t rows = a.num_requests == 0 ? 0 : a.query_starts[a.num_requests] * group;
    const int64_t rows_per_item = std::clamp(rows * a.kv_heads / wanted_items, kMinAttentionRows, kMaxAttentionRows);
    auto tiles = attention_tiles(a, a.num_requests, std::max<int64_t>(1, rows_per_item / group));
    // AMX rounds queries to a cache of bytes to bf16.
    const bool is_narrowed = (a.type == ElementType::F8E4M3 || a.type == ElementType::I8) && a.q_type != ElementType::BF16;
    const AttentionPath path = is_narrowed ? vector_attention() : paths_of_attention().allowed().back();
    const PackedRequests packed(a, path, tiles);
    std::vector<AttentionTile> cut;
    std::vector<float> partials;
    if (static_cast<int64_t>(tiles.size()) * a.kv_heads < wanted_items) tiles = cut_into_splits(a, tiles, partials, cut);
    // The most work first, so that the items left at the end are small.
    std::stable_sort(tiles.begin(), tiles.end(), [&](const AttentionTile& x, const AttentionTile& y) {
        return x.num_tokens * keys_seen(a, x) > y.num_tokens * keys_seen(a, y);
    });
    const auto run_tiles = [&](void (*kernel)(const void*, int64_t), const std::vector<AttentionTile>& some) {
        a.tiles = some.data();
        a.num_tiles = static_cast<int64_t>(some.size());
        // Several neighbours at a time: what an item prefetches is then mostly its thread's next one.
        const int64_t items = a.num_tiles * a.kv_heads;
        const Runs runs{kernel, &a, items, std::min(items, wanted_items)};
        parallel_for(runs.num_runs, run_items, &runs);
    };
    run_tiles(path.run, tiles);
    run_tiles(kernels().attention_merge, cut);
}

void run(AttentionBackwardArguments a) {
    const AttentionArguments& f = a.forward;
    if (f.heads == 0) return;
    const int64_t group = f.heads / f.kv_heads;
    parallel_for(num_row_items(f.query_starts[f.num_requests], f.heads * f.value_size), kernels().attention_delta, &a);
    std::vector<GradientTile> tiles;
    const bool are_whole = f.num_requests * f.kv_heads >= 2 * num_threads() || num_threads() == 1;
    for (int32_t request = 0; request < f.num_requests; ++request) {
        const int64_t keys = f.seq_lens[request], rows = (f.query_starts[request + 1] - f.query_starts[request]) * group;
        if (are_whole) {
            tiles.push_back({request, 0, keys, 0, rows, true, true});
            continue;
        }
        // S and dP are computed twice, so that threads have enough to share.
        for (int64_t key = 0; key < keys; key += kGradientKeys)
            tiles.push_back({request, key, std::min(keys, key + kGradientKeys), 0, rows, true, false});
        for (int64_t row = 0; row < rows; row += kGradientRowsPerItem)
            tiles.push_back({request, 0, keys, row, std::min(rows, row + kGradientRowsPerItem), false, true});
    }
    std::stable_sort(tiles.begin(), tiles.end(), [](const GradientTile& x, const GradientTile& y) {
        return (x.stop_key - x.first_key) * (x.stop_row - x.first_row) > (y.stop_key - y.first_key) * (y.stop_row - y.first_row);
    });
    a.tiles = tiles.data();
    a.num_tiles = static_cast<int64_t>(tiles.size());
    // All threads together no more than half of what the pass reads and writes, if that is as much as four times q.
    const int64_t element = f.q_type == ElementType::F32 ? 4 : 2;
    const int64_t q_bytes = f.query_starts[f.num_requests] * f.heads * f.key_size * element;
    a.kept_bytes = std::min(kMaxKeptBytes, 4 * q_bytes / num_threads());
    parallel_for(a.num_tiles * f.kv_heads, paths_of_attention().allowed().back().run_backward, &a);
}

}  // namespace octavo

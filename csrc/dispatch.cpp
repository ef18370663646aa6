#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>

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
#endif

namespace {

#if defined(OCTAVO_X86)
bool has_avx_vnni() {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

// AMX's tiles need the processor (CPUID leaf 7: AMX-TILE, AMX-INT8) and the kernel's leave, which holds for the process.
bool has_amx_int8() {
#if defined(__linux__)
    constexpr uint32_t kTiles = 1u << 24, kInt8 = 1u << 25;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & kTiles) || !(edx & kInt8)) return false;
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

std::vector<Int8Path> available_int8_paths(const KernelTable& table) {
    std::vector<Int8Path> paths{{"vector", table.linear_int8, 1}};
#if defined(OCTAVO_X86)
    if (&table == &avx2::table && has_avx_vnni()) paths.push_back(avx2_vnni::int8_path);
    if (&table == &avx512::table && __builtin_cpu_supports("avx512vnni")) {
        paths.push_back(avx512_vnni::int8_path);
        if (has_amx_int8()) paths.push_back(avx512_amx::int8_path);
    }
#endif
    return paths;
}

// What int8_paths() names, for the table in use; made anew when an instruction set or a path is forced.
std::vector<Int8Path>& current_int8_paths() {
    static std::vector<Int8Path> paths = available_int8_paths(kernels());
    return paths;
}

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
        if (name == table->name) {
            current().store(table);
            current_int8_paths() = available_int8_paths(*table);
            return;
        }
    throw std::invalid_argument("instruction set " + name + " is not available here");
}

std::vector<std::string> int8_paths() {
    std::vector<std::string> names;
    for (const Int8Path& path : available_int8_paths(kernels())) names.emplace_back(path.name);
    return names;
}

void force_int8_path(const std::string& name) {
    std::vector<Int8Path> paths = available_int8_paths(kernels());
    if (!name.empty()) std::erase_if(paths, [&](const Int8Path& path) { return name != path.name; });
    if (paths.empty()) throw std::invalid_argument("int8 path " + name + " is not available here");
    current_int8_paths() = paths;
}

void run(const LinearArguments& a) {
    const int64_t items = ceil_div(a.out_features, kPanelColumns) * ceil_div(a.rows, kLinearRowsPerItem);
    parallel_for(items, kernels().linear, &a);
}

void run(const QuantizeArguments& a) {
    parallel_for(num_row_items(a.rows, a.in_features), kernels().quantize, &a);
}

void run(const LinearInt8Arguments& a) {
    const auto& paths = current_int8_paths();
    auto path = paths.rbegin();
    while (path->min_rows > a.rows && path + 1 != paths.rend()) ++path;
    parallel_for(ceil_div(a.out_features, kPanelColumns) * ceil_div(a.rows, kInt8RowsPerItem), path->run, &a);
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

void run(const RmsNormArguments& a) { parallel_for(num_row_items(a.rows, a.channels), kernels().rms_norm, &a); }

void run(const LayerNormArguments& a) { parallel_for(num_row_items(a.rows, a.channels), kernels().layer_norm, &a); }

void run(const RotaryArguments& a) {
    parallel_for(num_row_items(a.rows, a.heads * a.rotary_size), kernels().rotary, &a);
}

void run(const GatedArguments& a) { parallel_for(num_row_items(a.rows, a.features), kernels().gated, &a); }

void run(const StoreArguments& a) {
    parallel_for(num_row_items(a.rows, a.heads * a.head_size), kernels().store, &a);
}

void run(const HeadsArguments& a) {
    parallel_for(num_row_items(a.rows, (a.heads + a.kv_heads) * a.key_size), kernels().heads, &a);
}

void run(AttentionArguments a) {
    a.tile_tokens = std::max<int64_t>(1, kAttentionRowsPerItem / (a.heads / a.kv_heads));
    std::vector<int32_t> requests, rows;
    for (int64_t request = a.num_requests - 1; request >= 0; --request) {
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

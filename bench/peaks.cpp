// What this machine can do at most, for bench/linear.py: loops over registers and tiles, and over memory.
//
//     c++ -std=c++20 -O3 -march=native -pthread peaks.cpp -o peaks && ./peaks THREADS
//
// Prints one JSON object: GB/s of reading memory that no cache holds, and GOP/s of each kind of product there is.
#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AMX_TILE__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int kRepeats = 15, kRounds = 200'000;
int num_threads = 1;

// Units a second, of the fastest repeat: every thread does `work(thread)`, of `units` each. The time is from the first
// thread's start to the last one's end, by the threads' own clocks: the caller may wake late.
template <class Work>
double rate(double units, Work work) {
    using Clock = std::chrono::steady_clock;
    double best = 1e30;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        std::barrier start(num_threads);
        std::vector<Clock::time_point> begins(static_cast<size_t>(num_threads)), ends(begins);
        std::vector<std::thread> threads;
        for (int t = 0; t < num_threads; ++t)
            threads.emplace_back([&, t] {
                start.arrive_and_wait();
                begins[static_cast<size_t>(t)] = Clock::now();
                work(t);
                ends[static_cast<size_t>(t)] = Clock::now();
            });
        for (auto& thread : threads) thread.join();
        const auto begin = *std::min_element(begins.begin(), begins.end());
        const auto end = *std::max_element(ends.begin(), ends.end());
        best = std::min(best, std::chrono::duration<double>(end - begin).count());
    }
    return units * num_threads / best;
}

// In huge pages, as packed weights lie.
double read_rate() {
    constexpr size_t kHugePage = 2u << 20, kBytes = 96 * kHugePage, kWords = kBytes / sizeof(uint64_t);
    std::vector<uint64_t*> data;
    for (int t = 0; t < num_threads; ++t) {
        auto* words = static_cast<uint64_t*>(std::aligned_alloc(kHugePage, kBytes));
        if (!words) std::abort();
        madvise(words, kBytes, MADV_HUGEPAGE);
        std::fill(words, words + kWords, 1);
        data.push_back(words);
    }
    const double result = rate(kBytes, [&](int t) {
        const uint64_t* words = data[static_cast<size_t>(t)];
        uint64_t sums[32] = {};
        for (size_t i = 0; i < kWords; i += 32) {
            __builtin_prefetch(words + i + 512);
            for (size_t j = 0; j < 32; ++j) sums[j] += words[i + j];
        }
        asm volatile("" ::"m"(sums));
    });
    for (uint64_t* words : data) std::free(words);
    return result;
}

#if defined(__AVX512F__)
double fp32_rate() {
    return rate(12.0 * kRounds * 32, [](int) {
        __m512 sums[12] = {};
        const __m512 x = _mm512_set1_ps(1.0f);
        for (int i = 0; i < kRounds; ++i)
            for (auto& sum : sums) {
                sum = _mm512_fmadd_ps(x, x, sum);
                asm volatile("" : "+v"(sum));
            }
    });
}
#endif

#if defined(__AVX512VNNI__)
double vnni_rate() {
    return rate(12.0 * kRounds * 128, [](int) {
        __m512i sums[12] = {};
        const __m512i x = _mm512_set1_epi8(1);
        for (int i = 0; i < kRounds; ++i)
            for (auto& sum : sums) {
                sum = _mm512_dpbusd_epi32(sum, x, x);
                asm volatile("" : "+v"(sum));
            }
    });
}
#endif

#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

#define PRODUCTS(name)                                                                                      \
    asm volatile(name " %%tmm6, %%tmm4, %%tmm0\n\t" name " %%tmm7, %%tmm4, %%tmm1\n\t" name                 \
                      " %%tmm6, %%tmm5, %%tmm2\n\t" name " %%tmm7, %%tmm5, %%tmm3" ::)

double tile_rate(bool is_int8) {
    return rate(4.0 * kRounds / 8 * 16 * 16 * (is_int8 ? 128 : 64), [is_int8](int) {
        const TileShapes shapes;
        asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
        for (int i = 0; i < kRounds / 8; ++i) {
            if (is_int8) PRODUCTS("tdpbssd");
            else PRODUCTS("tdpbf16ps");
        }
        asm volatile("tilerelease");
    });
}
#endif

}  // namespace

int main(int argc, char** argv) {
    num_threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1;
    std::printf("{\"read_GB_s\": %.1f", read_rate() / 1e9);
#if defined(__AVX512F__)
    std::printf(", \"fp32_GOP_s\": %.0f", fp32_rate() / 1e9);
#endif
#if defined(__AVX512VNNI__)
    std::printf(", \"int8_vnni_GOP_s\": %.0f", vnni_rate() / 1e9);
#endif
#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0)
        std::printf(", \"int8_tiles_GOP_s\": %.0f, \"bf16_tiles_GOP_s\": %.0f", tile_rate(true) / 1e9, tile_rate(false) / 1e9);
#endif
    std::printf("}\n");
}

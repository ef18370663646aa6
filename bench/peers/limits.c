/* What this machine can do at most, as one JSON object: GB/s of memory read, and 10^9 operations a second
   of the fastest instructions for each type (a multiplication and an addition are two).

   gcc -O3 -march=native -fopenmp limits.c -o limits && ./limits THREADS

   The large buffer is beyond every cache, the small one beyond a core's own; huge pages keep address
   translation out. */
#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64, REPEATS = 8 };
static const size_t LARGE_BYTES = (size_t)1 << 30, SMALL_BYTES = (size_t)96 << 20;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Each thread reads its own part; the best of the repetitions. */
static double read_gb_per_s(const char *data, size_t bytes, int threads) {
    double best = 0;
    for (int repeat = 0; repeat < REPEATS; ++repeat) {
        uint64_t sum = 0;
        double start = now();
#pragma omp parallel num_threads(threads) reduction(+ : sum)
        {
            size_t part = bytes / threads / (8 * LINE) * (8 * LINE);
            const char *at = data + part * omp_get_thread_num(), *end = at + part;
#ifdef __AVX512F__
            __m512i x[8];
            for (int i = 0; i < 8; ++i) x[i] = _mm512_setzero_si512();
            for (; at < end; at += 8 * LINE)
                for (int i = 0; i < 8; ++i) x[i] = _mm512_xor_si512(x[i], _mm512_load_si512(at + i * LINE));
            for (int i = 1; i < 8; ++i) x[0] = _mm512_xor_si512(x[0], x[i]);
            sum += _mm512_reduce_add_epi64(x[0]);
#else
            uint64_t x[8] = {0};
            for (; at < end; at += 64)
                for (int i = 0; i < 8; ++i) x[i] ^= ((const uint64_t *)at)[i];
            for (int i = 0; i < 8; ++i) sum += x[i];
#endif
        }
        double rate = bytes / (now() - start) / 1e9;
        __asm__ volatile("" ::"r"(sum));
        if (rate > best) best = rate;
    }
    return best;
}

/* The best rate of `body`, which does `operations` a turn in each thread. */
#define MEASURE(best, turns, operations, prepare, body, finish)                              \
    do {                                                                                     \
        for (int repeat = 0; repeat < REPEATS; ++repeat) {                                   \
            double start = now();                                                            \
            _Pragma("omp parallel num_threads(threads)") {                                   \
                prepare;                                                                     \
                for (long turn = 0; turn < (turns); ++turn) { body; }                        \
                finish;                                                                      \
            }                                                                                \
            double rate = (double)threads * (turns) * (operations) / (now() - start) / 1e9;  \
            if (rate > best) best = rate;                                                    \
        }                                                                                    \
    } while (0)

/* Keeps vector registers alive without storing them. */
#define KEEP(x) __asm__ volatile("" : "+x"(x))
/* Enough chains to hide the latency of an instruction, all in registers. */
#define EACH _Pragma("GCC unroll 10") for (int i = 0; i < 10; ++i)

#ifdef __AMX_TILE__
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void configure_tiles(void) {
    tile_config config = {.palette = 1};
    for (int i = 0; i < 8; ++i) config.row_bytes[i] = 64, config.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
    static const uint8_t zeros[1024];
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    _tile_loadd(6, zeros, 64);
    _tile_loadd(7, zeros, 64);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* Asks the kernel for ARCH_REQ_XCOMP_PERM, tile data. */
static int has_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
#endif

static void peaks(int threads) {
    double fp32 = 0, bf16 = 0, int8 = 0;
    const char *bf16_with = "fp32", *int8_with = "fp32";
#ifdef __AVX512F__
    MEASURE(fp32, 2000000, 10 * 16 * 2, __m512 x[10]; __m512 a = _mm512_set1_ps(1e-9f);
            EACH x[i] = a,
            EACH { x[i] = _mm512_fmadd_ps(a, a, x[i]); KEEP(x[i]); }, (void)x);
#elif defined(__FMA__)
    MEASURE(fp32, 2000000, 10 * 8 * 2, __m256 x[10]; __m256 a = _mm256_set1_ps(1e-9f);
            EACH x[i] = a,
            EACH { x[i] = _mm256_fmadd_ps(a, a, x[i]); KEEP(x[i]); }, (void)x);
#endif
#ifdef __AVX512BF16__
    bf16_with = "AVX512-BF16";
    MEASURE(bf16, 2000000, 10 * 32 * 2, __m512 x[10]; __m512bh a; memset(&a, 0, sizeof a);
            EACH x[i] = _mm512_setzero_ps(),
            EACH { x[i] = _mm512_dpbf16_ps(x[i], a, a); KEEP(x[i]); }, (void)x);
#endif
#ifdef __AVX512VNNI__
    int8_with = "AVX512-VNNI";
    MEASURE(int8, 2000000, 10 * 64 * 2, __m512i x[10]; __m512i a = _mm512_set1_epi8(1);
            EACH x[i] = a,
            EACH { x[i] = _mm512_dpbusd_epi32(x[i], a, a); KEEP(x[i]); }, (void)x);
#endif
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    int8_with = "AVX2";
    MEASURE(int8, 1000000, 10 * 32 * 2, __m256i x[10]; __m256i a = _mm256_set1_epi8(1); __m256i b = _mm256_set1_epi16(1);
            EACH x[i] = a,
            EACH { x[i] = _mm256_add_epi32(x[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x[i], a), b)); KEEP(x[i]); },
            (void)x);
#endif
#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
    if (has_tiles()) {
        double tiles_int8 = 0, tiles_bf16 = 0;
        MEASURE(tiles_int8, 100000, 4 * 16 * 16 * 64 * 2, configure_tiles(),
                _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7),
                _tile_release());
        MEASURE(tiles_bf16, 100000, 4 * 16 * 16 * 32 * 2, configure_tiles(),
                _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7),
                _tile_release());
        if (tiles_int8 > int8) int8 = tiles_int8, int8_with = "AMX-INT8";
        if (tiles_bf16 > bf16) bf16 = tiles_bf16, bf16_with = "AMX-BF16";
    }
#endif
    printf("\"fp32_gop_per_s\": %.1f, \"bf16_gop_per_s\": %.1f, \"int8_gop_per_s\": %.1f, ", fp32,
           bf16 > fp32 ? bf16 : fp32, int8 > fp32 ? int8 : fp32);
    printf("\"bf16_with\": \"%s\", \"int8_with\": \"%s\"}\n", bf16_with, int8_with);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : omp_get_max_threads();
    char *data = aligned_alloc((size_t)2 << 20, LARGE_BYTES);
    if (data == NULL) return 1;
    madvise(data, LARGE_BYTES, MADV_HUGEPAGE);
#pragma omp parallel for num_threads(threads)
    for (size_t i = 0; i < LARGE_BYTES / 8; ++i) ((uint64_t *)data)[i] = i;
    printf("{\"read_gb_per_s\": %.2f, ", read_gb_per_s(data, LARGE_BYTES, threads));
    printf("\"read_cached_gb_per_s\": %.2f, ", read_gb_per_s(data, SMALL_BYTES, threads));
    peaks(threads);
    return 0;
}

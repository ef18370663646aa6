// AVX-512 with the bf16 tiles of AMX: attention on bf16 caches.
#define OCTAVO_ISA avx512_amx_bf16
#include "vector_avx512.h"

#include "../kernels/attention_amx.h"

namespace octavo::OCTAVO_ISA {

extern const AttentionPath attention_path;
const AttentionPath attention_path = {"amx", attention_amx, true};

}  // namespace octavo::OCTAVO_ISA

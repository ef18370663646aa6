// AVX-512 with the bf16 tiles of AMX: linear layers with bf16 activations, attention.
#define OCTAVO_ISA avx512_amx_bf16
#include "vector_avx512.h"

#include "../kernels/attention_amx.h"
#include "../kernels/attention_amx_backward.h"
#include "../kernels/linear_bf16_amx.h"

namespace octavo::OCTAVO_ISA {

extern const AttentionPath attention_path;
const AttentionPath attention_path = {"amx", attention_amx, attention_backward_amx, packed_bytes,
                                     pack_request};

extern void (*const linear_bf16)(const void* arguments, int64_t item);
void (*const linear_bf16)(const void* arguments, int64_t item) = linear_bf16_amx;
extern void (*const gated_linear)(const void* arguments, int64_t item);
void (*const gated_linear)(const void* arguments, int64_t item) = gated_linear_amx;

}  // namespace octavo::OCTAVO_ISA

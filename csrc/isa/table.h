// Instantiates every kernel for this file's vector type. Included once by each isa/*.cpp, with OCTAVO_ISA defined.
#pragma once

#include "../kernels/attention.h"
#include "../kernels/attention_backward.h"
#include "../kernels/linear.h"
#include "../kernels/linear_i8.h"
#include "../kernels/linear_int8.h"
#include "../kernels/quantize.h"
#include "../kernels/quantize_rows.h"
#include "../kernels/rowwise.h"
#include "../kernels/sampling.h"

#define OCTAVO_STRING_(x) #x
#define OCTAVO_STRING(x) OCTAVO_STRING_(x)

namespace octavo::OCTAVO_ISA {

extern const KernelTable table;
const KernelTable table = {
    OCTAVO_STRING(OCTAVO_ISA), linear<Vector>, round<Vector>, quantize_groups<Vector>, linear_int8<Vector>,
    quantize_rows<Vector>, linear_i8<Vector>, embedding<Vector>,
    take_rows<Vector>, add<Vector>, softcap<Vector>, tile_max<Vector>, softmax<Vector>, rms_norm<Vector>, layer_norm<Vector>,
    rotary<Vector>, gated<Vector>, store<Vector>, heads<Vector>, attention<Vector>, attention_merge<Vector>, attention_delta<Vector>,
    attention_backward<Vector>,
};

}  // namespace octavo::OCTAVO_ISA

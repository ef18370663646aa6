// AVX-512 with VNNI and the int8 tiles of AMX: one more path of linear_int8 and linear_i8.
#define OCTAVO_ISA avx512_amx
#include "vector_avx512.h"

#include "../kernels/linear_i8_amx.h"
#include "../kernels/linear_int8_amx.h"

namespace octavo::OCTAVO_ISA {

extern const Int8Path int8_path;
const Int8Path int8_path = {"amx", linear_int8_amx, 48, linear_i8_amx, 12};

}  // namespace octavo::OCTAVO_ISA

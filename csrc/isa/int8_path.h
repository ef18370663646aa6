// One more path of linear_int8 and linear_i8, for processors that have more than the instruction set of its table. Included once by
// each isa/*_vnni.cpp, with OCTAVO_ISA defined. The bits are those of every other path.
#pragma once

#include "../kernels/linear_i8.h"
#include "../kernels/linear_int8.h"

namespace octavo::OCTAVO_ISA {

extern const Int8Path int8_path;
const Int8Path int8_path = {"vnni", linear_int8<Vector>, 1, linear_i8<Vector>, 1};

}  // namespace octavo::OCTAVO_ISA

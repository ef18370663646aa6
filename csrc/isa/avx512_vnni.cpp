#define OCTAVO_ISA avx512_vnni
#include "vector_avx512.h"

#include "int8_path.h"

#define OCTAVO_ISA avx2_vnni
#include "vector_avx2.h"

#include "int8_path.h"

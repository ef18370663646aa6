#define OCTAVO_ISA avx2
#include "vector_avx2.h"

#include "table.h"

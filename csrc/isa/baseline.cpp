#define OCTAVO_ISA baseline
#include "vector_baseline.h"

#include "table.h"

"""The type codes of ggml (enum ggml_type in llama.cpp's ggml.h): those Octavo reads, and the names of the others."""

from octavo.core.weights import WeightFormat

FORMATS = {
    0: WeightFormat.F32,
    1: WeightFormat.F16,
    2: WeightFormat.Q4_0,
    3: WeightFormat.Q4_1,
    6: WeightFormat.Q5_0,
    7: WeightFormat.Q5_1,
    8: WeightFormat.Q8_0,
    12: WeightFormat.Q4_K,
    13: WeightFormat.Q5_K,
    14: WeightFormat.Q6_K,
    30: WeightFormat.BF16,
}
UNSUPPORTED_NAMES = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}

"""A GGUF file requantised to Q4_0, the format that llama.cpp's CPU kernels do best.

python convert_q4_0.py FILE.gguf TARGET.gguf
"""

import sys

import llama_cpp


def main() -> None:
    source, target = sys.argv[1:]
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    params.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), params) != 0:
        sys.exit(f"llama.cpp could not requantise {source}")


if __name__ == "__main__":
    main()

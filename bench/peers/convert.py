"""A GGUF file as a Hugging Face directory of bf16 safetensors, dequantised by transformers: what peers without GGUF load.

python convert.py FILE.gguf DIRECTORY
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    file, target = Path(sys.argv[1]), Path(sys.argv[2])
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(**source).save_pretrained(target)


if __name__ == "__main__":
    main()

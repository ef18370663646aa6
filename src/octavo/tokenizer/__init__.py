"""Text ↔ token ids: tokenizers from model directories and GGUF files, chat templates, incremental detokenising."""

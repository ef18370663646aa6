"""What a file's ending says about it, before anything is opened."""

from pathlib import Path

from octavo.core.errors import UnsupportedModelError

PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")


def wrong_ending(path: Path) -> UnsupportedModelError:
    """The error for a file that is no .gguf."""
    if path.suffix.lower() == ".safetensors":
        remedy = f"name the directory that holds it and its config.json: {path.parent}"
    elif path.suffix.lower() in PICKLE_ENDINGS:
        remedy = "it is a pickle, which can run any code when it is read: use the model's safetensors release"
    else:
        remedy = "name a .gguf file, or a directory with config.json and *.safetensors"
    return UnsupportedModelError(f"{path} is not a model file Octavo reads; {remedy}", param="model")

"""Weight formats: how a linear layer's weight is loaded and applied. One file a format."""

from octavo.quantization.as_stored import AsStored
from octavo.quantization.int8_activations import Int8Activations
from octavo.quantization.int8_weights import Int8Weights
from octavo.quantization.method import LinearMethod, StackedWeight

__all__ = ["AsStored", "Int8Activations", "Int8Weights", "LinearMethod", "StackedWeight"]

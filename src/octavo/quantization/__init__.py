"""Weight formats: how a linear layer's weight is loaded and applied. One file a format."""

from octavo.quantization.as_stored import AsStored
from octavo.quantization.bf16_activations import Bf16Activations
from octavo.quantization.int8_activations import Int8Activations
from octavo.quantization.method import LinearMethod, StackedWeight

__all__ = ["AsStored", "Bf16Activations", "Int8Activations", "LinearMethod", "StackedWeight"]

"""Weight formats: how a linear layer's weight is loaded and applied. One file a format."""

from octavo.quantization.as_stored import AsStored
from octavo.quantization.int8_weights import Int8Weights
from octavo.quantization.method import LinearMethod, StackedWeight
from octavo.quantization.narrow_activations import ActivationKind, NarrowActivations

__all__ = ["ActivationKind", "AsStored", "Int8Weights", "LinearMethod", "NarrowActivations", "StackedWeight"]

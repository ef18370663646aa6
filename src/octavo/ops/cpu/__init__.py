"""Native CPU kernels behind tensors: fp32 activations, packed weights. Importable only where octavo._native is.

Arguments are taken as checked by the public signatures; each `can_…` tells which of them a kernel takes.
"""

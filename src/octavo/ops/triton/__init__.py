"""Kernels for NVIDIA GPUs, in Triton. `attention` tells what they take, and imports them, and Triton, at the first use."""

"""Prefix keys: what makes two requests' blocks the same.

    key_0 = SHA-256(root, tokens of block 0)        root = SHA-256(cache salt, adapter, …)
    key_i = SHA-256(key_{i-1}, tokens of block i)   full blocks only

So a key stands for the whole prefix up to and including its block, and cannot be forged from
another tenant's. SHA-256 because keys are compared, never the tokens.
"""

import hashlib
from array import array

from octavo.core.request import Request


def extend_block_keys(request: Request, block_size: int, num_blocks: int) -> list[bytes]:
    """`request.block_keys`, extended to at least the first `num_blocks` full blocks. O(new blocks · block_size)."""
    keys = request.block_keys
    parent = keys[-1] if keys else request.root_key()
    first = len(keys)
    tokens = memoryview(array("I", request.token_ids[first * block_size : num_blocks * block_size])).cast("B")
    block_bytes = block_size * array("I").itemsize
    for start in range(0, (num_blocks - first) * block_bytes, block_bytes):
        parent = hashlib.sha256(parent + tokens[start : start + block_bytes]).digest()
        keys.append(parent)
    return keys


def group_suffix(group: int) -> bytes:
    """Appended to a prefix key: the pool's name for one cache group's block of that prefix."""
    return group.to_bytes(2, "little")

"""Tests of Triton's kernels in its interpreter, which has to be chosen before Triton is imported: `../test_interpreted.py` does."""

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]

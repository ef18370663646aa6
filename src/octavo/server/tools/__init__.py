"""Tool calls: how models of each kind write them, how they are read from an answer, and what constrains one to them."""

"""Benchmarks of the engine in this process: what is run, what is measured, and under which circumstances."""

"""Runnable comparisons: `python -m benchmarks.NAME` prints a table and writes files."""

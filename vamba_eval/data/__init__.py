"""Benchmarks' files: downloaded, unpacked and checked."""

"""The benchmarks, one module each. A module's first docstring line is what ``run_eval.py list`` shows."""

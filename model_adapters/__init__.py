"""The models, one module or folder a family. A module's first docstring line is what ``run_eval.py list`` shows."""

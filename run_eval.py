"""Evaluate video models: ``python run_eval.py --help``."""

from vamba_eval.cli import main

if __name__ == "__main__":  # processes that are spawned, such as vLLM's, import this file
    raise SystemExit(main())

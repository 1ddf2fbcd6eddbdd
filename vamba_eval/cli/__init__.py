"""The command line: a file for each group of verbs."""

from vamba_eval.cli.main import main

__all__ = ["main"]

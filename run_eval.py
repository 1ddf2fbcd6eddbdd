"""Evaluate video models: ``python run_eval.py --help``."""

from vamba_eval.cli import main

raise SystemExit(main())

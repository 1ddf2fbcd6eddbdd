"""Models of ours inside lmms-eval (0.7): what its registry finds by the entry point ``lmms_eval.models``.

``manifest`` names them and costs nothing; ``models`` is imported by lmms-eval when one of them is asked for;
``requests`` reads its requests. Only here is lmms-eval imported.
"""

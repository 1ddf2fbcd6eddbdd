"""What a command says: text that a terminal shows and does not obey, without secrets."""

from __future__ import annotations

from typing import Any, TextIO

from vamba_eval.plain import visible
from vamba_eval.secrets import without_secrets


def shown_text(text: str) -> str:
    """``text`` as it may be shown."""
    return visible(without_secrets(text))


class Terminal:
    """A stream on which nothing is written but ``shown_text``; all else is that of ``stream``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(self._shown(text))
        return len(text)

    def _shown(self, text: str) -> str:
        return shown_text(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Styled(Terminal):
    """The same stream for who writes sequences that a terminal obeys, for bold text and the like, around what is
    ``shown_text`` already; ``stream`` may be a Terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream._stream if isinstance(stream, Terminal) else stream)

    def _shown(self, text: str) -> str:
        return without_secrets(text)

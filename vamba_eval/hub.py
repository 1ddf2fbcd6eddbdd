"""Whether the Hub can be reached, within seconds: its own library tries again for half a minute.

Knows neither models nor datasets: whoever asks the Hub hands the request in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from vamba_eval.contracts import UserError, first_line

T = TypeVar("T")

WITHIN_S = 3.0  # for a connection, and for an answer


def ask_hub(request: Callable[[], T]) -> T | None:
    """What ``request`` (a call of huggingface_hub) returns; None where the Hub is there and its answer takes long.

    Raises UserError where the Hub cannot be reached, or may not be (``HF_HUB_OFFLINE``); what the Hub refuses is raised
    as huggingface_hub does (HfHubHTTPError, HFValidationError).
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so the Hub is not asked")
    came: list[T | Exception] = []

    def ask() -> None:
        try:
            came.append(request())
        except Exception as error:
            came.append(error)

    asking = Thread(target=ask, name="ask-hub", daemon=True)  # looking up a host's name knows no time limit
    asking.start()
    asking.join(2 * WITHIN_S)
    found = came[0] if came else TimeoutError(f"no answer within {2 * WITHIN_S:g} s")
    if not isinstance(found, Exception) or isinstance(found, HfHubHTTPError | HFValidationError):
        if isinstance(found, Exception):
            raise found
        return found
    if type(found).__name__ == "ReadTimeout":  # of httpx, or what huggingface_hub will use in its place
        return None
    raise UserError(f"the Hub ({constants.ENDPOINT}) cannot be reached: {first_line(found)}") from found


@contextmanager
def quick_without_network() -> Iterator[None]:
    """Around what fetches from the Hub and else takes what its cache holds: where the Hub cannot be reached, that is
    known at once, and not after the tries of its library for each file. A UserError says so, too."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before, why = constants.HF_HUB_OFFLINE, None
    try:
        ask_hub(lambda: get_session().head(constants.ENDPOINT, timeout=WITHIN_S))
    except UserError as error:
        constants.HF_HUB_OFFLINE, why = True, error
    try:
        yield
    except UserError as error:
        if why is None:
            raise
        raise type(error)(f"{why}: {error}") from error
    finally:
        constants.HF_HUB_OFFLINE = before

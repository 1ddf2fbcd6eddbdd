"""Ray as a run needs it: started or joined, measured, and shared out between models and reading."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayTaskError

from vamba_eval import machine
from vamba_eval.contracts import UserError, first_line
from vamba_eval.machine import available_cores
from vamba_eval.reading.reader import Reading
from vamba_eval.run.on_ray.workers import Setting, environment_there, packages
from vamba_eval.run.plan import Layout

log = logging.getLogger(__name__)


_READ_THREADS = 4  # of one video: stretches of it are decoded side by side


_ANSWERS_WITHIN_S = 10.0


class Cluster:
    """Ray, as a run needs it; a context manager. Starts it on this machine unless there is an address.

    Raises UserError where it cannot be reached, or has not what ``layout`` asks for.
    """

    def __init__(self, layout: Layout, reading: Reading, *, accept_environment: bool = False) -> None:
        if reading.decode_on == "gpu":
            raise UserError("on Ray, what reads videos has no GPU of its own: leave out --decode-on gpu")
        self.layout, self.reading = layout, replace(reading, decode_on="cpu")
        self.accept_environment = accept_environment
        ours = None if accept_environment else packages(machine.run_environment())
        self.setting = Setting(os.getcwd(), ours)
        self._ours = False

    def __enter__(self) -> Cluster:
        if not ray.is_initialized():
            self._start()
        try:
            self._measure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            ray.shutdown()

    def _start(self) -> None:
        address = self.layout.address or os.environ.get("RAY_ADDRESS") or "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _ask_for_a_token(address)
        logging.getLogger("ray").setLevel(logging.ERROR)
        here: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False} if address == "local" else {}
        main = threading.current_thread() is threading.main_thread()
        on_term = signal.getsignal(signal.SIGTERM)
        _check_answers(address)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:
            where = "Ray cannot be started here" if address == "local" else f"no Ray cluster answers at {address}"
            raise UserError(f"{where}: {first_line(error)}") from error
        finally:
            if main and on_term is not None:  # Ray puts its own in place
                signal.signal(signal.SIGTERM, on_term)
        self._ours = True

    def _measure(self) -> None:
        """What nodes have, and what of it is for replicas and for reading."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.cores = [int(node["Resources"]["CPU"]) for node in nodes if node["Resources"].get("CPU", 0) >= 1]
        self.store_bytes = sum(node["Resources"].get("object_store_memory", 0) for node in nodes)
        if not self.cores:
            raise UserError("Ray has no CPU to read videos with")
        self._share_gpus([node["Resources"].get("GPU", 0) for node in nodes])
        # A replica keeps a core busy beside its GPU, and whoever reads on the same core slows it down.
        busy = -(-self.num_replicas // len(self.cores)) if self.gpus_per_model else 0
        self.read_threads = max(1, min(_READ_THREADS, min(self.cores) // 2))
        self.read_slots = sum(max(1, (cores - busy) // self.read_threads) for cores in self.cores)
        if (workers := self.reading.workers) is not None:
            self.read_slots = min(self.read_slots, max(1, workers))
        self.reading_of_one = replace(self.reading, workers=min(1, self.reading.workers or 1))

    def _share_gpus(self, of_nodes: Sequence[float]) -> None:
        """How many replicas there are to be, and what each gets."""
        layout, gpus, largest = self.layout, sum(of_nodes), max(of_nodes)
        if layout.replicas is not None:
            self.gpus_per_model, self.num_replicas = 0.0, layout.replicas
            self.model_threads = available_cores()
            return
        wanted = gpus if layout.gpus in (None, "all") else float(cast(int, layout.gpus))
        if not gpus:
            raise UserError("Ray knows of no GPU: --replicas N runs N replicas of each model without one")
        if wanted > gpus:
            raise UserError(f"{wanted:g} GPUs were asked for, but Ray knows of {gpus:g}")
        if layout.gpus_per_model > min(largest, wanted):
            raise UserError(
                f"a model needs {layout.gpus_per_model:g} GPUs of one machine, but there are {min(largest, wanted):g}"
            )
        self.gpus_per_model = layout.gpus_per_model
        self.num_replicas = int(wanted / layout.gpus_per_model + 1e-9)
        self.model_threads = max(1, min(self.cores) // max(1, int(largest / layout.gpus_per_model)))

    def environment(self) -> dict[str, Any]:
        """Of a node where replicas run, which is what answers depend on."""
        try:
            task = environment_there.options(num_gpus=self.gpus_per_model)
            return cast("dict[str, Any]", ray.get(task.remote(self.setting)))
        except RayTaskError as error:
            raise own_error(error) from error


def _check_answers(address: str) -> None:
    """Raise UserError where nobody listens at HOST:PORT, which Ray itself tries for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_WITHIN_S):
            pass
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {first_line(error)}") from error


def _ask_for_a_token(address: str) -> None:
    """Ray listens on all of a machine's addresses, and whoever it lets in runs code as this user.

    Since 2.59 a cluster that Ray starts for itself lets in only who has the token. Ray makes that where there is none,
    in a file that others may read, if the umask lets them; so it is made here, for this user alone, and one that is
    there is closed to others. What somebody has set in the environment stands, but not unsaid.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    token = Path.home() / ".ray" / "auth_token"
    if address == "local" and mode is None:
        if token.exists():
            with suppress(PermissionError):  # another user's, whose affair it is
                token.chmod(0o600)
        elif not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
            token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                handle = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(handle, "w") as file:
                    file.write(secrets.token_hex(32))
    elif mode != "token" and (mode is not None or not token.exists()):
        whose = "the Ray started here" if address == "local" else f"the Ray cluster at {address}"
        log.warning("%s asks for no token: whoever reaches it runs code as you (docs/cluster.md)", whose)


def own_error(error: RayTaskError) -> Exception:
    """The error that was raised in another process, as if it were raised here."""
    return error.cause if isinstance(error.cause, UserError) else UserError(last_line(error))


def last_line(error: BaseException) -> str:
    """The last line of what Ray says, which names the cause; what comes before it is a traceback or advice."""
    if isinstance(error, RayTaskError):
        error = error.cause
        return f"{type(error).__name__}: {first_line(error)}"
    return first_line(error)

"""Where the models of a run work: opens a workplace for each, by what the run was given and what kind of model it is.

The only place that asks which.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vamba_eval import machine, registry
from vamba_eval.contracts import Model, ModelAdapter, ServedModel, UserError
from vamba_eval.cost.monitor import GpuMonitor, HostMemory
from vamba_eval.progress import Display
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.run.answer import Monitors
from vamba_eval.run.here import Here
from vamba_eval.run.plan import Layout
from vamba_eval.run.served import Served
from vamba_eval.run.workplace import Workplace

if TYPE_CHECKING:
    from vamba_eval.run.on_ray.cluster import Cluster


class Places:
    """Opens workplaces, which share what reads videos; a context manager. Raises UserError for what is not there."""

    def __init__(self, layout: Layout, reading: Reading, *, accept_environment: bool = False) -> None:
        self._layout, self._reading, self._accept_environment = layout, reading, accept_environment
        self._stack = ExitStack()
        self._cluster: Cluster | None = None
        self._reader: Reader | None = None
        self._monitors: Monitors | None = None

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self, models: Sequence[str | Model]) -> None:
        """Start what the run is spread out on, if it is. Raises UserError for models that cannot work there."""
        if not self._layout.on_ray:
            return
        try:
            from vamba_eval.run.on_ray.cluster import Cluster
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise UserError(f"several GPUs or machines need Ray: {machine.how_to_install('ray')}") from error
        ray = sys.modules.get("ray")
        elsewhere = self._layout.address or os.environ.get("RAY_ADDRESS") or (ray and ray.is_initialized())
        if self._layout.gpus and not elsewhere and not machine.gpu_driver():
            raise UserError("this machine has no GPU: --replicas N runs N replicas of each model without one")
        if built := [model for model in models if isinstance(model, ModelAdapter)]:
            raise UserError(
                f"the model {built[0].name!r} is built already, so it has no replicas: give its name and model_args"
            )
        cluster = Cluster(self._layout, self._reading, accept_environment=self._accept_environment)
        self._cluster = self._stack.enter_context(cluster)

    def environment(self) -> dict[str, Any]:
        """Of where models work, which is what answers depend on."""
        return machine.run_environment() if self._cluster is None else self._cluster.environment()

    def open(self, source: str | Model, arguments: Mapping[str, Any], display: Display) -> Workplace:
        """The model's workplace. Raises UserError as ``registry`` does."""
        if isinstance(source, str) and not issubclass(registry.adapter_class(source), ServedModel) and self._cluster:
            from vamba_eval.run.on_ray.scheduler import OnRay

            return OnRay(self._cluster, source, arguments, display)
        model = registry.load_adapter(source, **arguments) if isinstance(source, str) else source
        if isinstance(model, ServedModel):
            return Served(model, self._shared_reader())
        assert isinstance(model, ModelAdapter)
        return Here(model, self._shared_reader(), self._shared_monitors())

    def _shared_reader(self) -> Reader:
        if self._reader is None:
            self._reader = self._stack.enter_context(Reader(self._reading))
        return self._reader

    def _shared_monitors(self) -> Monitors:
        if self._monitors is None:
            host, gpu = self._stack.enter_context(HostMemory()), self._stack.enter_context(GpuMonitor())
            self._monitors = Monitors(host, gpu)
        return self._monitors

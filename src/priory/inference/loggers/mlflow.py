"""Runs of MLflow, on a server or in a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priory.inference.loggers.base import Logger, Status

_EXTRA = "mlflow needs an extra: pip install 'priory[mlflow]'"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_AT_ONCE = 100  # parameters in one request, MLflow's own limit
_LONGEST = 500  # letters of a parameter that every version of a server takes


class MLflow(Logger):
    """A run of MLflow: metrics by step, the options as parameters.

    Args:
        where: Address of a tracking server (`http://host:5000`, or any that MLflow knows), or a
            folder, in which the file `mlflow.db` is kept; MLflow's own setting,
            MLFLOW_TRACKING_URI, if `None`.
        run: What the run is called there; as its folder if `None`.
        experiment: The experiment that has the run.

    Raises:
        ImportError: The library is not installed.
    """

    name = "mlflow"

    def __init__(
        self, where: str | None = None, run: str | None = None, experiment: str = "priory"
    ) -> None:
        super().__init__(where, run)
        self.experiment = experiment

    def open(
        self,
        place: str | None,
        run: str,
        folder: Path | None,  # noqa: ARG002
        options: Mapping[str, Any],
    ) -> str:
        """Begin a run, or take up the one of an id."""
        self._client = client = _client(self._address())
        if place is not None:
            client.update_run(place, status="RUNNING")
            self._id: str = place
            return place
        experiment = client.get_experiment_by_name(self.experiment)
        number = (
            client.create_experiment(self.experiment)
            if experiment is None
            else experiment.experiment_id
        )
        self._id = client.create_run(number, run_name=run).info.run_id
        from mlflow.entities import Param

        params = [Param(k, str(v)[:_LONGEST]) for k, v in options.items()]
        for start in range(0, len(params), _AT_ONCE):
            client.log_batch(self._id, params=params[start : start + _AT_ONCE])
        return self._id

    def last(self) -> int:
        """Return the last step of the run's metrics."""
        known = self._client.get_run(self._id).data.metrics
        histories = [self._client.get_metric_history(self._id, name) for name in known]
        return max((m.step for history in histories for m in history), default=-1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write all numbers of a step by one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[Metric(name, value, now, step) for name, value in figures.items()]
        )

    def close(self, status: Status) -> None:
        """Mark the run as finished, failed or killed."""
        self._client.set_terminated(self._id, _STATUS[status])

    def home(self) -> str:
        """Return the address, or the folder from the root."""
        if self.where is None or "://" in self.where:
            return self.where or ""
        return str(Path(self.where).absolute())

    def _address(self) -> str | None:
        """Return the address of the server, or of the folder's file."""
        home = self.home()
        if not home or "://" in home:
            return home or None
        Path(home).mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{Path(home) / 'mlflow.db'}"


def _client(address: str | None) -> Any:
    try:
        from mlflow.tracking import MlflowClient

        if address is not None and address.startswith("sqlite"):
            import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return MlflowClient(tracking_uri=address)

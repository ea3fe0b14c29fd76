"""The metrics that the processes of a host have written: those of the API together, and those of the worker.

Each process writes files (`PROMETHEUS_MULTIPROC_DIR`), in a folder of its service, which is empty when that starts.
"""

import logging
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class Processes(Collector):
    """Adds up the metrics of each service's processes, with the service as the label `process`."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Set the folder of each service."""
        self._folders = folders

    def collect(self) -> Iterator[Metric]:
        """Yield whether each service runs, and the metrics of all of them."""
        up = GaugeMetricFamily("tradefleet_process_up", "Whether the API or the worker runs.", labels=["process"])
        families: dict[str, Metric] = {}
        for process, folder in self._folders.items():
            found = _read(folder)
            up.add_metric([process], bool(found))
            for metric in found:
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += [each._replace(labels=each.labels | {"process": process}) for each in metric.samples]
        yield up
        yield from families.values()


def _read(folder: Path) -> Collection[Metric]:
    """Return the metrics of the files in a folder; none if the service does not run."""
    files = [str(path) for path in folder.glob("*.db")]
    try:
        # prometheus_client annotates this in part
        merged: Collection[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, struct.error) as error:
        # The service stopped a moment ago, or its process is creating the file.
        log.warning("no metrics from %s: %s", folder, error)
        return ()
    return merged

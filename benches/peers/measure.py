"""How things are measured: the same for every peer."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

CHUNK_VALUES = 1 << 22  # float64 values in a chunk's largest temporary: 32 MiB


def timed(function: Callable, *arguments: Any) -> tuple[float, Any]:
    """Seconds of wall clock that the call took, and what it returned."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def inertia(rows: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances of each row to its nearest centroid, in float64.

    The libraries' own figures differ in precision, and some belong to the centroids before the last update.
    """
    centroids = np.asarray(centroids, dtype=np.float64)
    half_norms = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    step = max(1, CHUNK_VALUES // max(centroids.shape))
    total = 0.0
    for first in range(0, len(rows), step):
        chunk = rows[first : first + step].astype(np.float64)
        nearest = np.argmin(half_norms - chunk @ centroids.T, axis=1)
        # From the differences themselves: the expanded form above finds the nearest but loses digits.
        difference = chunk - centroids[nearest]
        total += float(np.einsum("ij,ij->", difference, difference))
    return total


def peak_rss_bytes(pid: int | str = "self") -> int:
    """The most memory a process has held so far.

    Not getrusage's ru_maxrss: it survives exec, so that a small process started by a large one inherits its peak.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE).group(1)) * 1024


def openblas() -> list[dict[str, Any]]:
    """The OpenBLAS libraries loaded so far, each with the processor that its kernels were chosen for."""
    return [
        {
            "library": Path(library["filepath"]).parent.name,
            "version": library["version"],
            "architecture": library["architecture"],
            "threads": library["num_threads"],
        }
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    ]

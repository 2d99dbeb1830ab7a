"""What every peer is given and what it has to offer."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import measure
from errors import PeerError


class Data:
    """A data folder: X.npy (rows), C0.npy (initial centroids), labels.npy. Each file is read when first asked for."""

    def __init__(self, folder: Path):
        self.rows_path = folder / "X.npy"
        self.centroids_path = folder / "C0.npy"
        self.labels_path = folder / "labels.npy"

    @cached_property
    def rows(self) -> np.ndarray:
        return _load(self.rows_path, np.float32, 2)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and features, without reading the rows."""
        return _load(self.rows_path, np.float32, 2, mmap_mode="r").shape

    @cached_property
    def centroids(self) -> np.ndarray:
        return _load(self.centroids_path, np.float32, 2)

    @cached_property
    def labels(self) -> np.ndarray:
        return _load(self.labels_path, np.int32, 1)


def _load(path: Path, dtype: type, ndim: int, **options: Any) -> np.ndarray:
    try:
        array = np.load(path, **options)
    except (OSError, ValueError) as error:
        raise PeerError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if array.dtype != dtype or array.ndim != ndim:
        raise PeerError(f"{path} has {array.ndim} axes of {array.dtype}, not {ndim} of {np.dtype(dtype)}")
    return array


class Peer:
    """One k-means of one library, with the data in the form it wants.

    `fit` and `solve` are what is timed. They return the library's own model, which `centroids` and `passes` read
    afterwards. The constructor does, untimed, whatever the library needs once per data set and not per fit.
    """

    distribution: str  # its name on PyPI
    uses_openblas = False
    starts_from = "C0"  # where `fit` starts
    max_iter = 300  # the most passes that `solve` makes

    def __init__(self, data: Data, threads: int):
        self.data = data
        self.threads = threads

    def fit(self, start: np.ndarray, passes: int) -> Any:
        """Make `passes` Lloyd passes from the centroids `start`, stopping earlier only where nothing moves any more."""
        raise NotImplementedError

    def solve(self, k: int, seed: int, max_iter: int) -> Any:
        """Seed and converge as the library does by default."""
        raise NotImplementedError

    def centroids(self, model: Any) -> np.ndarray:
        raise NotImplementedError

    def passes(self, model: Any) -> int:
        raise NotImplementedError

    def peak_rss_bytes(self) -> int:
        return measure.peak_rss_bytes()

"""Intel's extension for scikit-learn: its k-means on oneDAL."""

from typing import Any

import numpy as np
from sklearnex.cluster import KMeans

from errors import PeerError
from sklearn_peers import Lloyd


class Intelex(Lloyd):
    distribution = "scikit-learn-intelex"
    uses_openblas = False  # oneDAL has kernels of its own

    def estimator(self, k: int, **options: Any) -> Any:
        # n_jobs: its thread pool is TBB's, which no environment variable limits.
        return KMeans(k, n_jobs=self.threads, **options)

    def fit(self, start: np.ndarray, passes: int) -> Any:
        return _by_onedal(super().fit(start, passes))

    def solve(self, k: int, seed: int, max_iter: int) -> Any:
        return _by_onedal(super().solve(k, seed, max_iter))


def _by_onedal(model: Any) -> Any:
    """Refuse a model that plain scikit-learn has fitted: the extension falls back to it without a word."""
    if not hasattr(model, "_onedal_estimator"):
        raise PeerError("scikit-learn-intelex fell back to plain scikit-learn: there is nothing of its own to measure")
    return model

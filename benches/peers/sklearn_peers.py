"""scikit-learn: Lloyd, Elkan and mini-batch k-means, and the silhouette."""

from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import silhouette_score

from base import Data, Peer


class Lloyd(Peer):
    distribution = "scikit-learn"
    uses_openblas = True

    def __init__(self, data: Data, threads: int):
        super().__init__(data, threads)
        self.rows = data.rows

    def estimator(self, k: int, **options: Any) -> Any:
        return KMeans(k, algorithm="lloyd", **options)

    def fit(self, start: np.ndarray, passes: int) -> Any:
        return self.estimator(len(start), init=start, n_init=1, max_iter=passes, tol=0).fit(self.rows)

    def solve(self, k: int, seed: int, max_iter: int) -> Any:
        return self.estimator(k, max_iter=max_iter, random_state=seed).fit(self.rows)

    def centroids(self, model: Any) -> np.ndarray:
        return model.cluster_centers_

    def passes(self, model: Any) -> int:
        return int(model.n_iter_)


class Elkan(Lloyd):
    """The same passes with distances left out where the triangle inequality allows it."""

    def estimator(self, k: int, **options: Any) -> Any:
        return KMeans(k, algorithm="elkan", **options)


class MiniBatch(Lloyd):
    """As many rows a pass, drawn at random in batches: another algorithm, which ends at other centroids."""

    max_iter = 100  # its default

    def estimator(self, k: int, **options: Any) -> Any:
        return MiniBatchKMeans(k, **options)

    def fit(self, start: np.ndarray, passes: int) -> Any:
        # Neither stop early nor move a centroid elsewhere than towards the rows of its batches.
        options = {"tol": 0, "max_no_improvement": None, "reassignment_ratio": 0, "random_state": 0}
        return self.estimator(len(start), init=start, n_init=1, max_iter=passes, **options).fit(self.rows)


class Silhouette(Peer):
    distribution = "scikit-learn"
    uses_openblas = True

    def __init__(self, data: Data, threads: int):
        super().__init__(data, threads)
        self.rows, self.labels = data.rows, data.labels

    def score(self) -> float:
        return float(silhouette_score(self.rows, self.labels, n_jobs=self.threads))

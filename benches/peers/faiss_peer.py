"""Faiss on the CPU: k-means over an exact flat index."""

import faiss
import numpy as np

from base import Data, Peer


class Faiss(Peer):
    distribution = "faiss-cpu"
    uses_openblas = True
    max_iter = 25  # its default

    def __init__(self, data: Data, threads: int):
        super().__init__(data, threads)
        self.rows = data.rows
        faiss.omp_set_num_threads(threads)

    def fit(self, start: np.ndarray, passes: int) -> faiss.Kmeans:
        # Below its range of 0 to 1, to make every pass: at 0 it stops once its float32 objective repeats, before rest.
        return self._train(len(start), start, niter=passes, early_stop_threshold=-1.0)

    def solve(self, k: int, seed: int, max_iter: int) -> faiss.Kmeans:
        return self._train(k, None, niter=max_iter, seed=seed)

    def centroids(self, model: faiss.Kmeans) -> np.ndarray:
        return model.centroids

    def passes(self, model: faiss.Kmeans) -> int:
        return len(model.obj)

    def _train(self, k: int, start: np.ndarray | None, **options: float) -> faiss.Kmeans:
        rows, features = self.rows.shape
        # By default it would keep 256 rows per centroid and drop the others.
        model = faiss.Kmeans(features, k, max_points_per_centroid=rows, **options)
        model.train(self.rows, init_centroids=start)
        return model

"""Apache Spark's k-means, in one JVM on as many cores as there are threads.

Spark has two. The RDD-based one takes initial centroids and goes row by row, which is also what the DataFrame-based one
does by default. With solver="block" the latter multiplies matrices, which is faster where there are many centroids, but
it takes no initial centroids.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import RDD
from pyspark.ml.clustering import KMeans, KMeansModel
from pyspark.ml.linalg import DenseVector, VectorUDT
from pyspark.mllib.common import _java2py, _py2java, _to_java_object_rdd
from pyspark.mllib.linalg import DenseVector as RddVector
from pyspark.sql import SparkSession
from pyspark.sql.types import StructField, StructType

import measure
from base import Data, Peer
from errors import PeerError

NO_JAVA = 3  # exit code
OBJECT_BYTES = 100  # what the JVM adds to a row's values: headers, references, the boxed norm
MIB = 1 << 20


class Spark(Peer):
    """A session, and the memory of the JVM that does the work; this process only sends it commands."""

    distribution = "pyspark"
    copies = 1  # of the rows that the JVM holds during a fit

    def __init__(self, data: Data, threads: int):
        super().__init__(data, threads)
        self.session = _start_session(threads, _heap_bytes(self.copies, *data.shape))
        self.context = self.session.sparkContext
        self.jvm = self.context._jvm

    def peak_rss_bytes(self) -> int:
        return measure.peak_rss_bytes(self.jvm.java.lang.ProcessHandle.current().pid())


class Rows(Spark):
    """org.apache.spark.mllib.clustering.KMeans.

    Called in the JVM: its Python wrapper would pickle all rows from Python into the JVM anew for each fit.
    """

    def __init__(self, data: Data, threads: int):
        super().__init__(data, threads)
        self.api = self.jvm.org.apache.spark.mllib
        self.rows = _to_java_object_rdd(_vectors(self, RddVector)).rdd().cache()
        self.rows.count()
        _require_in_memory(self)

    def fit(self, start: np.ndarray, passes: int) -> Any:
        return self._algorithm(len(start), passes).setEpsilon(0.0).setInitialModel(self._model(start)).run(self.rows)

    def solve(self, k: int, seed: int, max_iter: int) -> Any:
        return self._algorithm(k, max_iter).setSeed(seed).run(self.rows)

    def centroids(self, model: Any) -> np.ndarray:
        return np.array([_java2py(self.context, center).toArray() for center in model.clusterCenters()])

    def passes(self, model: Any) -> int:
        return model.numIter()

    def _algorithm(self, k: int, max_iter: int) -> Any:
        return self.api.clustering.KMeans().setK(k).setMaxIterations(max_iter)

    def _model(self, centroids: np.ndarray) -> Any:
        vectors = self.context._gateway.new_array(self.api.linalg.Vector, len(centroids))
        for i, centroid in enumerate(centroids):
            vectors[i] = _py2java(self.context, RddVector(centroid))
        return self.api.clustering.KMeansModel(vectors)


class Blocks(Spark):
    """pyspark.ml.clustering.KMeans with solver="block"."""

    starts_from = "random rows"
    copies = 2

    def __init__(self, data: Data, threads: int):
        super().__init__(data, threads)
        rows = _vectors(self, DenseVector).map(lambda vector: (vector,))
        schema = StructType([StructField("features", VectorUDT(), nullable=False)])
        self.rows = self.session.createDataFrame(rows, schema).cache()
        self.rows.count()
        _require_in_memory(self)

    def fit(self, start: np.ndarray, passes: int) -> KMeansModel:
        options = {"initMode": "random", "seed": 0, "tol": 0.0}
        return KMeans(k=len(start), maxIter=passes, solver="block", **options).fit(self.rows)

    def solve(self, k: int, seed: int, max_iter: int) -> KMeansModel:
        return KMeans(k=k, maxIter=max_iter, seed=seed, solver="block").fit(self.rows)

    def centroids(self, model: KMeansModel) -> np.ndarray:
        return np.array(model.clusterCenters())

    def passes(self, model: KMeansModel) -> int:
        return model.summary.numIter


def _start_session(threads: int, heap_bytes: int) -> SparkSession:
    home = os.environ.get("JAVA_HOME")
    if not shutil.which(Path(home, "bin", "java") if home else "java"):
        raise PeerError("Spark needs a Java runtime (on Debian: apt-get install default-jre-headless)", NO_JAVA)
    os.environ["PYSPARK_PYTHON"] = sys.executable  # the workers that read the rows run in this environment too
    return (
        SparkSession.builder.master(f"local[{threads}]")
        .config("spark.driver.memory", f"{heap_bytes // MIB}m")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )


def _heap_bytes(copies: int, rows: int, features: int) -> int:
    """A heap whose part that Spark stores in, three fifths, holds the rows as float64, and 2 GiB more to work in."""
    return 2048 * MIB + copies * rows * (8 * features + OBJECT_BYTES) * 5 // 3


def _vectors(peer: Spark, vector: type) -> RDD:
    """The rows as vectors of the given class, one partition per thread, read by Spark's own Python workers."""
    path, rows, parts = os.path.abspath(peer.data.rows_path), peer.data.shape[0], peer.threads

    # Nested, and so sent to the workers by value: they cannot import this module.
    def partition(part: int) -> Any:
        slab = np.load(path, mmap_mode="r")[rows * part // parts : rows * (part + 1) // parts]
        return (vector(row) for row in slab)

    return peer.context.parallelize(range(parts), parts).flatMap(partition)


def _require_in_memory(peer: Spark) -> None:
    """Refuse to measure rows that Spark would read from Python or from disk again in each pass."""
    stored = peer.context._jsc.sc().getRDDStorageInfo()
    if not stored or any(rdd.numCachedPartitions() < rdd.numPartitions() or rdd.diskSize() > 0 for rdd in stored):
        raise PeerError("Spark could not hold the rows in memory")

"""Rows and a job for a whole run: `job.py FOLDER ROWS` writes rows.parquet and job.yaml."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet

FEATURES = 16
BLOBS = 8
ROWS_AT_A_TIME = 1 << 20
THREADS = 8


def table(schema, centres, first, n):
    """Rows `first` to `first + n`, drawn by their own generator, so that threads share the work."""
    random = numpy.random.default_rng((7, first))
    rows = centres[random.integers(BLOBS, size=n)] + random.standard_normal((n, FEATURES), dtype="f4")
    columns = [pyarrow.array(numpy.arange(first, first + n)), *(pyarrow.array(column) for column in rows.T)]
    return pyarrow.Table.from_arrays(columns, schema=schema)


def main():
    folder, n_rows = Path(sys.argv[1]), int(sys.argv[2])
    centres = numpy.random.default_rng(7).uniform(-1.6, 1.6, (BLOBS, FEATURES)).astype("f4")
    names = [f"x{column}" for column in range(FEATURES)]
    schema = pyarrow.schema([("id", pyarrow.int64()), *((name, pyarrow.float32()) for name in names)])
    parquet = pyarrow.parquet.ParquetWriter(folder / "rows.parquet", schema, compression="none")
    with parquet as writer, ThreadPoolExecutor(THREADS) as threads:
        firsts = range(0, n_rows, ROWS_AT_A_TIME)
        for some in (firsts[idx : idx + THREADS] for idx in range(0, len(firsts), THREADS)):
            for drawn in threads.map(lambda first: table(schema, centres, first, min(ROWS_AT_A_TIME, n_rows - first)), some):
                writer.write_table(drawn)
    job = f"""source: {{ path: {folder}/rows.parquet, id: id, features: [{", ".join(names)}] }}
prepare: {{ missing: error, scale: zscore }}
kmeans: {{ n_clusters: {BLOBS}, init: k-means||, n_init: 3, max_iter: 100, tol: 1.0e-4, seed: 7 }}
validate: {{ silhouette: sampled, silhouette_sample: 2000, davies_bouldin: true, calinski_harabasz: true }}
"""
    (folder / "job.yaml").write_text(job)


if __name__ == "__main__":
    main()

"""The commands of peer.py, each of which returns the document to print."""

import platform
import subprocess
from argparse import Namespace
from importlib import import_module
from importlib.metadata import version
from statistics import median
from typing import Any

import measure
from base import Data, Peer
from errors import PeerError

# Module and name. Only the peer asked for is imported: each library brings its own BLAS and thread pool.
PEERS = {
    "sklearn-lloyd": ("sklearn_peers", "Lloyd"),
    "sklearn-elkan": ("sklearn_peers", "Elkan"),
    "sklearn-minibatch": ("sklearn_peers", "MiniBatch"),
    "intelex": ("intelex_peer", "Intelex"),
    "faiss": ("faiss_peer", "Faiss"),
    "spark": ("spark_peers", "Rows"),
    "spark-block": ("spark_peers", "Blocks"),
}
SILHOUETTES = {"sklearn": ("sklearn_peers", "Silhouette")}
DISTRIBUTIONS = (
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-learn-intelex",
    "daal",
    "faiss-cpu",
    "pyspark",
    "threadpoolctl",
)


def fit(args: Namespace) -> dict[str, Any]:
    """A fixed number of passes and half of them, by turns so that a slow moment of the machine falls on both."""
    start = Data(args.data).centroids
    peer = _peer(PEERS, args)
    peer.fit(start, 1)  # untimed: threads are started, code is loaded and, in a JVM, compiled
    seconds, seconds_half = [], []
    for _ in range(args.repeats):
        elapsed, model = measure.timed(peer.fit, start, args.passes)
        elapsed_half, model_half = measure.timed(peer.fit, start, args.passes // 2)
        seconds.append(elapsed)
        seconds_half.append(elapsed_half)
    n_iter = peer.passes(model)
    return _described(args, peer) | {
        "starts_from": peer.starts_from,
        "passes": args.passes,
        "n_iter": n_iter,
        "seconds": seconds,
        "seconds_half": seconds_half,
        "whole_ms_per_pass": 1000 * median(seconds) / n_iter,
        "marginal_ms_per_pass": _marginal_ms(seconds, seconds_half, n_iter - peer.passes(model_half)),
        # The peak first: the inertia below needs memory of its own.
        "peak_rss_bytes": peer.peak_rss_bytes(),
        "inertia": measure.inertia(peer.data.rows, peer.centroids(model)),
    }


def solve(args: Namespace) -> dict[str, Any]:
    """From rows to centroids with the library's own seeding and stopping, once for each seed: how long one start takes is
    luck. The median inertia stands for all."""
    peer = _peer(PEERS, args)
    peer.solve(args.k, args.seed, 1)  # untimed, as in fit
    seconds, passes, centroids = [], [], []
    for seed in range(args.seed, args.seed + args.repeats):
        elapsed, model = measure.timed(peer.solve, args.k, seed, peer.max_iter)
        seconds.append(elapsed)
        passes.append(peer.passes(model))
        centroids.append(peer.centroids(model))
    peak = peer.peak_rss_bytes()
    inertias = [measure.inertia(peer.data.rows, found) for found in centroids]
    return _described(args, peer) | {
        "k": args.k,
        "seed": args.seed,
        "n_iter": int(median(passes)),
        "passes": passes,
        "seconds": seconds,
        "peak_rss_bytes": peak,
        "inertias": inertias,
        "inertia": median(inertias),
    }


def silhouette(args: Namespace) -> dict[str, Any]:
    """The mean silhouette over all rows, once: its cost is quadratic in the rows."""
    peer = _peer(SILHOUETTES, args)
    seconds, score = measure.timed(peer.score)
    return _described(args, peer) | {
        "seconds": seconds,
        "peak_rss_bytes": peer.peak_rss_bytes(),
        "score": score,
    }


def versions(_: Namespace) -> dict[str, Any]:
    installed = {name: version(name) for name in DISTRIBUTIONS}
    return {"python": platform.python_version(), "java": _java_version()} | installed


def _peer(table: dict[str, tuple[str, str]], args: Namespace) -> Any:
    if args.peer not in table:
        raise PeerError(f"no peer {args.peer!r} for {args.command}; there are: {', '.join(table)}")
    module, name = table[args.peer]
    return getattr(import_module(module), name)(Data(args.data), args.threads)


def _described(args: Namespace, peer: Peer) -> dict[str, Any]:
    return {
        "peer": args.peer,
        "version": version(peer.distribution),
        "threads": args.threads,
        "blas": measure.openblas() if peer.uses_openblas else None,
    }


def _marginal_ms(seconds: list[float], seconds_half: list[float], more_passes: int) -> float | None:
    """What one more pass costs: what is paid once per fit cancels. None if the fit came to rest within the half."""
    if more_passes == 0:
        return None
    return 1000 * (median(seconds) - median(seconds_half)) / more_passes


def _java_version() -> str | None:
    try:
        result = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stderr.splitlines()[0]

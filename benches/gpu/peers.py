"""Peers of the CUDA engine on the same rows and initial centroids, which `engine gpu time --arrays FOLDER` leaves as NumPy files.

For each shape and peer one JSON document a line: milliseconds per pass (20 passes from the initial centroids, by CUDA
events, the median of three), and how many labels of the first pass are not the float64 argmin.

    python peers.py FOLDER
"""

import json
import os
import statistics
import sys
from pathlib import Path

import numpy
import torch

PASSES = 20
REPEATS = 3
ROWS_AT_A_TIME = 1 << 18


def true_labels(x, centroids):
    """The float64 argmin of each row, the lowest centroid on ties."""
    exact = centroids.double()
    half_norms = (exact * exact).sum(1) / 2
    labels = []
    for rows in x.split(ROWS_AT_A_TIME):
        labels.append((half_norms - rows.double() @ exact.T).argmin(1))
    return torch.cat(labels)


def milliseconds(run):
    """The median time of several runs, after one that compiles."""
    run()
    times = []
    for _ in range(REPEATS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        run()
        ended.record()
        torch.cuda.synchronize()
        times.append(began.elapsed_time(ended))
    return statistics.median(times)


def torch_pass(x, x_chunks, centroids):
    """The textbook in torch: scores in chunks, an argmax, and sums by index_add_."""
    half_norms = (centroids * centroids).sum(1) / 2
    sums = torch.zeros_like(centroids)
    counts = torch.zeros(len(centroids), device=x.device)
    labels = []
    for rows in x_chunks:
        label = (rows @ centroids.T - half_norms).argmax(1)
        sums.index_add_(0, label, rows)
        counts += torch.bincount(label, minlength=len(centroids))
        labels.append(label)
    means = sums / counts.clamp(min=1).unsqueeze(1)
    return torch.where(counts.unsqueeze(1) > 0, means, centroids), labels


def torch_fit(x, initial, n_passes):
    chunks = x.split(ROWS_AT_A_TIME * 4)
    centroids, labels = initial, []
    for _ in range(n_passes):
        centroids, labels = torch_pass(x, chunks, centroids)
    return torch.cat(labels)


def flash_fit(x, initial, n_passes):
    from flash_kmeans import batch_kmeans_Euclid

    k = len(initial)
    labels, *_ = batch_kmeans_Euclid(x[None], k, max_iters=n_passes, tol=-1.0, init_centroids=initial[None].clone())
    return labels[0]


def measure(name, fit, x, initial, shape):
    n_wrong = int((fit(x, initial, 1) != true_labels(x, initial)).sum())
    return {
        "peer": name,
        "shape": shape,
        "whole_ms_per_pass": milliseconds(lambda: fit(x, initial, PASSES)) / PASSES,
        "wrong_labels_of_first_pass": n_wrong,
    }


def copy_bandwidth():
    """Bytes read and written by a device-to-device copy, in TB/s."""
    source = torch.rand(1 << 30, device="cuda")
    target = torch.empty_like(source)
    return 20 * 2 * source.nbytes / milliseconds(lambda: [target.copy_(source) for _ in range(20)]) / 1e9


def main():
    folder = Path(sys.argv[1])
    print(json.dumps({"device": torch.cuda.get_device_name(), "copy_tb_per_second": copy_bandwidth()}), flush=True)
    for path in sorted(folder.glob("*-x.npy"), key=os.path.getsize):
        shape = path.name.removesuffix("-x.npy")
        x = torch.from_numpy(numpy.load(path)).cuda()
        initial = torch.from_numpy(numpy.load(folder / f"{shape}-c0.npy")).cuda()
        peers = [("flash-kmeans " + os.environ.get("TRITON_F32_DEFAULT", "tf32"), flash_fit), ("torch", torch_fit)]
        for name, fit in peers:
            try:
                document = measure(name, fit, x, initial, shape)
            except Exception as error:  # a peer that cannot do a shape says so in the result
                document = {"peer": name, "shape": shape, "error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(document), flush=True)
        del x
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

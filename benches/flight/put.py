"""How fast rows are put to a fleet, beside what pyarrow's own Flight does with them on the same loopback.

    target/peers/bin/python -m pip install pyarrow==26.0.1
    target/peers/bin/python benches/flight/put.py target/release/shoal [--rows 2000000] [--workers 1]

pyarrow's server takes the batches and forgets them. Shoal's coordinator checks and hashes every block, writes it to storage and
spreads it over workers before it says that it has them. Both are servers in a process of their own, and the client is the same:
pyarrow's. Rates are of the bytes of the columns. Prints one JSON document.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import pyarrow
import pyarrow.flight as flight

FEATURES = 16
BATCH_ROWS = 1 << 16
REPEATS = 5

DISCARDING_SERVER = """
import pyarrow.flight as flight, sys
class Server(flight.FlightServerBase):
    def do_put(self, context, descriptor, reader, writer):
        for chunk in reader:
            pass
        writer.write(b"taken")
server = Server("grpc://127.0.0.1:0")
print(server.port, flush=True)
server.serve()
"""


def varint(number):
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def end_marker(n_rows):
    """PutMetadata { end: PutEnd { n_rows } } of proto/shoal/v1/flight.proto."""
    end = b"\x08" + varint(n_rows)
    return b"\x0a" + varint(len(end)) + end


def batches(n_rows):
    random = numpy.random.default_rng(5)
    names = ["id", *(f"x{column}" for column in range(FEATURES))]
    for first in range(0, n_rows, BATCH_ROWS):
        n = min(BATCH_ROWS, n_rows - first)
        ids = pyarrow.array(numpy.arange(first, first + n))
        columns = [pyarrow.array(random.standard_normal(n)) for _ in range(FEATURES)]
        yield pyarrow.RecordBatch.from_arrays([ids, *columns], names)


def put(url, rows):
    """Seconds until the server has said that it has them."""
    with flight.connect(url) as client:
        began = time.perf_counter()
        writer, reader = client.do_put(flight.FlightDescriptor.for_command(b""), rows[0].schema)
        for batch in rows[:-1]:
            writer.write_batch(batch)
        writer.write_with_metadata(rows[-1], end_marker(sum(batch.num_rows for batch in rows)))
        writer.done_writing()
        answer = reader.read()
        seconds = time.perf_counter() - began
        writer.close()
    if answer is None:
        sys.exit(f"{url} gave no receipt")
    return seconds


def fleet(shoal, folder, n_workers):
    """A coordinator's URL and all processes."""
    address = folder / "address"
    start = ["coordinator", "--listen", "127.0.0.1:0", "--address-file", address, "--data", folder / "data"]
    log = open(folder / "log", "wb")
    processes = [subprocess.Popen([shoal, *start], stderr=log)]
    while not (address.exists() and address.read_text()):
        time.sleep(0.05)
    url = address.read_text()
    for _ in range(n_workers):
        processes.append(subprocess.Popen([shoal, "worker", "--coordinator", f"http://{url}"], stderr=log))
    while (folder / "log").read_bytes().count(b"joined the fleet") < n_workers:
        time.sleep(0.05)
    return f"grpc://{url}", processes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shoal")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    rows = list(batches(arguments.rows))
    n_bytes = sum(batch.nbytes for batch in rows)
    discarding = subprocess.Popen([sys.executable, "-c", DISCARDING_SERVER], stdout=subprocess.PIPE, text=True)
    peer = f"grpc://127.0.0.1:{discarding.stdout.readline().strip()}"
    with tempfile.TemporaryDirectory() as folder:
        url, processes = fleet(arguments.shoal, pathlib.Path(folder), arguments.workers)
        seconds = {"shoal": [], "pyarrow": []}
        for _ in range(REPEATS):
            seconds["pyarrow"].append(put(peer, rows))
            seconds["shoal"].append(put(url, rows))
        for process in [discarding, *processes]:
            process.kill()
            process.wait()
    rates = {name: n_bytes / statistics.median(times) / 1e6 for name, times in seconds.items()}
    document = {"rows": arguments.rows, "features": FEATURES, "bytes": n_bytes, "workers": arguments.workers}
    document |= {"pyarrow_version": pyarrow.__version__, "seconds": seconds, "mb_per_second": rates}
    print(json.dumps(document | {"of_pyarrow": rates["shoal"] / rates["pyarrow"]}, indent=1))


if __name__ == "__main__":
    main()

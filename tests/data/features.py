"""Make complete_journey/features.json, ecom/golden.json and cdnow/golden.json: pandas' answers for Shoal's tests.

    pip install numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1 && python features.py

Features are those of `shoal features`, computed once more by other means: whole columns and groups here, one customer
after the other there.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
DAY = pd.Timedelta(days=1)
WEIGHTS = {"page_view": 1.0, "click": 1.0, "cart": 3.0, "purchase": 5.0, "support": -2.0, "other": 1.0}
HALF_LIFE = 30.0
ORDER = ["page_view", "screen", "click", "cart", "purchase", "support", "other"]


def slopes(values, groups):
    """The least-squares slope of each group's values on 0, 1, 2, ..; missing for fewer than two."""
    table = pd.DataFrame({"group": groups.to_numpy(), "y": values.to_numpy()})
    table["x"] = table.groupby("group").cumcount().astype(float)
    means = table.groupby("group").transform("mean")
    x, y = table.x - means.x, table.y - means.y
    table["xy"], table["xx"] = x * y, x * x
    sums = table.groupby("group")[["xy", "xx"]].sum()
    return sums.xy / sums.xx.where(sums.xx > 0)


def by_group(values, name):
    """Mean, median and variation of gaps or amounts."""
    groups = values.groupby(level=0)
    mean = groups.mean()
    variation = (groups.std(ddof=0) / mean).where(groups.size() >= 2)
    return {name: mean, f"{name}_median": groups.median(), f"{name}_variation": variation.where(mean != 0)}


def of_orders(events, features):
    purchases = events[events.kind == "purchase"]
    lines = purchases.groupby(["customer", "order"])
    orders = pd.DataFrame({"time": lines.time.min(), "amount": lines.amount.sum()}).reset_index()
    orders = orders.sort_values(["customer", "time", "amount"])
    gaps = orders.groupby("customer").time.diff().dropna() / DAY
    gaps.index = orders.customer.loc[gaps.index]
    gap = by_group(gaps, "order_gap_days")
    value = by_group(orders.set_index("customer").amount, "order_value")
    features["frequency"] = orders.groupby("customer").size()
    features["monetary"] = purchases.groupby("customer").amount.sum()
    features |= gap
    features["order_gap_variation"] = features.pop("order_gap_days_variation")
    features |= {name: value[name] for name in ("order_value", "order_value_median")}
    features["order_value_trend"] = slopes(orders.amount, orders.customer)
    return gaps, orders


def of_sessions(events, as_of, gap, features):
    by = events.groupby("customer")
    begins = by.time.diff().isna() | (by.time.diff() > gap)
    session = begins.cumsum()
    visits = events.groupby(["customer", session]).time.agg(["min", "max", "size"]).reset_index(level=1, drop=True)
    n = visits.groupby(level=0).size()
    weeks = ((as_of - visits.groupby(level=0)["min"].min()) / (7 * DAY)).clip(lower=1.0)
    minutes = ((visits["max"] - visits["min"]) / pd.Timedelta(minutes=1)).groupby(level=0).mean()
    gaps = visits.groupby(level=0)["min"].diff().dropna() / DAY
    spread = by_group(gaps, "session_gap_days")
    features["sessions"] = n
    features["sessions_per_week"] = n / weeks
    features["session_minutes"] = minutes
    features["session_events"] = by.size() / n
    features["session_gap_days"] = spread["session_gap_days"]
    features["session_gap_variation"] = spread["session_gap_days_variation"]
    features["session_gap_trend"] = slopes(gaps, gaps.index)
    return session


def of_items(events, features):
    counts = events[events["item"].notna()].groupby(["customer", "item"]).size()
    shares = counts / counts.groupby(level=0).sum()
    ranks = counts.groupby(level=0).rank(method="first")
    n, total = counts.groupby(level=0).size(), counts.groupby(level=0).sum()
    features["items"] = n
    features["item_entropy"] = (-shares * np.log2(shares)).groupby(level=0).sum()
    features["item_gini"] = 2 * (ranks * counts).groupby(level=0).sum() / (n * total) - (n + 1) / n


def hours_to_order(events):
    """From the first event of another kind after an order to the next order's first purchase."""
    is_purchase = events.kind == "purchase"
    later_lines = is_purchase & events[is_purchase].duplicated(["customer", "order"]).reindex(events.index, fill_value=False)
    events = events[~later_lines]
    is_purchase = events.kind == "purchase"
    # A stretch ends with a purchase; what comes after it begins another one.
    stretch = is_purchase.groupby(events.customer).transform(lambda it: it.shift(fill_value=False).cumsum())
    keys = [events.customer, stretch]
    browsed = events.time.where(~is_purchase).groupby(keys).min()
    bought = events.time.where(is_purchase).groupby(keys).max()
    hours = ((bought - browsed) / pd.Timedelta(hours=1)).dropna()
    return hours.groupby(level=0).median()


def features_of(events, as_of, gap=pd.Timedelta(minutes=30)):
    """One row a customer. Events need customer, time, kind, order, amount and item; those from `as_of` on do not count."""
    as_of = pd.Timestamp(as_of)
    # What happened at the same time is in the order of its kind.
    events = events[events.time < as_of].assign(rank=events.kind.map({kind: rank for rank, kind in enumerate(ORDER)}))
    events = events.sort_values(["customer", "time", "rank"], kind="stable").reset_index(drop=True)
    by = events.groupby("customer")
    day = events.time.dt.floor("D")
    features = {}
    bought = events[events.kind == "purchase"].groupby("customer").time.max()
    features["recency"] = (as_of - bought) // DAY
    gaps, orders = of_orders(events, features)
    features["hours_to_order"] = hours_to_order(events)
    features["n_events"] = by.size()
    features["days_since_active"] = (as_of - by.time.max()) // DAY
    features["tenure_days"] = (as_of - by.time.min()) // DAY
    features["active_days"] = day.groupby(events.customer).nunique()
    for n in (7, 28):
        features[f"active_days_{n}"] = day[day >= as_of - n * DAY].groupby(events.customer).nunique()
    session = of_sessions(events, as_of, gap, features)
    of_items(events, features)
    half_lives = (as_of - events.time) / DAY / HALF_LIFE
    features["engagement"] = (events.kind.map(WEIGHTS).fillna(1.0) * 0.5**half_lives).groupby(events.customer).sum()
    calls = events.kind == "support"
    features["support_contacts"] = calls.groupby(events.customer).sum()
    features["support_contacts_90"] = (calls & (events.time >= as_of - 90 * DAY)).groupby(events.customer).sum()
    features["support_share"] = features["support_contacts"] / by.size()
    table = pd.DataFrame({name: values.astype(float) for name, values in features.items()}, index=by.size().index)
    for name in ("frequency", "monetary", "items", "active_days_7", "active_days_28"):
        table[name] = table[name].fillna(0.0)
    table["recency_score"] = scores(table.recency, [5, 4, 3, 2, 1])
    table["frequency_score"] = scores(table.frequency.where(table.recency.notna()), [1, 2, 3, 4, 5])
    table["monetary_score"] = scores(table.monetary.where(table.recency.notna()), [1, 2, 3, 4, 5])
    return table, gaps, orders, session


def scores(values, labels):
    """pandas' quintiles; where edges coincide, by the number of edges below."""
    try:
        return pd.qcut(values, 5, labels=labels).astype(float)
    except ValueError:
        edges = values.quantile([0.2, 0.4, 0.6, 0.8]).to_numpy()
        below = (values.to_numpy()[:, None] > edges).sum(axis=1)
        return pd.Series(np.array(labels, float)[below], values.index).where(values.notna())


def golden(table, n_head=5, **figures):
    """What tests compare: every column's number of missing values, mean and standard deviation, and the first rows."""
    columns = {
        name: {"n_missing": int(values.isna().sum()), "mean": values.mean(), "deviation": values.std(ddof=0)}
        for name, values in table.items()
    }
    head = json.loads(table.head(n_head).to_json(orient="index", double_precision=15))
    return {"n_customers": len(table), "columns": columns, "head": head, **figures}


def write(path, document):
    text = json.dumps(document, indent=1, allow_nan=True).replace("NaN", "null")
    (HERE / path).write_text(text + "\n")


def complete_journey():
    lines = pd.read_parquet(HERE / "complete_journey" / "transactions.parquet")
    names = {"household_id": "customer", "transaction_timestamp": "time", "basket_id": "order", "sales_value": "amount"}
    events = lines.rename(columns=names | {"product_id": "item"}).assign(kind="purchase")
    table, gaps, orders, _ = features_of(events, "2018-01-02")
    figures = {
        "order_gap_days_of_all": [gaps.median(), gaps.mean(), gaps.quantile(0.95)],
        "order_value_of_all": [orders.amount.median(), orders.amount.mean(), orders.amount.quantile(0.99)],
    }
    return golden(table, **figures)


KINDS = {
    "home": "page_view", "catalog": "page_view", "product_view": "page_view", "promo_page": "page_view", "cart": "page_view",
    "add_to_cart": "cart", "search": "click", "purchase": "purchase", "support_chat": "support",
}


def ecom():
    rows = pd.read_parquet(HERE / "ecom" / "ecom.parquet")
    events = pd.DataFrame({"customer": rows.user_id, "time": rows.timestamp, "kind": rows.event.map(KINDS).fillna("other")})
    events["item"] = rows.event
    # Without a column for them every purchase is an order, of no amount.
    events["order"], events["amount"] = range(len(rows)), 0.0
    table, _, _, session = features_of(events, "2024-07-01")
    given = rows.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True).session_id
    pairs = pd.DataFrame({"given": given, "found": session}).drop_duplicates()
    assert len(pairs) == pairs.given.nunique() == pairs.found.nunique(), "the given sessions are those of 30 minutes"
    unpaid = [name for name in table if "order_value" in name or "monetary" in name]
    table = table.drop(columns=unpaid + ["recency_score", "frequency_score"])
    return golden(table, n_sessions=int(session.nunique()), n_identical=int(rows.drop(columns="row").duplicated().sum()))


def funnel(rows, steps):
    """Sessions that took the steps in their order, other things in between allowed."""
    def reached(events):
        rest = iter(events)
        return sum(1 for _ in itertools.takewhile(lambda step: step in rest, steps))

    depth = rows.groupby("session_id").event.agg(reached)
    return [int((depth > step).sum()) for step in range(len(steps))]


def journeys():
    """What follows what within the given sessions, and an absorbing chain solved by numpy."""
    rows = pd.read_parquet(HERE / "ecom" / "ecom.parquet")
    rows = rows.sort_values(["user_id", "timestamp", "row"])
    following = rows.groupby("session_id").event.shift(-1)
    steps = pd.DataFrame({"source": rows.event, "target": following.fillna("END")})
    begins = rows.groupby("session_id").event.first()
    names = sorted(rows.event.unique())
    counts = pd.crosstab(steps.source, steps.target).reindex(index=names, columns=[*names, "END"], fill_value=0)
    chain = counts.div(counts.sum(axis=1), axis=0)
    first = begins.value_counts(normalize=True).reindex(names, fill_value=0.0).to_numpy()
    target = names.index("purchase")

    def reaches(removed=None):
        q = chain[names].to_numpy().copy()
        hit = q[:, target].copy()
        q[:, target] = 0.0
        if removed is not None:
            q[:, removed] = 0.0
            if removed == target:
                hit[:] = 0.0
        solved = np.linalg.solve(np.eye(len(names)) - q, hit)
        solved[target] = 1.0 if removed != target else 0.0
        start = first.copy()
        if removed is not None:
            start[removed] = 0.0
        return solved, float(start @ solved)

    solved, all_together = reaches()
    steps_left = np.linalg.solve(np.eye(len(names)) - chain[names].to_numpy(), np.ones(len(names)))
    return {
        "counts": {name: {to: int(n) for to, n in row.items() if n} for name, row in counts.iterrows()},
        "reaches_purchase": dict(zip(names, solved)),
        "from_the_beginning": all_together,
        "expected_steps": dict(zip(names, steps_left)),
        "removal_effect": {name: 1 - reaches(idx)[1] / all_together for idx, name in enumerate(names)},
        "funnel": funnel(rows, ["product_view", "add_to_cart", "purchase"]),
        "P(cart -> shipping_details)": chain.loc["cart", "shipping_details"],
        "P(product_view -> catalog)": chain.loc["product_view", "catalog"],
        "P(product_view -> END)": chain.loc["product_view", "END"],
    }


def cdnow():
    rows = pd.read_parquet(HERE / "cdnow" / "cdnow.parquet")
    events = pd.DataFrame({"customer": rows.customer_id, "time": rows.date.astype("datetime64[us]"), "kind": "purchase"})
    events["order"], events["amount"], events["item"] = range(len(rows)), rows.dollar_value, None
    table, *_ = features_of(events, "1998-07-01")
    table = table.drop(columns=["items", "item_entropy", "item_gini"])
    return golden(table, n_identical=int(rows.duplicated().sum()))


if __name__ == "__main__":
    write("complete_journey/features.json", complete_journey())
    write("ecom/golden.json", ecom())
    write("ecom/journeys.json", journeys())
    write("cdnow/golden.json", cdnow())

//! Tables for people.

use serde_json::Value;

/// What the machine can do.
pub(crate) fn limits(limits: &Value) -> String {
    format!(
        "{}, {}: {:.0} GFLOP/s, reads {:.0} GB/s from 64 MB and {:.0} GB/s from 640 MB\n",
        limits["processor"].as_str().unwrap_or("?"),
        limits["device"].as_str().unwrap_or("?"),
        number(&limits["peak_gflops"]),
        number(&limits["read_gb_per_s"]["64_mb"]),
        number(&limits["read_gb_per_s"]["640_mb"]),
    )
}

/// One task on one shape.
pub(crate) fn render(measurement: &Value, limits: &Value) -> String {
    let mut text = format!(
        "{} {}: {} rows, {} features, {} clusters\n",
        measurement["shape"].as_str().unwrap_or("?"),
        measurement["task"].as_str().unwrap_or("?"),
        measurement["n_samples"],
        measurement["n_features"],
        measurement["n_clusters"],
    );
    let head = |names: &[&str]| {
        format!("  {:<18}{}\n", "", names.iter().map(|name| format!("{name:>14}")).collect::<String>())
    };
    let is_fit = measurement["task"] == "fit";
    text += &match is_fit {
        true => head(&["ms/pass", "marginal ms", "passes", "ours x", "marginal x", "peak/data"]),
        false => head(&["seconds", "answer", "passes", "ours x", "", "peak/data"]),
    };
    let ours = &measurement["ours"];
    text += &row("shoal", ours, ours, measurement);
    for peer in measurement["peers"].as_array().into_iter().flatten() {
        let label = peer["label"].as_str().unwrap_or("?");
        text += &match peer["failed"].as_str() {
            Some(reason) => format!("  {label:<18}could not run: {reason}\n"),
            None => row(label, peer, ours, measurement),
        };
    }
    text + &foot(measurement, limits)
}

fn row(label: &str, document: &Value, ours: &Value, measurement: &Value) -> String {
    let peak = number(&document["peak_rss_bytes"]) / number(&measurement["data_bytes"]);
    let ratio = |key: &str| number(&document[key]) / number(&ours[key]);
    let cells = match measurement["task"].as_str() {
        Some("fit") => vec![
            format!("{:.2}", number(&document["whole_ms_per_pass"])),
            format!("{:.2}", number(&document["marginal_ms_per_pass"])),
            document["n_iter"].to_string(),
            format!("{:.1}", ratio("whole_ms_per_pass")),
            format!("{:.1}", ratio("marginal_ms_per_pass")),
            format!("{peak:.2}"),
        ],
        _ => vec![
            format!("{:.3}", seconds(document)),
            format!("{:.6e}", number(&document[if document["score"].is_number() { "score" } else { "inertia" }])),
            document.get("n_iter").map_or_else(String::new, Value::to_string),
            format!("{:.1}", seconds(document) / seconds(ours)),
            String::new(),
            format!("{peak:.2}"),
        ],
    };
    format!("  {label:<18}{}\n", cells.iter().map(|cell| format!("{cell:>14}")).collect::<String>())
}

/// Ours against what the machine can do.
fn foot(measurement: &Value, limits: &Value) -> String {
    let ours = &measurement["ours"];
    if measurement["task"] == "silhouette" {
        let n = number(&measurement["n_samples"]);
        return format!("  {:.2} billion pairs a second\n", n * n / 2.0 / seconds(ours) / 1e9);
    }
    if measurement["task"] != "fit" {
        return String::new();
    }
    let unrelated = number(&ours["unrelated_ms_per_pass"]) / 1e3;
    let flops = number(&measurement["flops_per_pass"]) / unrelated / 1e9;
    let bytes = number(&measurement["data_bytes"]) / unrelated / 1e9;
    let key = if number(&measurement["data_bytes"]) < 200e6 { "64_mb" } else { "640_mb" };
    format!(
        "  every row scored: {:.2} ms, {flops:.0} GFLOP/s ({:.0} % of the peak), {bytes:.1} GB/s ({:.0} % of the reads)\n",
        1e3 * unrelated,
        100.0 * flops / number(&limits["peak_gflops"]),
        100.0 * bytes / number(&limits["read_gb_per_s"][key]),
    )
}

/// The median of one or several times.
fn seconds(document: &Value) -> f64 {
    let mut times: Vec<f64> = match document["seconds"].as_array() {
        Some(times) => times.iter().map(number).collect(),
        None => vec![number(&document["seconds"])],
    };
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

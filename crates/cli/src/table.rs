//! The report as text that a marketer can read.

use shoal_domain::Report;
use shoal_domain::job::Silhouette;
use shoal_domain::model::{Apart, Segment};
use shoal_domain::report::Timing;
use std::fmt::Write;

/// A feature whose segment mean is less than this many standard deviations from everybody's is not worth a word.
const WORTH_A_WORD: f64 = 0.25;

/// Features and phrases that a line has room for.
const FEATURES_SHOWN: usize = 8;
const PHRASES_SHOWN: usize = 5;

/// Renders the report.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    headline(&mut text, report);
    text.push('\n');
    segment_table(&mut text, report);
    text.push('\n');
    for segment in by_size(report) {
        let _ = writeln!(text, "  segment {}: {}", segment.label, what_sets_apart(segment));
    }
    text.push('\n');
    scores(&mut text, report);
    for warning in &report.warnings {
        let _ = writeln!(text, "note: {warning}");
    }
    text
}

fn headline(text: &mut String, report: &Report) {
    let customers = grouped(report.n_samples);
    let rest = if report.converged { "at rest" } else { "not at rest" };
    let _ = writeln!(
        text,
        "{customers} customers in {} segments by {} ({} passes, {rest}; {} {})",
        report.n_clusters,
        report.features.join(", "),
        report.n_iter,
        report.ran_on.mode,
        devices(&report.ran_on.devices),
    );
}

/// `cpu (avx512, 2 threads)`, or `3 x cpu (avx512, 1 threads)` for workers that are alike.
fn devices(names: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for device in names {
        match counted.iter_mut().find(|(name, _)| name == device) {
            Some((_, n)) => *n += 1,
            None => counted.push((device, 1)),
        }
    }
    let texts = counted.into_iter().map(|(name, n)| if n == 1 { name.to_owned() } else { format!("{n} x {name}") });
    texts.collect::<Vec<_>>().join(" + ")
}

fn by_size(report: &Report) -> Vec<&Segment> {
    let mut segments: Vec<&Segment> = report.segments.iter().collect();
    segments.sort_by_key(|segment| (std::cmp::Reverse(segment.size), segment.label));
    segments
}

fn segment_table(text: &mut String, report: &Report) {
    let mut header = vec!["segment".to_owned(), "customers".to_owned(), "share".to_owned()];
    let columns = shown_columns(report);
    header.extend(columns.iter().map(|column| format!("mean {}", report.features[*column])));
    header.push("silhouette".to_owned());
    let mut rows = vec![header];
    for segment in by_size(report) {
        let share = format!("{:.1} %", segment.share * 100.0);
        let mut row = vec![segment.label.to_string(), grouped(segment.size), share];
        let means = columns.iter().map(|column| match segment.mean.get(*column) {
            Some(mean) => number(*mean, largest_mean(report, *column)),
            None => "-".to_owned(),
        });
        row.extend(means);
        row.push(segment.silhouette.map_or("-".to_owned(), |silhouette| format!("{silhouette:.3}")));
        rows.push(row);
    }
    aligned(text, &rows);
    let n_hidden = report.n_features - columns.len();
    if n_hidden > 0 {
        let _ = writeln!(
            text,
            "  the means of {n_hidden} more features, which set the segments less apart, are in the report"
        );
    }
}

/// The columns that set segments apart most, in their order.
fn shown_columns(report: &Report) -> Vec<usize> {
    let furthest = |column: &usize| {
        let apart = report.segments.iter().flat_map(|segment| &segment.apart);
        let of_column = apart.filter(|apart| apart.feature == report.features[*column]);
        of_column.fold(0.0, |furthest: f64, apart| furthest.max(apart.z.abs()))
    };
    let mut columns: Vec<(f64, usize)> = (0..report.n_features).map(|column| (furthest(&column), column)).collect();
    columns.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let mut columns: Vec<usize> = columns.into_iter().take(FEATURES_SHOWN).map(|(_, column)| column).collect();
    columns.sort_unstable();
    columns
}

/// Writes rows of equally many cells, texts of which the last may be long.
pub(crate) fn aligned_left(text: &mut String, rows: &[Vec<String>]) {
    let widths = widths(rows);
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    (0..rows[0].len()).map(widest).collect()
}

/// Writes rows of equally many cells, numbers, each column as wide as its widest cell.
pub(crate) fn aligned(text: &mut String, rows: &[Vec<String>]) {
    let widths = widths(rows);
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  "));
    }
}

/// "monetary 2.9x the average (+2.4 sd), recency 0.2x (-0.4 sd)".
fn what_sets_apart(segment: &Segment) -> String {
    if segment.size == 0 {
        return "empty".to_owned();
    }
    let phrase = |apart: &Apart| {
        let deviations = format!("{:+.1} sd", apart.z);
        match apart.ratio {
            Some(ratio) => format!("{} {ratio:.2}x the average ({deviations})", apart.feature),
            None => format!("{} {deviations} from the average", apart.feature),
        }
    };
    let worth_a_word = segment.apart.iter().filter(|apart| apart.z.abs() >= WORTH_A_WORD);
    let mut told: Vec<String> = worth_a_word.clone().take(PHRASES_SHOWN).map(phrase).collect();
    let n_more = worth_a_word.count() - told.len();
    if n_more > 0 {
        told.push(format!("and {n_more} more"));
    }
    if told.is_empty() { "close to the average in every feature".to_owned() } else { told.join(", ") }
}

fn scores(text: &mut String, report: &Report) {
    let scores = &report.scores;
    let mut parts = Vec::new();
    if let (Some(silhouette), Some(mode)) = (scores.silhouette, scores.silhouette_mode) {
        parts.push(match (mode, scores.silhouette_standard_error, scores.silhouette_rows) {
            (Silhouette::Sampled, Some(error), Some(n_rows)) => {
                format!("silhouette {silhouette:.4} +- {error:.4} (standard error, {} rows sampled)", grouped(n_rows))
            }
            (Silhouette::Simplified, ..) => format!("silhouette {silhouette:.4} (simplified: rows against centroids)"),
            _ => format!("silhouette {silhouette:.4} (exact)"),
        });
    }
    parts.extend(scores.davies_bouldin.map(|score| format!("Davies-Bouldin {score:.4}")));
    parts.extend(scores.calinski_harabasz.map(|score| format!("Calinski-Harabasz {score:.1}")));
    parts.push(format!("inertia {:.4}", report.inertia));
    let _ = writeln!(text, "{}", parts.join(", "));
    text.push_str(&seconds_of_phases(&report.timings));
}

/// A line that says where the time went.
pub(crate) fn seconds_of_phases(timings: &[Timing]) -> String {
    let Some(total) = timings.iter().find(|timing| timing.phase == "total") else {
        return String::new();
    };
    let shown = timings.iter().filter(|timing| timing.phase != "total" && timing.seconds >= 0.01);
    let parts: Vec<String> = shown.map(|timing| format!("{} {:.2}", timing.phase, timing.seconds)).collect();
    format!("{:.2} s: {}\n", total.seconds, parts.join(", "))
}

/// "1 row", "2 rows".
pub(crate) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// 1,469,307.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The largest mean of a column, which decides how many digits all of them get.
fn largest_mean(report: &Report, column: usize) -> f64 {
    let means = report.segments.iter().filter_map(|segment| segment.mean.get(column));
    means.fold(0.0, |largest, mean| mean.abs().max(largest))
}

/// A number with about four digits for the largest of its column.
pub(crate) fn number(value: f64, largest: f64) -> String {
    match largest {
        // Beyond what anybody counts by digits.
        size if size >= 1e15 => format!("{value:.3e}"),
        size if size >= 1000.0 => {
            let sign = if value <= -0.5 { "-" } else { "" };
            format!("{sign}{}", grouped(value.abs().round() as u64))
        }
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

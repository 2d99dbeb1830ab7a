//! A sweep as a table: a line a number of clusters, the best score of each kind marked.

use crate::table::{aligned, grouped, seconds_of_phases};
use shoal_domain::Sweep;
use shoal_domain::report::Timing;
use shoal_domain::sweep::SweptFit;
use std::fmt::Write;

/// Renders the sweep.
pub(crate) fn render(sweep: &Sweep, device: &str, timings: &[Timing]) -> String {
    let mut text = String::new();
    let (customers, features) = (grouped(sweep.n_samples), sweep.features.join(", "));
    let _ = writeln!(text, "{customers} customers by {features} (local {device})\n");
    let scores = [silhouettes(sweep), davies_bouldins(sweep), calinski_harabaszs(sweep)];
    let mut header = vec!["clusters".to_owned(), "inertia".to_owned()];
    header.extend(scores.iter().map(|score| score.name.to_owned()));
    header.extend(["smallest", "largest", "passes"].map(str::to_owned));
    let mut rows = vec![header];
    for (idx, fit) in sweep.fits.iter().enumerate() {
        let mut row = vec![fit.n_clusters.to_string(), format!("{:.4}", fit.inertia)];
        row.extend(scores.iter().map(|score| score.cell(idx)));
        let share = |size: Option<&u64>| match size {
            Some(size) => format!("{:.1} %", *size as f64 / sweep.n_samples as f64 * 100.0),
            None => "-".to_owned(),
        };
        row.extend([share(fit.sizes.iter().min()), share(fit.sizes.iter().max()), fit.n_iter.to_string()]);
        rows.push(row);
    }
    aligned(&mut text, &rows);
    let _ = writeln!(
        text,
        "\n* the best of its column. Inertia falls with every cluster; the scores say how compact and apart the"
    );
    let _ = writeln!(text, "  clusters are in these features, not whether they are of use.");
    for fit in &sweep.fits {
        for warning in &fit.warnings {
            let _ = writeln!(text, "note on {} clusters: {warning}", fit.n_clusters);
        }
    }
    text.push_str(&seconds_of_phases(timings));
    text
}

/// One kind of score, for each number of clusters.
struct Column {
    name: &'static str,
    n_digits: usize,
    values: Vec<Option<f64>>,
    best: Option<usize>,
}

impl Column {
    /// `sense` is 1 where more is better and -1 where less is.
    fn new(name: &'static str, n_digits: usize, sense: f64, values: Vec<Option<f64>>) -> Self {
        let known = values.iter().enumerate().filter_map(|(idx, value)| Some((idx, (*value)? * sense)));
        // The first one on ties: fewer clusters.
        let best = known.reduce(|best, other| if other.1 > best.1 { other } else { best }).map(|(idx, _)| idx);
        Self { name, n_digits, values, best }
    }

    fn cell(&self, idx: usize) -> String {
        let mark = if self.best == Some(idx) { '*' } else { ' ' };
        match self.values[idx] {
            Some(value) => format!("{value:.*}{mark}", self.n_digits),
            None => "- ".to_owned(),
        }
    }
}

fn silhouettes(sweep: &Sweep) -> Column {
    Column::new("silhouette", 4, 1.0, of_each(sweep, |fit| fit.scores.silhouette))
}

fn davies_bouldins(sweep: &Sweep) -> Column {
    Column::new("Davies-Bouldin", 4, -1.0, of_each(sweep, |fit| fit.scores.davies_bouldin))
}

fn calinski_harabaszs(sweep: &Sweep) -> Column {
    Column::new("Calinski-Harabasz", 1, 1.0, of_each(sweep, |fit| fit.scores.calinski_harabasz))
}

fn of_each(sweep: &Sweep, value: impl Fn(&SweptFit) -> Option<f64>) -> Vec<Option<f64>> {
    sweep.fits.iter().map(value).collect()
}

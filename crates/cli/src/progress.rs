//! What a run shows while it works, and the clock that says where time went.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shoal_clustering::{Event, Observer, PassRecord, Phase};
use shoal_domain::report::{PhaseTimes, Timing};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(120);

/// A line on a terminal; nothing at all where stderr is a file or a pipe.
#[derive(Clone)]
pub(crate) struct ProgressLine {
    bar: ProgressBar,
}

impl ProgressLine {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template("{spinner} {prefix} {msg}").expect("a valid template"));
        if std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// Begins a phase whose length is not known, or is `total` steps.
    pub(crate) fn begin(&self, name: &str, total: Option<u64>) {
        let template = match total {
            Some(_) => "{spinner} {prefix} {bar:24} {human_pos}/{human_len} rows, {eta} left {msg}",
            None => "{spinner} {prefix} {msg} ({elapsed})",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are valid");
        self.bar.reset();
        self.bar.set_style(style);
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
        self.bar.set_length(total.unwrap_or(0));
    }

    /// Counts rows that were read or scored.
    pub(crate) fn rows(&self, n_rows: u64) {
        self.bar.inc(n_rows);
        if self.bar.length().unwrap_or(0) == 0 {
            self.bar.set_message(format!("{} rows", self.bar.position()));
        }
    }

    pub(crate) fn pass(&self, record: &PassRecord) {
        let PassRecord { start, n_iter, inertia, shift, n_active } = record;
        let (start, shift) = (start + 1, format!("{shift:.3e}"));
        self.note(&format!("pass {n_iter} of start {start}: inertia {inertia:.3}, shift {shift}, {n_active} running"));
    }

    /// Whether there is a terminal to show anything on.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows a few words.
    pub(crate) fn note(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// So many rows have their silhouette.
    pub(crate) fn silhouette(&self, n_done: u64, n_rows: u64) {
        if self.bar.length() != Some(n_rows) {
            self.begin("silhouette", Some(n_rows));
        }
        self.bar.set_position(n_done);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Shows events and takes the time of each phase.
pub(crate) struct RunObserver {
    line: ProgressLine,
    opened: Instant,
    times: PhaseTimes,
    n_rows: Option<u64>,
}

impl RunObserver {
    /// `opened` is when the work began, before the first phase.
    pub(crate) fn new(line: ProgressLine, opened: Instant) -> Self {
        let mut times = PhaseTimes::default();
        times.begin("open", Duration::ZERO);
        Self { line, opened, times, n_rows: None }
    }

    /// Begins a phase that is not the algorithm's.
    pub(crate) fn phase(&mut self, name: &str, total: Option<u64>) {
        self.times.begin(name, self.opened.elapsed());
        self.line.begin(name, total);
    }

    /// Seconds of each phase, `total` last.
    pub(crate) fn timings(&self) -> Vec<Timing> {
        self.times.timings(self.opened.elapsed())
    }
}

impl Observer for RunObserver {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Phase(phase) => {
                if phase == Phase::Prepare {
                    self.n_rows = Some(self.line.bar.position());
                }
                let total = self.n_rows.filter(|_| matches!(phase, Phase::Prepare | Phase::Describe));
                self.phase(phase.name(), total);
            }
            Event::Seeding => {}
            Event::Pass(record) => self.line.pass(&record),
            Event::Silhouette { n_done, n_rows } => {
                self.line.silhouette(n_done, n_rows);
            }
        }
        ControlFlow::Continue(())
    }
}

//! What a client shows of a job that it follows.

use crate::progress::ProgressLine;
use shoal_wire::proto::{JobEvent, JobState, Pass, job_event};

/// Shows events on the progress line, or as lines of text where stderr is not a terminal: a log is made of lines, one a pass
/// of all starts.
pub(crate) struct Followed {
    line: ProgressLine,
    /// The pass that the starts are at.
    round: Option<Round>,
    /// The lowest inertia of any start in any pass.
    best_inertia: f64,
}

struct Round {
    n_iter: u64,
    n_starts: usize,
}

impl Followed {
    pub(crate) fn on(line: ProgressLine) -> Self {
        Self { line, round: None, best_inertia: f64::INFINITY }
    }

    pub(crate) fn show(&mut self, event: &JobEvent) {
        match &event.event {
            Some(job_event::Event::Pass(pass)) if self.line.is_shown() => self.line.pass(&(*pass).into()),
            Some(job_event::Event::Pass(pass)) => self.pass(pass),
            Some(job_event::Event::Silhouette(silhouette)) => {
                self.line.silhouette(silhouette.n_done, silhouette.n_rows);
            }
            Some(job_event::Event::State(state)) => {
                let name = JobState::try_from(*state).unwrap_or_default().as_str_name();
                self.tell(&format!("state {}", name.trim_start_matches("JOB_STATE_").to_lowercase()));
            }
            Some(job_event::Event::Phase(phase)) => self.tell(&format!("phase {phase}")),
            None => {}
        }
    }

    /// Counts a pass of one start; when the first one makes its next pass, all have made the last.
    fn pass(&mut self, pass: &Pass) {
        match &mut self.round {
            Some(round) if round.n_iter == pass.n_iter => round.n_starts += 1,
            _ => {
                self.end_round();
                self.round = Some(Round { n_iter: pass.n_iter, n_starts: 1 });
            }
        }
        self.best_inertia = self.best_inertia.min(pass.inertia);
    }

    fn end_round(&mut self) {
        if let Some(Round { n_iter, n_starts }) = self.round.take() {
            let starts = if n_starts == 1 { "1 start".to_owned() } else { format!("{n_starts} starts") };
            eprintln!("pass {n_iter} of {starts}: best inertia so far {:.6}", self.best_inertia);
        }
    }

    fn tell(&mut self, text: &str) {
        self.end_round();
        match self.line.is_shown() {
            true => self.line.note(text),
            false => eprintln!("{text}"),
        }
    }
}

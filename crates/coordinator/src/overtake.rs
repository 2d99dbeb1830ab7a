//! Who is slow at a question.

use crate::holder::Holder;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A holder is slow when it takes so many times as long for a block as the slower half of those that were fast, ..
const SLOWER: f64 = 3.0;
/// .. and so much longer in all. Sending its blocks to others takes time, too.
const LONGER: Duration = Duration::from_secs(2);

/// How fast the holders that were asked the same have answered.
pub(crate) struct Pace {
    began: Instant,
    n_asked: usize,
    seconds_per_block: watch::Sender<Vec<f64>>,
}

impl Pace {
    pub(crate) fn of(n_asked: usize) -> Self {
        Self { began: Instant::now(), n_asked, seconds_per_block: watch::Sender::default() }
    }

    pub(crate) fn has_answered(&self, holder: &Holder) {
        let seconds = self.began.elapsed().as_secs_f64() / holder.blocks.len().max(1) as f64;
        self.seconds_per_block.send_modify(|all| all.push(seconds));
    }

    /// Returns when half of the holders have answered and this one has taken too long in comparison; never when it is the
    /// only one.
    pub(crate) async fn until_slow(&self, holder: &Holder) {
        let mut answered = self.seconds_per_block.subscribe();
        let half = answered.wait_for(|all| !all.is_empty() && all.len() * 2 >= self.n_asked).await;
        // An error would mean that the sender is dropped, which `self` prevents.
        let of_half = half.map_or(f64::INFINITY, |all| all.iter().copied().fold(0.0, f64::max));
        let allowed = Duration::try_from_secs_f64(SLOWER * of_half * holder.blocks.len() as f64);
        match allowed.ok().and_then(|allowed| self.began.checked_add(allowed + LONGER)) {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

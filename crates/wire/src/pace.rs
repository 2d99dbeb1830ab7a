//! Who is slow at a question.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A worker is slow when it takes so many times as long for a block as the slower half of those that were fast, ..
const SLOWER: f64 = 3.0;
/// .. and so much longer in all. Sending its blocks to others takes time, too.
const LONGER: Duration = Duration::from_secs(2);

/// How fast those that were asked the same have answered.
pub struct Pace {
    began: Instant,
    n_asked: usize,
    seconds_per_block: Mutex<Vec<f64>>,
    /// The slowest of the first half, once they have answered: told once, since many may wait for it.
    of_half: watch::Sender<Option<f64>>,
}

impl Pace {
    /// Of so many, who are asked from now on.
    pub fn of(n_asked: usize) -> Self {
        Self { began: Instant::now(), n_asked, seconds_per_block: Mutex::default(), of_half: watch::Sender::default() }
    }

    /// From now on and of so many, who are asked because they have not answered with the others: what these took still counts.
    pub fn of_rest(&self, n_asked: usize) -> Self {
        Self { of_half: watch::Sender::new(*self.of_half.borrow()), ..Self::of(n_asked) }
    }

    /// One has answered, who was asked about so many blocks.
    pub fn has_answered(&self, n_blocks: usize) {
        let seconds = self.began.elapsed().as_secs_f64() / n_blocks.max(1) as f64;
        let mut all = self.seconds_per_block.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(seconds);
        if all.len() == self.n_asked.div_ceil(2) && self.of_half.borrow().is_none() {
            self.of_half.send_replace(all.iter().copied().reduce(f64::max));
        }
    }

    /// Returns when half of them have answered and one who was asked about so many blocks has taken too long in comparison;
    /// never when it is the only one.
    pub async fn until_slow(&self, n_blocks: usize) {
        let mut of_half = self.of_half.subscribe();
        // An error would mean that the sender is dropped, which `self` prevents.
        let of_half = of_half.wait_for(Option::is_some).await.ok().and_then(|of_half| *of_half);
        let allowed = SLOWER * of_half.unwrap_or(f64::INFINITY) * n_blocks.max(1) as f64;
        let allowed = Duration::try_from_secs_f64(allowed).ok();
        match allowed.and_then(|allowed| self.began.checked_add(allowed + LONGER)) {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

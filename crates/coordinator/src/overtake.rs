//! Who is slow at a question.

use crate::holder::Holder;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A holder is slow when it takes so many times as long for a block as the slower half of those that were fast, ..
const SLOWER: f64 = 3.0;
/// .. and so much longer in all. Sending its blocks to others takes time, too.
const LONGER: Duration = Duration::from_secs(2);

/// How fast the holders that were asked the same have answered.
///
/// A worker may be several holders, and answers for one after the other: what it takes for each is by all blocks that it was
/// asked about.
pub(crate) struct Pace {
    began: Instant,
    n_asked: usize,
    blocks_of_worker: HashMap<String, usize>,
    seconds_per_block: Mutex<Vec<f64>>,
    /// The slowest of the first half, once they have answered: told once, since many may wait for it.
    of_half: watch::Sender<Option<f64>>,
}

impl Pace {
    pub(crate) fn of(asked: &[Arc<Holder>]) -> Self {
        let mut blocks_of_worker: HashMap<String, usize> = HashMap::new();
        for holder in asked {
            *blocks_of_worker.entry(holder.member.id.clone()).or_default() += holder.blocks.len();
        }
        let (seconds_per_block, of_half) = (Mutex::default(), watch::Sender::default());
        Self { began: Instant::now(), n_asked: asked.len(), blocks_of_worker, seconds_per_block, of_half }
    }

    fn n_blocks(&self, holder: &Holder) -> f64 {
        let n_blocks = self.blocks_of_worker.get(&holder.member.id).copied();
        n_blocks.unwrap_or(holder.blocks.len()).max(1) as f64
    }

    pub(crate) fn has_answered(&self, holder: &Holder) {
        let seconds = self.began.elapsed().as_secs_f64() / self.n_blocks(holder);
        let mut all = self.seconds_per_block.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(seconds);
        if all.len() == self.n_asked.div_ceil(2) {
            self.of_half.send_replace(all.iter().copied().reduce(f64::max));
        }
    }

    /// Returns when half of the holders have answered and this one has taken too long in comparison; never when it is the
    /// only one.
    pub(crate) async fn until_slow(&self, holder: &Holder) {
        let mut of_half = self.of_half.subscribe();
        // An error would mean that the sender is dropped, which `self` prevents.
        let of_half = of_half.wait_for(Option::is_some).await.ok().and_then(|of_half| *of_half);
        let allowed = SLOWER * of_half.unwrap_or(f64::INFINITY) * self.n_blocks(holder);
        let allowed = Duration::try_from_secs_f64(allowed).ok();
        match allowed.and_then(|allowed| self.began.checked_add(allowed + LONGER)) {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

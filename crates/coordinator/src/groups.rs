//! Asking many holders through a few of them, which ask the others and merge what these say.
//!
//! A call costs the coordinator a fifth of a millisecond, whatever it carries, so from some dozens of workers on a pass would
//! wait for its coordinator. Answers merge exactly, so it does not show who has merged them. Nothing depends on it: whoever has
//! not answered through another one is asked by the coordinator itself.

use crate::holder::{Call, Holder, HolderKey};
use futures::future::select_all;
use shoal_wire::limits::QUESTION_TIMEOUT;
use shoal_wire::pace::Pace;
use shoal_wire::status::one_line;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// How many holders are asked through one of them. No more than these are all asked by the coordinator.
pub(crate) const GROUP: usize = 32;

/// One who waits for slow workers answers without them; so much longer is waited for that.
const LONGER_THAN_ITS_OWN_PATIENCE: Duration = Duration::from_secs(1);

/// An answer, with those whose blocks it is about.
pub(crate) struct Answer<A> {
    /// Who gave it.
    pub(crate) by: Arc<Holder>,
    /// Others whose answers are merged into it.
    pub(crate) of: Vec<Arc<Holder>>,
    pub(crate) answer: A,
}

impl<A> Answer<A> {
    /// What a holder says about its own blocks.
    pub(crate) fn own(by: Arc<Holder>, answer: A) -> Self {
        Self { by, of: Vec::new(), answer }
    }

    /// All holders whose blocks it is about.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Arc<Holder>> {
        std::iter::once(&self.by).chain(&self.of)
    }

    /// Whether all of them still hold their blocks.
    pub(crate) fn stands(&self, held: &BTreeSet<HolderKey>) -> bool {
        self.holders().all(|holder| held.contains(&holder.key()))
    }
}

/// What one says for a group: its answer, and the places of those others that it does not speak for.
pub(crate) type Merged<A> = (A, Vec<u32>);

/// Asks the first of some holders for all of them.
pub(crate) type AskGroup<'a, A> = &'a dyn Fn(&[Arc<Holder>]) -> Call<'static, Merged<A>>;

/// Asks holders in groups, and returns what has come of it. `pace` is that of the groups.
pub(crate) async fn ask_groups<A>(holders: &[Arc<Holder>], ask: AskGroup<'_, A>) -> (Vec<Answer<A>>, Pace) {
    let n_groups = holders.len().div_ceil(GROUP).max(1);
    let groups = holders.chunks(holders.len().div_ceil(n_groups).max(1));
    let pace = Pace::of(groups.len());
    let answers = futures::future::join_all(groups.map(|group| ask_group(group, ask, &pace))).await;
    (answers.into_iter().flatten().collect(), pace)
}

/// None where one of the group is lost, or its answer does not come: then it is not known who is to blame.
async fn ask_group<A>(group: &[Arc<Holder>], ask: AskGroup<'_, A>, pace: &Pace) -> Option<Answer<A>> {
    let (by, others) = group.split_first()?;
    // They work at the same time, and the one with the most blocks is waited for.
    let n_blocks = group.iter().map(|holder| holder.blocks.len()).max()?;
    let slow = async {
        pace.until_slow(n_blocks).await;
        sleep(LONGER_THAN_ITS_OWN_PATIENCE).await;
    };
    let (answer, unanswered) = tokio::select! {
        answered = timeout(QUESTION_TIMEOUT, ask(group)) => match answered {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return without_answer(by, &one_line(&status)),
            Err(elapsed) => return without_answer(by, &elapsed.to_string()),
        },
        _ = select_all(group.iter().map(|holder| Box::pin(holder.member.until_gone()))) => {
            return without_answer(by, "one of them is gone");
        }
        () = slow => return without_answer(by, "it is slow"),
    };
    pace.has_answered(n_blocks);
    if !unanswered.is_empty() {
        debug!(worker = by.member.id, n = unanswered.len(), "some have not answered through another worker");
    }
    let unanswered: BTreeSet<u32> = unanswered.into_iter().collect();
    let spoken_for = (0..).zip(others).filter(|(place, _)| !unanswered.contains(place));
    Some(Answer { by: by.clone(), of: spoken_for.map(|(_, other)| other.clone()).collect(), answer })
}

fn without_answer<A>(by: &Holder, why: &str) -> Option<Answer<A>> {
    debug!(worker = by.member.id, why, "a group has not answered through one of them");
    None
}

//! Who leads, and writing as the one who does.

use crate::{Condition, LeaseId, Revision, Store, StoreError, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

/// The key of whoever leads.
pub const LEADER: &str = "leader";

/// How often a candidate looks whether somebody leads.
const LOOKED_FOR: Duration = Duration::from_millis(300);
/// How long to wait before a store that did not answer is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// How long a record is tried to be written, while the lease can be renewed all the same.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// A lease is renewed so many times before it would be up.
const RENEWALS: u32 = 3;

/// Why the leader could not write.
#[derive(Debug, Error)]
pub enum LeaderError {
    /// It leads no more, or cannot know that it does.
    #[error("this coordinator leads no more")]
    Deposed,
    /// The store refuses the change.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Leading, for as long as the lease is renewed, which ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Leader {
    term: Arc<Term>,
    _renewing: Arc<Renewing>,
}

#[derive(Debug)]
struct Term {
    store: Arc<dyn Store>,
    epoch: Revision,
    lease: LeaseId,
    lasts: Duration,
    /// When the last renewal that was answered was asked for.
    renewed: Mutex<Instant>,
    is_over: watch::Sender<bool>,
}

/// The task that renews the lease, which ends with the leader.
#[derive(Debug)]
struct Renewing(JoinHandle<()>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Leader {
    /// Waits until nobody leads, and leads. `name` is what others read under [`LEADER`]; the lease lasts `ttl`, or what the store
    /// makes of it. A store that does not answer is asked again and again; any other error is returned.
    pub async fn campaign(store: Arc<dyn Store>, name: &str, ttl: Duration) -> Result<Self, StoreError> {
        let (mut rival, mut told) = (None, None);
        loop {
            match store.get(LEADER).await {
                Ok(Some(leader)) => {
                    if rival.as_ref() != Some(&leader.value) {
                        info!(leader = %String::from_utf8_lossy(&leader.value), "another coordinator leads, waiting");
                        rival = Some(leader.value);
                    }
                    sleep(LOOKED_FOR).await;
                }
                Ok(None) => match Self::try_to_lead(&store, name, ttl).await {
                    Ok(Some(leader)) => return Ok(leader),
                    Ok(None) => {}
                    Err(error) => pause_after(error, &mut told).await?,
                },
                Err(error) => pause_after(error, &mut told).await?,
            }
        }
    }

    async fn try_to_lead(store: &Arc<dyn Store>, name: &str, ttl: Duration) -> Result<Option<Self>, StoreError> {
        let asked = Instant::now();
        let (lease, lasts) = store.grant(ttl).await?;
        let put = Write::Put { key: LEADER.to_owned(), value: name.as_bytes().to_vec(), lease: Some(lease) };
        let epoch = match store.commit(&[Condition::Absent(LEADER.to_owned())], &[put]).await {
            Ok(Some(epoch)) => epoch,
            Ok(None) => {
                store.revoke(lease).await?;
                return Ok(None);
            }
            Err(error) => {
                // It may have been made all the same; the key goes with the lease, now or when it is up.
                let _ = store.revoke(lease).await;
                return Err(error);
            }
        };
        let is_over = watch::Sender::new(false);
        let term = Arc::new(Term { store: store.clone(), epoch, lease, lasts, renewed: Mutex::new(asked), is_over });
        let renewing = Arc::new(Renewing(tokio::spawn(renew(term.clone()))));
        Ok(Some(Self { term, _renewing: renewing }))
    }

    /// The revision at which this leader was elected. Later leaders have larger ones.
    pub fn epoch(&self) -> Revision {
        self.term.epoch
    }

    /// Whether nobody else can lead yet, as far as this process can know: one that was paused for longer than its lease does at
    /// once when it goes on. A machine that was suspended may not have counted the time; then conditions and epochs, which
    /// others check, are what holds.
    pub fn leads(&self) -> bool {
        self.term.leads()
    }

    /// Returns when this leader leads no more.
    pub async fn until_deposed(&self) {
        // An error would mean that the sender is dropped, which this very leader prevents.
        let _ = self.term.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }

    /// Makes changes, all or none, if this leader leads still. They must bear being made twice: when the store does not
    /// answer, they are tried again until it does, patience ends, or the lease is up. Where it is up, they may have been made or not.
    pub async fn write(&self, writes: &[Write]) -> Result<(), LeaderError> {
        let leads = [Condition::Created(LEADER.to_owned(), self.term.epoch)];
        let began = Instant::now();
        loop {
            if !self.term.leads() {
                return Err(LeaderError::Deposed);
            }
            match self.term.store.commit(&leads, writes).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {
                    self.term.end("another one has been elected");
                    return Err(LeaderError::Deposed);
                }
                Err(error) if error.is_passing() && began.elapsed() < WRITE_PATIENCE => {
                    warn!(%error, "a record was not written, trying again");
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The store, to read from.
    pub fn store(&self) -> &dyn Store {
        self.term.store.as_ref()
    }

    /// Leads no more, so that another one may at once.
    pub async fn resign(&self) {
        self.term.end("it stops");
        if let Err(error) = self.term.store.revoke(self.term.lease).await {
            warn!(%error, "the lease was not given back; another coordinator leads when it is up");
        }
    }
}

impl Term {
    /// The lease may be up a little later than this says, and never earlier: it began when the store was asked or after, and
    /// the rest is for clocks that do not run alike.
    fn deadline(&self) -> Instant {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) + self.lasts.mul_f64(0.7)
    }

    fn leads(&self) -> bool {
        !*self.is_over.borrow() && Instant::now() < self.deadline()
    }

    fn end(&self, why: &str) {
        if !self.is_over.send_replace(true) {
            info!(epoch = self.epoch, why, "this coordinator leads no more");
        }
    }
}

/// Renews the lease until it cannot be.
async fn renew(term: Arc<Term>) {
    let mut pause = term.lasts / RENEWALS;
    loop {
        sleep(pause).await;
        let asked = Instant::now();
        let renewed = tokio::select! {
            renewed = term.store.keep_alive(term.lease) => renewed,
            () = sleep_until(term.deadline()) => return term.end("the lease could not be renewed in time"),
        };
        pause = match renewed {
            Ok(true) if term.leads() => {
                *term.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
                term.lasts / RENEWALS
            }
            Ok(_) => return term.end("the lease is up"),
            Err(error) => {
                warn!(%error, "the lease was not renewed, trying again");
                RETRY_PAUSE
            }
        };
    }
}

/// Waits where it may help. What was told last is not told again.
async fn pause_after(error: StoreError, told: &mut Option<String>) -> Result<(), StoreError> {
    if !error.is_passing() {
        return Err(error);
    }
    let text = error.to_string();
    if told.as_ref() != Some(&text) {
        warn!(error = text, "cannot campaign yet, trying again");
        *told = Some(text);
    }
    sleep(RETRY_PAUSE).await;
    Ok(())
}

//! Jobs that share the memory of the workers. One that finds no room for its rows beside others waits until another one has
//! stopped; one that has had the workers to itself does not fit, and fails.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Workers hear a moment later that rows are to go.
const ROWS_GO_WITHIN: Duration = Duration::from_millis(250);
/// How often one that waits looks whether it is still to.
const LOOKED_AFTER: Duration = Duration::from_millis(500);

/// What jobs do, as far as it is about room.
#[derive(Debug, Clone, Copy, Default)]
struct Activity {
    /// Jobs that have rows on workers, or may have.
    n_active: u64,
    /// How often one has begun, and has stopped.
    n_begun: u64,
    n_stopped: u64,
}

/// The jobs of this coordinator.
#[derive(Debug, Default)]
pub(crate) struct Room {
    activity: watch::Sender<Activity>,
}

/// A job that has rows on workers, or may have.
pub(crate) struct Tenant<'a> {
    room: &'a Room,
    /// When it has begun, or begun anew.
    began: Activity,
}

impl Room {
    pub(crate) fn enter(&self) -> Tenant<'_> {
        self.activity.send_modify(|activity| {
            activity.n_active += 1;
            activity.n_begun += 1;
        });
        Tenant { room: self, began: *self.activity.borrow() }
    }
}

impl<'a> Tenant<'a> {
    /// Whether no other job had rows on workers since this one has begun.
    pub(crate) fn was_alone(&self) -> bool {
        self.began.n_active == 1 && self.room.activity.borrow().n_begun == self.began.n_begun
    }

    /// Leaves the room to the others, waits until one of them has stopped, and begins anew; at once where there are none, or
    /// when it is not to wait any more.
    pub(crate) async fn wait(mut self, is_to_wait: impl Fn() -> bool) -> Tenant<'a> {
        let room = self.room;
        let mut left_at = None;
        // In one step: of two that find no room at a time one must stay.
        room.activity.send_modify(|activity| {
            if activity.n_active > 1 {
                activity.n_active -= 1;
                activity.n_stopped += 1;
                left_at = Some(activity.n_stopped);
            }
        });
        let Some(left_at) = left_at else {
            sleep(ROWS_GO_WITHIN).await;
            self.began = *room.activity.borrow();
            return self;
        };
        // It has left already.
        std::mem::forget(self);
        let mut activity = room.activity.subscribe();
        while is_to_wait() {
            // An error would mean that the sender is dropped, which `room` prevents.
            if timeout(LOOKED_AFTER, activity.wait_for(|now| now.n_stopped > left_at)).await.is_ok() {
                break;
            }
        }
        sleep(ROWS_GO_WITHIN).await;
        room.enter()
    }
}

impl Drop for Tenant<'_> {
    fn drop(&mut self) {
        self.room.activity.send_modify(|activity| {
            activity.n_active -= 1;
            activity.n_stopped += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that find no room: one waits for the other, which is alone then.
    #[tokio::test]
    async fn of_two_one_waits() {
        let room = Room::default();
        let (one, other) = (room.enter(), room.enter());
        assert!(!one.was_alone() && !other.was_alone());
        let mut waiting = std::pin::pin!(one.wait(|| true));
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "the other one has not stopped");
        let other = other.wait(|| true).await;
        assert!(other.was_alone());
        drop(other);
        assert!(waiting.await.was_alone());
    }

    #[tokio::test]
    async fn whoever_is_not_to_wait_does_not() {
        let room = Room::default();
        let (one, _other) = (room.enter(), room.enter());
        assert!(!one.wait(|| false).await.was_alone());
    }
}

//! What happens to connections while a job runs, and does not show in its result.

use crate::disturbed::{Disturbed, RETAIL};
use crate::process::{Fleet, wait_for};
use crate::proxy::{Proxy, Weather};
use shoal_stats::RandomStream;
use std::time::Duration;

/// A fleet of two workers, one of which is reached through a proxy.
fn fleet() -> (Fleet, Proxy) {
    let (mut fleet, proxy) = (Fleet::start(1), Proxy::start());
    fleet.add_worker_behind(&proxy);
    (fleet, proxy)
}

#[test]
fn connections_break_again_and_again() {
    let (fleet, proxy) = fleet();
    // Long enough to be broken more than ten times.
    let mut disturbed = Disturbed::start_until_checkpoint_of(&fleet, 24);
    let stream = RandomStream { seed: 1, stream: 0 };
    for draw in 0u64.. {
        if disturbed.has_ended() {
            break;
        }
        // From within the first frames of a connection to within a large answer.
        proxy.set(Weather::Breaks((stream.uniform(draw) * 20_000.0) as u64));
        std::thread::sleep(Duration::from_millis(200));
        proxy.set(Weather::Fair);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(proxy.n_hit() > 10, "{} hits", proxy.n_hit());
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn everything_takes_longer() {
    let (fleet, proxy) = fleet();
    let mut disturbed = Disturbed::start(&fleet);
    proxy.set(Weather::Slow(Duration::from_millis(20)));
    wait_for(|| (proxy.n_hit() > 100 || disturbed.has_ended()).then_some(())).expect("bytes are under way");
    proxy.set(Weather::Fair);
    assert!(proxy.n_hit() > 10, "{} hits", proxy.n_hit());
    disturbed.ends_as_undisturbed(&fleet);
}

/// The worker's own heartbeats arrive, since they do not go through the proxy; only questions do not.
#[test]
fn a_worker_is_cut_off_and_its_connections_stay_open() {
    let (fleet, proxy) = fleet();
    let disturbed = Disturbed::start(&fleet);
    proxy.set(Weather::Silent);
    fleet.coordinator.logs("others have answered before the slow worker");
    assert!(proxy.n_hit() > 0);
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn the_only_worker_is_cut_off_and_its_connections_stay_open() {
    let (mut fleet, proxy) = (Fleet::start(0), Proxy::start());
    fleet.add_worker_behind(&proxy);
    let disturbed = Disturbed::start(&fleet);
    proxy.set(Weather::Silent);
    fleet.coordinator.logs("it does not answer");
    assert!(proxy.n_hit() > 0);
    // It asks to join again for as long as it is cut off, and does once it is not.
    fleet.workers[0].logs("cannot join yet");
    proxy.set(Weather::Fair);
    wait_for(|| (fleet.workers[0].log().matches("joined the fleet").count() == 2).then_some(()))
        .expect("it joins anew");
    disturbed.ends_as_undisturbed(&fleet);
}

/// What one job asks for, no connection survives. The job ends for that, and the next one does not.
#[test]
fn a_question_that_costs_workers_again_and_again_fails_its_job() {
    let (mut fleet, proxy) = (Fleet::start(0), Proxy::start());
    fleet.add_worker_behind(&proxy);
    // All that the job prepares and asks has its name in it.
    proxy.set(Weather::BreaksOver("jobs/1@"));
    let line = fleet.fail(&["submit", RETAIL, "--watch"]);
    assert!(line.contains("one question has cost workers 4 times"), "{line}");
    assert_eq!(fleet.coordinator.log().matches("worker gone").count(), 4, "{}", fleet.coordinator.log());
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
}

//! What happens to processes and data while a job runs, and does not show in its result.
//!
//! Every test shows that its fault took place while the job needed what was lost, compares bytes with an undisturbed run in
//! one process, and runs a second job afterwards.

use crate::disturbed::{Disturbed, RETAIL};
use crate::etcd::Etcd;
use crate::process::{Fleet, Server, fail, run, wait_for};
use shoal_stats::RandomStream;
use std::fs;
use std::time::Duration;

#[test]
fn a_worker_is_killed() {
    let mut fleet = Fleet::start(3);
    let disturbed = Disturbed::start(&fleet);
    fleet.workers[1].kill();
    fleet.coordinator.logs("placing blocks that no worker holds");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn a_worker_stands_still() {
    let fleet = Fleet::start(2);
    let disturbed = Disturbed::start(&fleet);
    fleet.workers[1].stand_still();
    fleet.coordinator.logs("others have answered before the slow worker");
    fleet.coordinator.logs("worker gone");
    fleet.workers[1].go_on();
    fleet.workers[1].logs("registering again");
    disturbed.ends_as_undisturbed(&fleet);
}

/// One that gets a tenth of the time that it needs: it reports, its connections work, and everybody would wait for it.
#[test]
fn a_worker_is_slow() {
    let fleet = Fleet::start(3);
    let disturbed = Disturbed::start(&fleet);
    let is_overtaken = || fleet.coordinator.log().contains("others have answered before the slow worker");
    for _ in 0..20 {
        if is_overtaken() {
            break;
        }
        fleet.workers[1].stand_still();
        std::thread::sleep(Duration::from_millis(3_500));
        fleet.workers[1].go_on();
        std::thread::sleep(Duration::from_millis(400));
    }
    assert!(is_overtaken(), "{}", fleet.coordinator.log());
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn workers_join_during_a_job() {
    let mut fleet = Fleet::start(1);
    let disturbed = Disturbed::start(&fleet);
    fleet.add_worker();
    fleet.coordinator.logs("blocks have moved");
    fleet.add_worker();
    let n_moves = || fleet.coordinator.log().matches("blocks have moved").count();
    wait_for(|| (n_moves() == 2).then_some(())).expect("the third worker gets blocks too");
    let report = disturbed.out.join("report.json");
    disturbed.ends_as_undisturbed(&fleet);
    let report = fs::read_to_string(report).expect("the report was written");
    assert_eq!(report.matches("cpu (").count(), 3, "each of the three holds rows: {report}");
}

#[test]
fn all_workers_are_killed_and_others_join() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start(&fleet);
    fleet.workers[0].kill();
    fleet.workers[1].kill();
    wait_for(|| fleet.coordinator.log().matches("worker gone").nth(1).map(|_| ())).expect("both workers are missed");
    fleet.add_worker();
    fleet.coordinator.logs("placing blocks that no worker holds");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn the_coordinator_is_killed() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    fleet.replace_coordinator();
    fleet.coordinator.logs("was left by an earlier leader, waits again");
    fleet.coordinator.logs("goes on from a checkpoint");
    disturbed.ends_as_undisturbed(&fleet);
    // Labels of a job that ended under one coordinator come from the next.
    let before = run(&["labels", "jobs/1", "--coordinator", &fleet.url]).stdout;
    fleet.replace_coordinator();
    fleet.add_worker();
    let after = run(&["labels", "jobs/1", "--coordinator", &fleet.url]).stdout;
    assert!(!before.is_empty() && before == after);
}

#[test]
fn the_coordinator_is_stopped_in_order() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    assert!(fleet.coordinator.terminate(), "a coordinator ends cleanly on SIGTERM");
    fleet.replace_coordinator();
    fleet.coordinator.logs("was left by an earlier leader, waits again");
    fleet.coordinator.logs("goes on from a checkpoint");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn the_leader_is_killed_and_another_coordinator_takes_over() {
    let etcd = Etcd::start();
    let mut fleet = Fleet::start_with_standby(etcd.url(), 2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    fleet.coordinator.kill();
    fleet.standbys[0].logs("this coordinator leads");
    fleet.standbys[0].logs("goes on from a checkpoint");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn the_leader_stands_still_for_longer_than_its_lease() {
    let etcd = Etcd::start();
    let fleet = Fleet::start_with_standby(etcd.url(), 2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    fleet.coordinator.stand_still();
    fleet.standbys[0].logs("this coordinator leads");
    fleet.standbys[0].logs("goes on from a checkpoint");
    // It wakes while the job runs under the other one, and knows its place.
    fleet.coordinator.go_on();
    fleet.coordinator.logs("this coordinator leads no more");
    fleet.coordinator.logs("another coordinator leads, waiting");
    disturbed.ends_as_undisturbed(&fleet);
    assert!(!fleet.coordinator.log().contains("failed"), "{}", fleet.coordinator.log());
}

#[test]
fn etcd_is_killed_and_comes_back_within_the_lease() {
    let mut etcd = Etcd::start();
    let fleet = Fleet::start_with_standby(etcd.url(), 2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    etcd.restart();
    disturbed.ends_as_undisturbed(&fleet);
    assert!(!fleet.coordinator.log().contains("leads no more"), "{}", fleet.coordinator.log());
    assert!(!fleet.standbys[0].log().contains("this coordinator leads"), "{}", fleet.standbys[0].log());
}

#[test]
fn etcd_stands_still_for_longer_than_the_lease() {
    let etcd = Etcd::start();
    let fleet = Fleet::start_with_standby(etcd.url(), 2);
    // Long enough to be under way still when the leader gives up.
    let disturbed = Disturbed::start_until_checkpoint_of(&fleet, 48);
    etcd.stand_still();
    fleet.coordinator.logs("this coordinator leads no more");
    etcd.go_on();
    let goes_on = |server: &Server| server.log().contains("goes on from a checkpoint");
    let went_on = wait_for(|| (goes_on(&fleet.coordinator) || goes_on(&fleet.standbys[0])).then_some(()));
    assert!(went_on.is_some(), "{}\n{}", fleet.coordinator.log(), fleet.standbys[0].log());
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn etcd_forgets_its_history() {
    let etcd = Etcd::start();
    let fleet = Fleet::start_with_standby(etcd.url(), 2);
    let disturbed = Disturbed::start(&fleet);
    assert!(etcd.compact() > 1, "there was a history");
    disturbed.ends_as_undisturbed(&fleet);
    assert!(!fleet.standbys[0].log().contains("this coordinator leads"), "{}", fleet.standbys[0].log());
}

#[test]
fn damaged_rows_in_storage_are_noticed() {
    let mut fleet = Fleet::start(2);
    let mut disturbed = Disturbed::start(&fleet);
    let chunk = fleet.folder.path().join("data/data_sets/1/000000.arrow");
    let mut bytes = fs::read(&chunk).expect("the rows are in storage");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&chunk, bytes).expect("the folder is writable");
    fleet.workers[0].kill();
    assert!(!disturbed.client.end(), "{}", disturbed.client.log());
    let log = disturbed.client.log();
    assert!(log.contains("data_sets/1/000000.arrow: is damaged") && log.contains("BLAKE3"), "{log}");
    assert!(!disturbed.out.exists(), "a job that has failed leaves no files");
    // What is damaged is no other job's concern, and no later coordinator's.
    let manifest = fleet.folder.path().join("data/data_sets/1/manifest.json");
    let text = fs::read_to_string(&manifest).expect("the manifest is in storage");
    fs::write(&manifest, text.replace("2469", "2468")).expect("the folder is writable");
    fleet.replace_coordinator();
    fleet.coordinator.logs("data set in storage is damaged");
    fleet.add_worker();
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
}

#[test]
fn a_coordinator_with_other_data_does_not_lead() {
    let etcd = Etcd::start();
    let mut fleet = Fleet::start_with_standby(etcd.url(), 0);
    assert!(fleet.coordinator.terminate() && fleet.standbys[0].terminate());
    let elsewhere = fleet.folder.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().expect("a plain path");
    let line = fail(&["coordinator", "--listen", "127.0.0.1:0", "--etcd", etcd.url(), "--data", elsewhere]);
    assert!(line.contains("elsewhere is not where this fleet keeps its data"), "{line}");
}

#[test]
fn the_disk_of_the_coordinator_is_full_for_a_while() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start(&fleet);
    fleet.coordinator.fill_disk(true);
    fleet.coordinator.logs("no checkpoint was written");
    let line = fleet.fail(&["submit", RETAIL]);
    assert!(line.contains("too large"), "the system's reason is told: {line}");
    fleet.coordinator.logs("the result of a job cannot be written, trying again");
    assert!(fleet.coordinator.is_alive());
    fleet.coordinator.fill_disk(false);
    disturbed.ends_as_undisturbed(&fleet);
}

/// What chance does to a fleet.
#[derive(Debug)]
enum Blow {
    Worker,
    Pause,
    Coordinator,
}

/// One blow after the other while a job runs, drawn at random. `SHOAL_CHAOS_ROUNDS` makes it as many jobs as are wanted, each
/// on a fleet of its own; `SHOAL_CHAOS_SEED` is the first one's seed.
#[test]
fn blows_fall_at_random() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (seed, n_rounds) = (number("SHOAL_CHAOS_SEED", 1), number("SHOAL_CHAOS_ROUNDS", 1));
    for seed in seed..seed + n_rounds {
        let stream = RandomStream { seed, stream: 0 };
        let mut fleet = Fleet::start(3);
        let mut disturbed = Disturbed::start(&fleet);
        let mut blows = Vec::new();
        let mut draws = 0u64..;
        let mut draw = |n: usize| (stream.uniform(draws.next().expect("there is no end")) * n as f64) as usize;
        while !disturbed.has_ended() {
            std::thread::sleep(Duration::from_millis(100 + draw(700) as u64));
            if disturbed.has_ended() {
                break;
            }
            let worker = draw(fleet.workers.len());
            // The first one is one that is noticed.
            let idx = if blows.is_empty() { 0 } else { draw(4) };
            let blow = [Blow::Worker, Blow::Worker, Blow::Pause, Blow::Coordinator].into_iter().nth(idx);
            match blow.as_ref().expect("one of four") {
                Blow::Worker => {
                    fleet.workers.remove(worker).kill();
                    fleet.add_worker();
                }
                Blow::Pause => {
                    fleet.workers[worker].stand_still();
                    std::thread::sleep(Duration::from_millis(300 + draw(700) as u64));
                    fleet.workers[worker].go_on();
                }
                Blow::Coordinator => fleet.replace_coordinator(),
            }
            blows.extend(blow);
        }
        println!("seed {seed}: {blows:?}");
        assert!(blows.len() >= 2, "seed {seed}: the job was over before anything happened to it");
        assert!(fleet.log().contains("placing blocks that no worker holds"), "seed {seed}: nothing was noticed");
        disturbed.ends_as_undisturbed(&fleet);
    }
}

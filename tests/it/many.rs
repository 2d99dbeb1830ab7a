//! More workers than their coordinator asks itself.

use crate::proxy::{Proxy, Weather};
use crate::simulated::{Fleet, put_many_rows, runtime};

/// Three groups of workers.
const N_WORKERS: usize = 66;
const N_ROWS: u32 = 70_000;

/// The model of a job on one worker, which merges nothing.
async fn alone() -> Vec<u8> {
    let fleet = Fleet::start(1).await;
    let data_set = put_many_rows(&fleet.url, N_ROWS).await.expect("the rows are taken");
    let job = fleet.submit(&data_set, "alone").await;
    fleet.model(&job).await
}

/// Workers merge for others; one of these stands apart from the network, and others die, some that merge among them.
#[test]
fn workers_that_merge_for_others_and_workers_that_do_not_answer_them_do_not_show() {
    let disturbed = async {
        let mut fleet = Fleet::start(N_WORKERS - 1).await;
        let proxy = Proxy::start();
        fleet.add_worker_behind(&proxy);
        fleet.has_workers(N_WORKERS).await;
        let data_set = put_many_rows(&fleet.url, N_ROWS).await.expect("the rows are taken");
        let first = fleet.submit(&data_set, "with nobody lost").await;
        let model = fleet.model(&first).await;
        assert!(proxy.n_connections() > 1, "nobody but the coordinator has asked the worker");

        let job = fleet.submit(&data_set, "with some lost").await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        proxy.set(Weather::Silent);
        fleet.workers.drain(0..3);
        fleet.workers.drain(30..32);
        assert!(!fleet.has_ended(&job).await, "the job was over before anything happened");
        assert!(fleet.model(&job).await == model, "the models differ");
        assert!(proxy.n_hit() > 0, "the silent worker was not asked");
        model
    };
    assert!(runtime().block_on(disturbed) == runtime().block_on(alone()), "the model differs");
}

//! The CPU engine's kernels, one question each, for every instruction set that the machine has:
//!
//! ```text
//! cargo bench -p shoal-benches -- --save-baseline before      # and after a change: --baseline before
//! ```
//!
//! Rows fit a core's cache, so that what is measured is arithmetic; `engine compare` measures the rest.

#![allow(missing_docs, reason = "the macros of Criterion make functions without documentation")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shoal_clustering::cpu::{CpuDevice, CpuShard, Isa};
use shoal_clustering::silhouette::silhouette_samples;
use shoal_clustering::{Draw, Shard};
use shoal_domain::prepare::GRID_BITS;
use shoal_domain::{BLOCK_ROWS, Block, BlockId, Centroids, ColumnPreparation, Preparation, Transform};
use shoal_stats::RandomStream;
use std::hint::black_box;

/// Values lie between -1 and 1.
fn preparation(n_features: usize) -> Preparation {
    let column = |column: usize| ColumnPreparation {
        feature: format!("x{column}"),
        transform: Transform::Identity,
        fill: None,
        shift: 0.0,
        scale: 1.0,
        unit_exponent: -GRID_BITS,
    };
    Preparation { columns: (0..n_features).map(column).collect(), drop_missing: false, weight_exponent: None }
}

fn values(n: usize, seed: u64) -> Vec<f32> {
    let stream = RandomStream { seed, stream: 0 };
    (0..n).map(|idx| ((stream.uniform(idx as u64) * 65_536.0).round() / 32_768.0 - 1.0) as f32).collect()
}

fn shard(isa: Isa, n_blocks: usize, n_features: usize) -> CpuShard {
    let block = |id: usize| {
        let values = values(BLOCK_ROWS * n_features, id as u64);
        Block::new(BlockId(id as u64), n_features, values, None, None).expect("the shape is right")
    };
    let device = CpuDevice::with_isa(1, isa).expect("a thread can be started");
    // Without a memory every pass looks at every row.
    device.remembering(0).shard(&preparation(n_features), (0..n_blocks).map(block).collect())
}

fn centroids(n_clusters: usize, n_features: usize) -> Centroids {
    Centroids::new(n_clusters, n_features, values(n_clusters * n_features, 99)).expect("the shape is right")
}

/// Multiplications and additions of a pass.
fn passes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pass");
    for (n_features, n_clusters) in [(16, 8), (32, 16), (64, 64), (128, 256)] {
        let set = [centroids(n_clusters, n_features)];
        for isa in Isa::available() {
            let shard = shard(isa, 8, n_features);
            group.throughput(Throughput::Elements((2 * 8 * BLOCK_ROWS * n_features * n_clusters) as u64));
            let id = BenchmarkId::new(isa.name(), format!("{n_features}x{n_clusters}"));
            group.bench_function(id, |bencher| bencher.iter(|| black_box(shard.assign(&set).expect("rows in memory"))));
        }
    }
    group.finish();
}

/// Rows that a draw goes over.
fn draws(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("draw");
    for isa in Isa::available() {
        let shard = shard(isa, 8, 16);
        group.throughput(Throughput::Elements((8 * BLOCK_ROWS) as u64));
        let draw = Draw {
            n: 16,
            far_from: Some(centroids(8, 16)),
            ignore_weights: false,
            stream: RandomStream { seed: 1, stream: 2 },
        };
        group.bench_function(isa.name(), |bencher| {
            bencher.iter(|| black_box(shard.draw(std::slice::from_ref(&draw)).expect("rows in memory")));
        });
    }
    group.finish();
}

/// Pairs of rows of an exact silhouette.
fn silhouettes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("silhouette");
    group.sample_size(10);
    for n_features in [8, 16, 64] {
        let set = centroids(4, n_features);
        for isa in Isa::available() {
            let shard = shard(isa, 4, n_features);
            let counts = shard.assign(std::slice::from_ref(&set)).expect("rows in memory").remove(0).counts;
            let unit = preparation(n_features).distance_unit();
            let n_rows = (4 * BLOCK_ROWS) as u64;
            group.throughput(Throughput::Elements(n_rows * n_rows / 2));
            group.bench_function(BenchmarkId::new(isa.name(), n_features), |bencher| {
                bencher.iter(|| {
                    black_box(silhouette_samples(&shard, &set, &counts, unit, &mut ()).expect("two clusters"))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(kernels, passes, draws, silhouettes);
criterion_main!(kernels);

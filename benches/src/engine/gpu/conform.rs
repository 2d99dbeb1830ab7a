//! Answers of a GPU beside those of the CPU.

use crate::shapes::{Data, Shape};
use anyhow::{Result, ensure};
use shoal_clustering::cpu::CpuDevice;
use shoal_clustering::silhouette::silhouette_samples;
use shoal_clustering::{Device, Partial, Shard};
use shoal_cuda::CudaDevice;
use shoal_domain::Centroids;

/// Features for every kernel and some that do not fill one; clusters that fit shared memory, and some that do not.
const N_FEATURES: [usize; 12] = [1, 3, 16, 20, 32, 48, 64, 90, 128, 150, 192, 256];
const N_CLUSTERS: [usize; 5] = [1, 8, 9, 64, 600];

pub(crate) fn run(cpu: &CpuDevice, gpu: &CudaDevice, n_rows: usize) -> Result<()> {
    for n_features in N_FEATURES {
        let shape = Shape::overlapping(n_rows, n_features, *N_CLUSTERS.last().unwrap_or(&1));
        let data = Data::new(shape);
        let preparation = data.preparation();
        let on_cpu = cpu.load(&preparation, &mut data.blocks().map(Ok))?;
        let on_gpu = gpu.load(&preparation, &mut data.blocks().map(Ok))?;
        let rows = data.initial();
        let mut sets = Vec::new();
        for n_clusters in N_CLUSTERS {
            let centroids = Centroids::from_rows(rows.rows().take(n_clusters))?;
            check_pass(
                &format!("{n_features} features, {n_clusters} clusters"),
                &*on_cpu,
                &*on_gpu,
                std::slice::from_ref(&centroids),
            )?;
            sets.push(centroids);
        }
        check_pass(&format!("{n_features} features, all sets"), &*on_cpu, &*on_gpu, &sets)?;
        check_silhouettes(&*on_cpu, &*on_gpu, &sets[2], preparation.distance_unit())?;
        println!("{n_features} features: the same");
    }
    Ok(())
}

/// Passes over all sets, twice, so that the second one meets what the first one remembers.
pub(crate) fn check_pass(name: &str, cpu: &dyn Shard, gpu: &dyn Shard, sets: &[Centroids]) -> Result<()> {
    let expected = cpu.assign(sets)?;
    for _ in 0..2 {
        for (expected, actual) in expected.iter().zip(gpu.assign(sets)?) {
            check_partial(name, expected, &actual)?;
        }
    }
    ensure!(cpu.weigh(sets)? == gpu.weigh(sets)?, "{name}: weights differ");
    Ok(())
}

pub(crate) fn check_partial(name: &str, expected: &Partial, actual: &Partial) -> Result<()> {
    let n_differ = expected.counts.iter().zip(&actual.counts).filter(|(a, b)| a != b).count();
    ensure!(n_differ == 0, "{name}: the counts of {n_differ} clusters differ");
    let n_differ = expected.sums.iter().zip(&actual.sums).filter(|(a, b)| a != b).count();
    ensure!(n_differ == 0, "{name}: {n_differ} sums differ");
    ensure!(expected.inertia.to_digits() == actual.inertia.to_digits(), "{name}: inertia differs");
    Ok(())
}

/// Silhouettes of all rows.
pub(crate) fn check_silhouettes(cpu: &dyn Shard, gpu: &dyn Shard, centroids: &Centroids, unit: f64) -> Result<()> {
    let counts = cpu.assign(std::slice::from_ref(centroids))?.remove(0).counts;
    let expected = silhouette_samples(cpu, centroids, &counts, unit, &mut ())?;
    let actual = silhouette_samples(gpu, centroids, &counts, unit, &mut ())?;
    ensure!(expected.clusters == actual.clusters, "labels differ");
    let differ = |(a, b): &(&f64, &f64)| a.to_bits() != b.to_bits();
    let n_differ = expected.values.iter().zip(&actual.values).filter(differ).count();
    ensure!(n_differ == 0, "{n_differ} silhouettes differ");
    Ok(())
}

//! One round of launches: all sets of a question, what each launch is told, and what comes back.

use crate::gpu::{Buffer, GpuError, Growing, NULL, Parcel};
use crate::lloyd::{LloydSet, Plan, describe, parcel_bytes};
use crate::moves::{MOVE_WORDS, MovesOfSet, Segments};
use crate::packed::{PackedCentroids, Parts};
use crate::rows::DeviceRows;
use crate::stale::RowsListed;
use bytemuck::Zeroable;
use shoal_clustering::Partial;
use shoal_domain::Centroids;

/// A list of rows pays if it leaves out more than a quarter of all.
const LISTED_SHARE_MAX: f64 = 0.75;
/// Limbs of a cluster's count and weight.
const WEIGHT_LIMBS: usize = 3;

/// What a round has to know of a set.
pub(crate) struct SetInRound<'a> {
    pub(crate) centroids: &'a Centroids,
    /// Labels and marks that are remembered; both or none.
    pub(crate) labels: u64,
    pub(crate) until: u64,
    /// Where marks are counted from.
    pub(crate) way: f32,
    pub(crate) is_filled: bool,
    /// The rows whose labels may have changed; none if that is not known.
    pub(crate) stale: Option<RowsListed>,
}

/// Memory of the GPU that rounds use one after the other.
pub(crate) struct Scratch {
    parcel: Growing<u8>,
    answers: Growing<u64>,
    /// What goes there and comes from there, kept for its memory.
    parcel_here: Parcel,
    answers_here: Vec<u64>,
    /// Rows and moves of each set, and how many each block has put down.
    unsure: Growing<u32>,
    moves: Growing<u32>,
    counters: Growing<u32>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            parcel: Growing::new(),
            answers: Growing::new(),
            parcel_here: Parcel::default(),
            answers_here: Vec::new(),
            unsure: Growing::new(),
            moves: Growing::new(),
            counters: Growing::new(),
        }
    }
}

/// A launch of the first kernel, and those that follow for its sets.
struct Step {
    /// None where float16 does not hold the centroids, so that the exact kernel looks at all rows.
    first: Option<Plan>,
    exact: Vec<Plan>,
    n_sets: usize,
    segments: Segments,
}

impl Step {
    /// Entries of a set's lists.
    fn entries(&self) -> usize {
        self.segments.n as usize * self.segments.room
    }
}

/// A question about some sets.
pub(crate) struct Round<'a> {
    rows: &'a DeviceRows,
    sets: Vec<SetInRound<'a>>,
    with_sums: bool,
    scale: f32,
    answers: Answers,
}

impl<'a> Round<'a> {
    pub(crate) fn new(rows: &'a DeviceRows, sets: Vec<SetInRound<'a>>, with_sums: bool) -> Self {
        let answers = Answers::new(&sets, if with_sums { rows.sum_limbs() } else { 0 });
        let scale = rows.bound.scale_with(sets.iter().map(|set| set.centroids));
        Self { rows, sets, with_sums, scale, answers }
    }

    /// What is to be added to what is remembered of each set, inertia left out.
    pub(crate) fn run(&self, scratch: &mut Scratch) -> Result<Vec<Partial>, GpuError> {
        let gpu = &self.rows.gpu;
        let answers = scratch.answers.with_room(gpu, self.answers.len)?;
        answers.clear_first(self.answers.len)?;
        let steps = self.steps()?;
        // Steps come one after the other, and share what they need besides.
        let most = |of: &dyn Fn(&Step) -> usize| steps.iter().map(|step| of(step) * step.n_sets).max().unwrap_or(0);
        let unsure = scratch.unsure.with_room(gpu, most(&Step::entries))?;
        let moves = scratch.moves.with_room(gpu, MOVE_WORDS * most(&Step::entries))?;
        let counters = scratch.counters.with_room(gpu, 2 * most(&|step| step.segments.n as usize))?;
        let n_steps = self.rows.kernels.n_steps();
        let pack = |set: &SetInRound<'_>| PackedCentroids::in_either(set.centroids, n_steps, self.scale);
        let packed: Vec<[PackedCentroids; 2]> = self.sets.iter().map(pack).collect();
        let bytes = packed.iter().zip(&self.sets).map(|(packed, set)| parcel_bytes(packed, set.centroids)).sum();
        let base = scratch.parcel.with_room(gpu, bytes)?;
        let parcel = &mut scratch.parcel_here;
        parcel.empty(bytes);
        let described = packed.iter().enumerate().map(|(idx, packed)| {
            describe(self.sets[idx].centroids, packed, self.described(idx), parcel, base.address())
        });
        let described: Vec<[LloydSet; 2]> = described.collect();
        // SAFETY: the answers are read before the parcel goes, or an error has ended the round, and the GPU with it.
        unsafe { base.write_from(0, parcel.bytes())? };
        for step in &steps {
            self.launch(step, &described, [unsure, moves, counters], answers)?;
        }
        answers.read_to(0, self.answers.len, &mut scratch.answers_here)?;
        Ok(self.answers.partials(&scratch.answers_here, &self.sets, self.rows))
    }

    /// Rows of a list that pays, at most.
    fn listed_max(&self) -> usize {
        (LISTED_SHARE_MAX * self.rows.n_rows as f64) as usize
    }

    /// Sets most of whose rows have to be looked at share the read of all rows; the others have blocks of their own, and
    /// those without any stale row nothing to do.
    fn steps(&self) -> Result<Vec<Step>, GpuError> {
        let kernels = self.rows.kernels;
        let sets: Vec<(usize, &Centroids)> = self.sets.iter().map(|set| set.centroids).enumerate().collect();
        if self.scale != self.rows.bound.scale() {
            return kernels.apart(&sets, Parts::Two).into_iter().map(|plan| self.step(None, vec![plan])).collect();
        }
        let has_list = |(idx, _): &(usize, &Centroids)| {
            self.sets[*idx].stale.is_some_and(|stale| stale.n.is_none_or(|n| n <= self.listed_max()))
        };
        let (mut listed, dense): (Vec<_>, Vec<_>) = sets.into_iter().partition(has_list);
        listed.retain(|(idx, _)| self.sets[*idx].stale.is_none_or(|stale| stale.n != Some(0)));
        let plans = kernels.sharing(&dense).into_iter().chain(kernels.apart(&listed, Parts::One));
        let step = |plan: Plan| {
            let sets: Vec<_> = plan.sets.iter().map(|idx| (*idx, self.sets[*idx].centroids)).collect();
            self.step(Some(plan), kernels.apart(&sets, Parts::Two))
        };
        plans.map(step).collect()
    }

    fn step(&self, first: Option<Plan>, exact: Vec<Plan>) -> Result<Step, GpuError> {
        let gpu = self.rows.gpu.as_ref();
        let (n, room) = self.rows.kernels.grid(gpu, first.as_ref().unwrap_or(&exact[0]), self.rows.n_rows)?;
        let n_sets = exact.iter().map(|plan| plan.sets.len()).sum();
        Ok(Step { first, exact, n_sets, segments: Segments { n, room } })
    }

    /// What kernels have to know of a set's rows.
    fn described(&self, idx: usize) -> LloydSet {
        let set = &self.sets[idx];
        let (list, n_listed) = set.stale.map_or((NULL, NULL), |stale| (stale.rows, stale.n_listed));
        LloydSet {
            labels: set.labels,
            until: set.until,
            list,
            n_listed,
            way: set.way,
            is_filled: u32::from(set.is_filled),
            ..LloydSet::zeroed()
        }
    }

    /// Starts the kernels of a step, whose sets have their lists one after the other.
    fn launch(
        &self,
        step: &Step,
        described: &[[LloydSet; 2]],
        [unsure, moves, counters]: [&Buffer<u32>; 3],
        answers: &Buffer<u64>,
    ) -> Result<(), GpuError> {
        let (gpu, kernels) = (self.rows.gpu.as_ref(), self.rows.kernels);
        let order: Vec<usize> = match &step.first {
            Some(plan) => plan.sets.clone(),
            None => step.exact.iter().flat_map(|plan| plan.sets.clone()).collect(),
        };
        let n_blocks = step.segments.n as usize;
        let with_lists = |idx: usize, parts: Parts| {
            let place = order.iter().position(|other| *other == idx).expect("a step has lists of its own sets only");
            let counters = counters.at(2 * place * n_blocks);
            let (unsure, n_unsure) = match step.first {
                Some(_) => (unsure.at(place * step.entries()), counters),
                None => (NULL, NULL),
            };
            LloydSet {
                unsure,
                n_unsure,
                moves: moves.at(MOVE_WORDS * place * step.entries()),
                n_moves: counters + (n_blocks * size_of::<u32>()) as u64,
                ..described[idx][parts.n_parts() - 1]
            }
        };
        let mut pass = self.rows.pass(self.scale);
        (pass.room, pass.listed_max) = (step.segments.room as u32, self.listed_max() as u32);
        for (plan, parts) in
            step.first.iter().map(|plan| (plan, Parts::One)).chain(step.exact.iter().map(|plan| (plan, Parts::Two)))
        {
            let sets: Vec<LloydSet> = plan.sets.iter().map(|idx| with_lists(*idx, parts)).collect();
            kernels.launch(gpu, plan, step.segments.n, pass, &sets)?;
        }
        let moves = |idx: &usize| self.moves(*idx, &with_lists(*idx, Parts::Two), answers);
        let moves: Vec<MovesOfSet> = order.iter().map(moves).collect();
        crate::moves::launch(self.rows, step.segments, &moves, self.with_sums)
    }

    /// The moves that the kernels of a step put down for a set, and where they are added.
    fn moves(&self, idx: usize, lists: &LloydSet, answers: &Buffer<u64>) -> MovesOfSet {
        let first = self.answers.firsts[idx];
        let n_clusters = self.sets[idx].centroids.n_clusters();
        MovesOfSet {
            moves: lists.moves,
            n_moves: lists.n_moves,
            sums: if self.with_sums { answers.at(first + WEIGHT_LIMBS * n_clusters) } else { NULL },
            weights: answers.at(first),
            n_clusters: n_clusters as u32,
            padding: 0,
        }
    }
}

/// Bits of the lower of the two limbs that a value is taken apart into before it is weighed (kernels/moves.cu).
const HIGH_LIMB_SHIFT: u32 = 21;

/// Where the answers of sets are in one buffer: weights, then sums.
struct Answers {
    firsts: Vec<usize>,
    len: usize,
    /// Limbs of a sum; 0 where only weights are wanted.
    sum_limbs: usize,
}

impl Answers {
    fn new(sets: &[SetInRound<'_>], sum_limbs: usize) -> Self {
        let mut len = 0;
        let mut place = |set: &SetInRound<'_>| {
            let n_sums = sum_limbs * set.centroids.values().len();
            let first = len;
            len += WEIGHT_LIMBS * set.centroids.n_clusters() + n_sums;
            first
        };
        let firsts = sets.iter().map(&mut place).collect();
        Self { firsts, len, sum_limbs }
    }

    fn partials(&self, numbers: &[u64], sets: &[SetInRound<'_>], rows: &DeviceRows) -> Vec<Partial> {
        let has_weights = rows.weights.is_some();
        // The limbs of a sum: 32 bits, then what is above them with its sign.
        let whole = |low: u64, high: u64| i128::from(low) + (i128::from(high as i64) << 32);
        let partial = |(set, first): (&SetInRound<'_>, &usize)| {
            let (n, n_values) = (set.centroids.n_clusters(), set.centroids.values().len());
            let (weights, sums) = numbers[*first..].split_at(WEIGHT_LIMBS * n);
            let mut partial = Partial::empty(n, rows.n_features);
            for cluster in 0..n {
                let count = weights[cluster];
                // A change of the count may be negative; it is added to another count modulo 2^64.
                partial.counts[cluster] = count;
                partial.weights[cluster] = match has_weights {
                    true => whole(weights[n + cluster], weights[2 * n + cluster]),
                    false => i128::from(count as i64),
                };
            }
            for (value, sum) in partial.sums.iter_mut().enumerate().filter(|_| self.sum_limbs > 0) {
                let limb = |idx: usize| sums[idx * n_values + value];
                *sum = match self.sum_limbs {
                    1 => i128::from(limb(0) as i64),
                    2 => whole(limb(0), limb(1)),
                    _ => whole(limb(0), limb(1)) + (whole(limb(2), limb(3)) << HIGH_LIMB_SHIFT),
                };
            }
            partial
        };
        sets.iter().zip(&self.firsts).map(partial).collect()
    }
}

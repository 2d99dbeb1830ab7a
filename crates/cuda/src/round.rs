//! One round of launches: all sets of a question, what each launch is told, and what comes back.

use crate::gpu::{Buffer, GpuError, Growing, Parcel};
use crate::lloyd::{LloydSet, Plan, describe};
use crate::moves::{MOVE_WORDS, MovesOfSet};
use crate::packed::{PackedCentroids, Parts};
use crate::rows::DeviceRows;
use bytemuck::Zeroable;
use shoal_clustering::Partial;
use shoal_domain::Centroids;

/// A list of rows pays if it leaves out more than a quarter of all.
const LISTED_SHARE_MAX: f64 = 0.75;
/// Limbs of a cluster's count and weight.
const WEIGHT_LIMBS: usize = 3;

/// Some rows that are all that has to be looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsListed {
    /// How many.
    pub(crate) n: usize,
    /// The list, and where the GPU has its length.
    pub(crate) rows: u64,
    pub(crate) n_listed: u64,
}

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
            unsure: Growing::new(),
            moves: Growing::new(),
            counters: Growing::new(),
        }
    }
}

/// A launch of the first kernel, and of the exact one for each of its sets.
struct Step {
    plan: Plan,
    list: Option<RowsListed>,
    n_blocks: u32,
    /// Rows of a block.
    room: usize,
    /// One a set, in the order of the plan.
    exact: Vec<Plan>,
}

impl Step {
    /// Entries of a set's lists.
    fn entries(&self) -> usize {
        self.n_blocks as usize * self.room
    }
}

/// What is launched after the first kernel, for one set.
struct Rest<'s> {
    /// Where the exact kernel finds its set.
    set: u64,
    plan: &'s Plan,
    moves: MovesOfSet,
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
    pub(crate) fn new(rows: &'a DeviceRows, sets: Vec<SetInRound<'a>>, with_sums: bool, scale: f32) -> Self {
        let answers = Answers::new(&sets, if with_sums { rows.sum_limbs() } else { 0 });
        Self { rows, sets, with_sums, scale, answers }
    }

    /// What is to be added to what is remembered of each set, inertia left out.
    pub(crate) fn run(&self, scratch: &mut Scratch) -> Result<Vec<Partial>, GpuError> {
        let gpu = &self.rows.gpu;
        let answers = scratch.answers.with_room(gpu, self.answers.len)?;
        answers.clear_first(self.answers.len)?;
        let steps = self.steps()?;
        // Steps come one after the other, and share what they need besides.
        let most =
            |of: &dyn Fn(&Step) -> usize| steps.iter().map(|step| of(step) * step.plan.sets.len()).max().unwrap_or(0);
        let unsure = scratch.unsure.with_room(gpu, most(&Step::entries))?;
        let moves = scratch.moves.with_room(gpu, MOVE_WORDS * most(&Step::entries))?;
        let counters = scratch.counters.with_room(gpu, 2 * most(&|step| step.n_blocks as usize))?;
        let packed: Vec<[PackedCentroids; 2]> = self.sets.iter().map(|set| self.pack(set)).collect();
        let of_sets = packed.iter().zip(&self.sets);
        let bytes = of_sets.flat_map(|(packed, set)| packed.each_ref().map(|packed| parcel_bytes(packed, set))).sum();
        let base = scratch.parcel.with_room(gpu, bytes)?;
        let mut parcel = Parcel::default();
        let mut launches = Vec::new();
        for step in &steps {
            let mut first: Vec<LloydSet> = Vec::new();
            let mut rest: Vec<Rest<'_>> = Vec::new();
            for (place, (idx, plan)) in step.plan.sets.iter().zip(&step.exact).enumerate() {
                let set = &self.sets[*idx];
                let counters = counters.at(2 * place * step.n_blocks as usize);
                let lists = LloydSet {
                    unsure: unsure.at(place * step.entries()),
                    n_unsure: counters,
                    moves: moves.at(MOVE_WORDS * place * step.entries()),
                    n_moves: counters + u64::from(step.n_blocks) * size_of::<u32>() as u64,
                    labels: set.labels,
                    until: set.until,
                    way: set.way,
                    is_filled: u32::from(set.is_filled),
                    ..LloydSet::zeroed()
                };
                let [one, two] = packed[*idx]
                    .each_ref()
                    .map(|packed| describe(set.centroids, packed, lists, &mut parcel, base.address()));
                first.push(one);
                let mut placed = [two];
                self.rows.kernels.place(plan, &mut placed);
                let exact_set = base.address() + parcel.add(&placed) as u64;
                rest.push(Rest { set: exact_set, plan, moves: self.moves(*idx, &lists, step, answers) });
            }
            self.rows.kernels.place(&step.plan, &mut first);
            launches.push((base.address() + parcel.add(&first) as u64, step, rest));
        }
        // SAFETY: the answers are read before the parcel goes, or an error has ended the round, and the GPU with it.
        unsafe { base.write_from(0, parcel.bytes())? };
        for (sets, step, rest) in launches {
            self.launch(sets, &step.plan, step)?;
            for Rest { set, plan, moves } in rest {
                self.launch(set, plan, step)?;
                crate::moves::launch(self.rows, &moves)?;
            }
        }
        let numbers = answers.read(0, self.answers.len)?;
        Ok(self.answers.partials(&numbers, &self.sets, self.rows))
    }

    /// Sets most of whose rows have to be looked at share the read of all rows; the others go their own way, and those
    /// without any stale row nowhere.
    fn steps(&self) -> Result<Vec<Step>, GpuError> {
        let kernels = self.rows.kernels;
        let listed = |set: &SetInRound<'_>| {
            set.stale.filter(|stale| (stale.n as f64) < LISTED_SHARE_MAX * self.rows.n_rows as f64)
        };
        let with_idx = || self.sets.iter().enumerate();
        let dense: Vec<(usize, &Centroids)> =
            with_idx().filter(|(_, set)| listed(set).is_none()).map(|(idx, set)| (idx, set.centroids)).collect();
        let mut plans: Vec<(Plan, Option<RowsListed>)> =
            kernels.plan(&dense).into_iter().map(|plan| (plan, None)).collect();
        for (idx, set) in with_idx() {
            if let Some(stale) = listed(set).filter(|stale| stale.n > 0) {
                plans.push((kernels.plan_of(idx, set.centroids, Parts::One), Some(stale)));
            }
        }
        let step = |(plan, list): (Plan, Option<RowsListed>)| {
            let n_rows = list.map_or(self.rows.n_rows, |list| list.n);
            let (n_blocks, room) = kernels.grid(self.rows.gpu.as_ref(), &plan, n_rows)?;
            let exact = |idx: &usize| kernels.plan_of(*idx, self.sets[*idx].centroids, Parts::Two);
            let exact = plan.sets.iter().map(exact).collect();
            Ok(Step { plan, list, n_blocks, room, exact })
        };
        plans.into_iter().map(step).collect()
    }

    fn pack(&self, set: &SetInRound<'_>) -> [PackedCentroids; 2] {
        [Parts::One, Parts::Two]
            .map(|parts| PackedCentroids::new(set.centroids, self.rows.kernels.n_steps(), self.scale, parts))
    }

    /// The moves that the kernels of a step put down for a set, and where they are added.
    fn moves(&self, idx: usize, lists: &LloydSet, step: &Step, answers: &Buffer<u64>) -> MovesOfSet {
        let first = self.answers.firsts[idx];
        let n_clusters = self.sets[idx].centroids.n_clusters();
        MovesOfSet {
            moves: lists.moves,
            n_moves: lists.n_moves,
            n_segments: step.n_blocks,
            room: step.room,
            n_clusters,
            sums: self.with_sums.then(|| answers.at(first + WEIGHT_LIMBS * n_clusters)),
            weights: answers.at(first),
        }
    }

    fn launch(&self, sets: u64, plan: &Plan, step: &Step) -> Result<(), GpuError> {
        let mut pass = self.rows.pass(self.scale);
        (pass.sets, pass.room) = (sets, step.room as u32);
        if let Some(list) = step.list {
            (pass.list, pass.n_listed) = (list.rows, list.n_listed);
        }
        self.rows.kernels.launch(self.rows.gpu.as_ref(), plan, step.n_blocks, pass)
    }
}

/// What a set takes in a parcel, once, with all that lines it up.
fn parcel_bytes(packed: &PackedCentroids, set: &SetInRound<'_>) -> usize {
    let n_floats = packed.half_norms.len() + set.centroids.values().len();
    size_of_val(&packed.fragments[..]) + n_floats * size_of::<f32>() + size_of::<LloydSet>() + 4 * 16
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

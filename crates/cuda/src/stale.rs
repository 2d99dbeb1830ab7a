//! Which rows may have another label than they had: those whose mark the centroids have passed on their way.

use crate::gpu::{GpuError, Growing, Launch};
use crate::lloyd::SETS_MAX;
use crate::rows::DeviceRows;
use bytemuck::{Pod, Zeroable};

/// One set of centroids, as kernels/stale.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StaleSet {
    until: u64,
    list: u64,
    n_listed: u64,
    way: f32,
    padding: u32,
}

/// A launch, as kernels/stale.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StaleRows {
    n_rows: u32,
    padding: u32,
    sets: [StaleSet; SETS_MAX],
}

const _: () = assert!(size_of::<StaleSet>() == 32 && size_of::<StaleRows>() == 8 + 32 * SETS_MAX);

/// Rows that a warp lists at a time, and as many for each warp of a block.
const ROWS_OF_BLOCK: usize = 4096;

/// The marks of a set's rows, and how far its centroids have come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) until: u64,
    pub(crate) way: f32,
}

/// Some rows that are all that has to be looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsListed {
    /// How many; none where only the GPU knows.
    pub(crate) n: Option<usize>,
    /// The list, and where the GPU has its length.
    pub(crate) rows: u64,
    pub(crate) n_listed: u64,
}

/// Lists on the GPU, one after the other, and how many entries each has.
pub(crate) struct Lists {
    rows: Growing<u32>,
    n_listed: Growing<u32>,
}

impl Lists {
    pub(crate) fn new() -> Self {
        Self { rows: Growing::new(), n_listed: Growing::new() }
    }

    /// Lists the stale rows of each set that has marks. A single set's number of them stays on the GPU, whose kernels see
    /// by themselves whether the list pays, so nobody waits for it.
    pub(crate) fn list(
        &mut self,
        rows: &DeviceRows,
        marks: &[Option<Marks>],
    ) -> Result<Vec<Option<RowsListed>>, GpuError> {
        if marks.iter().all(Option::is_none) {
            return Ok(vec![None; marks.len()]);
        }
        let gpu = rows.gpu.as_ref();
        let lists = self.rows.with_room(&rows.gpu, rows.n_rows * marks.len())?;
        let n_listed = self.n_listed.with_room(&rows.gpu, marks.len())?;
        n_listed.clear_first(marks.len())?;
        let at = |idx: usize| (lists.at(idx * rows.n_rows), n_listed.at(idx));
        let set = |(idx, marks): (usize, &Option<Marks>)| {
            let Marks { until, way } = (*marks)?;
            let (list, n_listed) = at(idx);
            Some(StaleSet { until, list, n_listed, way, padding: 0 })
        };
        let sets: Vec<StaleSet> = marks.iter().enumerate().filter_map(set).collect();
        let n_blocks = (rows.n_rows.div_ceil(ROWS_OF_BLOCK) as u32).min(gpu.n_processors() * 8);
        for sets in sets.chunks(SETS_MAX) {
            let mut stale = StaleRows { n_rows: rows.n_rows as u32, ..StaleRows::zeroed() };
            stale.sets[..sets.len()].copy_from_slice(sets);
            let (grid, parameters) = ((n_blocks, sets.len() as u32, 1), bytemuck::bytes_of(&stale));
            let launch = Launch { kernel: "list_stale", grid, shared_bytes: 0, parameters };
            // SAFETY: the structure is the kernel's; a list has room for all rows.
            unsafe { gpu.launch(&launch)? };
        }
        let counts = match marks.len() {
            1 => vec![None],
            n => n_listed.read(0, n)?.into_iter().map(|n| Some(n as usize)).collect(),
        };
        let listed = |(idx, n): (usize, Option<usize>)| {
            let (rows, n_listed) = at(idx);
            marks[idx].is_some().then_some(RowsListed { n, rows, n_listed })
        };
        Ok(counts.into_iter().enumerate().map(listed).collect())
    }
}

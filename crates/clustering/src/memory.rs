//! What engines remember between two Lloyd passes, as far as they have it in common: how far centroids have travelled,
//! and which memory serves which set of centroids.
//!
//! A row's bound (Hamerly, "Making k-means even faster", 2010, reduced to one number) is kept as a mark on the way that
//! centroids have travelled since the memory began, so that a row which stays as it was costs a comparison and no write.
//!
//! None of this shows in an answer. A memory is true of its labels, whatever they are, and any set of centroids may go on
//! from any memory of its shape; a better match only leaves more rows alone.

use shoal_domain::{Centroids, Preparation};

/// Relative slack of bounds, well above the rounding of the few float32 operations that they go through.
const SLACK: f64 = 1.0 / (1 << 20) as f64;

/// The way of a set of centroids since a memory began.
#[derive(Debug, Clone)]
pub struct Journey {
    /// The centroids of the last pass.
    centroids: Centroids,
    /// How far two centroids may have come towards each other since the memory began.
    travelled: f64,
}

impl Journey {
    /// Begins here.
    pub fn new(centroids: &Centroids) -> Self {
        Self { centroids: centroids.clone(), travelled: 0.0 }
    }

    /// The centroids of the last pass.
    pub fn centroids(&self) -> &Centroids {
        &self.centroids
    }

    /// Lets the centroids move on. No two of them can come nearer to each other's rows than by the two longest ways.
    pub fn move_to(&mut self, centroids: &Centroids) {
        let mut longest = [0.0f64; 2];
        for (new, old) in centroids.rows().zip(self.centroids.rows()) {
            let differences = new.iter().zip(old).map(|(new, old)| f64::from(*new) - f64::from(*old));
            let square: f64 = differences.map(|difference| difference * difference).sum();
            let way = square.sqrt();
            if way > longest[0] {
                longest = [way, longest[0]];
            } else if way > longest[1] {
                longest[1] = way;
            }
        }
        self.travelled += longest[0] + longest[1];
        self.centroids = centroids.clone();
    }

    /// Where the centroids are on their way: rounded down, where marks are counted from, and rounded up, where they are
    /// compared with, `tie` being a difference of distances that float64 may not see ([`tie`]).
    pub fn way(&self, tie: f64) -> Way {
        let here = (self.travelled * (1.0 - SLACK)) as f32;
        Way { floor: here, ceiling: ((self.travelled + tie) * (1.0 + SLACK)) as f32 }
    }
}

/// The way of centroids, in float32.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Where the mark of a row is counted from.
    pub floor: f32,
    /// A row is certain of its label while its mark is greater.
    pub ceiling: f32,
}

impl Way {
    /// The mark of a row that is ahead so much: not a number, and so never greater, where the bound is none.
    #[inline(always)]
    pub fn mark(self, ahead: f32) -> f32 {
        (ahead + self.floor) * (1.0 - SLACK as f32)
    }
}

/// A difference of distances that float64 may take for none, twice over: d terms of squares of at most the diameter.
pub fn tie(preparation: &Preparation) -> f64 {
    libm::ldexp((preparation.n_features() + 8) as f64 * preparation.diameter(), -50)
}

/// What an engine remembers of all rows under one set of centroids.
pub trait Memory: Sized {
    /// The way of its centroids.
    fn journey(&mut self) -> &mut Journey;

    /// What it takes.
    fn bytes(&self) -> usize;
}

/// The memories of a shard, within a limit.
#[derive(Debug)]
pub struct Memories<M> {
    /// The one that was used last comes last.
    held: Vec<M>,
    bytes_max: usize,
}

impl<M: Memory> Memories<M> {
    /// None yet, and never more than so many bytes of them.
    pub fn new(bytes_max: usize) -> Self {
        Self { held: Vec::new(), bytes_max }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    fn held_bytes(&self) -> usize {
        self.held.iter().map(M::bytes).sum()
    }

    /// Takes out a memory for each set, the one whose centroids are nearest, or a fresh one while there is room. `bytes_of`
    /// says what a fresh one would take, and `fresh` makes it, if the engine can have one of that set.
    pub fn take<E>(
        &mut self,
        sets: &[Centroids],
        bytes_of: impl Fn(&Centroids) -> usize,
        fresh: impl Fn(&Centroids) -> Result<Option<M>, E>,
    ) -> Result<Vec<Option<M>>, E> {
        let mut taken: Vec<Option<M>> = sets.iter().map(|set| self.take_nearest(set)).collect();
        let mut bytes: usize = taken.iter().flatten().map(M::bytes).sum();
        for (memory, set) in taken.iter_mut().zip(sets) {
            if let Some(memory) = memory {
                memory.journey().move_to(set);
                continue;
            }
            let bytes_more = bytes_of(set);
            while !self.held.is_empty() && bytes + bytes_more + self.held_bytes() > self.bytes_max {
                self.held.remove(0);
            }
            if bytes + bytes_more <= self.bytes_max {
                *memory = fresh(set)?;
                bytes += memory.as_ref().map_or(0, M::bytes);
            }
        }
        Ok(taken)
    }

    fn take_nearest(&mut self, set: &Centroids) -> Option<M> {
        let shape = (set.n_clusters(), set.n_features());
        let mut nearest: Option<(f64, usize)> = None;
        for (idx, memory) in self.held.iter_mut().enumerate() {
            let centroids = memory.journey().centroids();
            if (centroids.n_clusters(), centroids.n_features()) == shape {
                let shift = centroids.shift_squared(set);
                if nearest.is_none_or(|(least, _)| shift < least) {
                    nearest = Some((shift, idx));
                }
            }
        }
        nearest.map(|(_, idx)| self.held.remove(idx))
    }

    /// Puts memories back after a pass.
    pub fn put_back(&mut self, memories: impl Iterator<Item = M>) {
        self.held.extend(memories);
        // Questions that came at the same time may each have made as many as there is room for.
        while self.held_bytes() > self.bytes_max {
            self.held.remove(0);
        }
    }
}

//! Disjoint sets.

/// Sets of the numbers below `n`, each by itself at first. Tarjan (1975), by halving of paths and the smaller number as the root, so
/// that which number stands for a set does not depend on the order of the unions.
pub(super) struct UnionFind {
    parents: Vec<usize>,
}

impl UnionFind {
    pub(super) fn new(n: usize) -> Self {
        Self { parents: (0..n).collect() }
    }

    /// The smallest number of the set.
    pub(super) fn root(&mut self, mut number: usize) -> usize {
        while self.parents[number] != number {
            self.parents[number] = self.parents[self.parents[number]];
            number = self.parents[number];
        }
        number
    }

    pub(super) fn unite(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other)] = one.min(other);
    }
}

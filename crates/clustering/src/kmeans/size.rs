//! How much one question carries.

/// Numbers that one question may carry down; a partial carries four times as many bytes up. 1 Mi centroids values are
/// 4 MiB down and 16 MiB up, well under what a message may have (`shoal_wire::MAX_MESSAGE_BYTES`).
const MAX_VALUES_PER_QUESTION: usize = 1 << 20;

/// How many sets of centroids, of so many values each, one question may hold; at least 1.
pub(super) fn sets_per_question(n_values: usize) -> usize {
    (MAX_VALUES_PER_QUESTION / n_values.max(1)).max(1)
}

/// An answer that can be put together with another one of the same question.
///
/// Implementations are associative and commutative to the last bit, or they keep what they hold under its block's
/// number and leave the adding to a later fold in block order. Either way the result does not depend on which worker
/// answered first, on how many workers there are, or on how often an answer was asked for again.
pub trait Merge {
    /// Takes `other` into `self`.
    fn merge(&mut self, other: Self);
}

//! Memory of the machine that the GPU copies from and to by itself. What does not lie there the driver copies there first,
//! and makes the caller wait meanwhile.

use cudarc::driver::{CudaStream, DriverError, result, sys::CUstream};
use std::slice;

/// What a question and its answer take, with thousands of clusters.
const N_BYTES: usize = 4 << 20;

/// Two pieces of such memory: one for copies to the GPU, one for those from it. Larger copies to the GPU go without, those
/// from it piece by piece.
pub(crate) struct Pinned {
    up: Piece,
    down: Piece,
    /// Bytes of `up` that the GPU may not have copied yet.
    n_pending: usize,
}

struct Piece(*mut u8);

// SAFETY: the memory belongs to the piece, and to no thread.
unsafe impl Send for Piece {}

impl Piece {
    fn new() -> Result<Self, DriverError> {
        // SAFETY: a context is current; whatever the memory holds is a number.
        Ok(Self(unsafe { result::malloc_host(N_BYTES, 0) }?.cast()))
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes are there, and nobody else has them.
        unsafe { slice::from_raw_parts_mut(self.0, N_BYTES) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: it was allocated so. A driver that has failed has nothing to give back.
        let _ = unsafe { result::free_host(self.0.cast()) };
    }
}

impl Pinned {
    /// A context must be current.
    pub(crate) fn new() -> Result<Self, DriverError> {
        Ok(Self { up: Piece::new()?, down: Piece::new()?, n_pending: 0 })
    }

    /// Starts a copy to the GPU.
    ///
    /// # Safety
    ///
    /// The range is allocated, and the source stays as it is until the stream has been waited for.
    pub(crate) unsafe fn upload(&mut self, address: u64, bytes: &[u8], stream: CUstream) -> Result<(), DriverError> {
        let Some(room) = self.up.bytes().get_mut(self.n_pending..self.n_pending + bytes.len()) else {
            // SAFETY: the caller's.
            return unsafe { result::memcpy_htod_async(address, bytes, stream) };
        };
        room.copy_from_slice(bytes);
        self.n_pending += bytes.len();
        // SAFETY: the piece is not written there until the stream has been waited for.
        unsafe { result::memcpy_htod_async(address, room, stream) }
    }

    /// Waits for what was asked of the stream.
    pub(crate) fn finish(&mut self, stream: &CudaStream) -> Result<(), DriverError> {
        stream.synchronize()?;
        self.n_pending = 0;
        Ok(())
    }

    /// Waits for what was asked of the stream, and copies from the GPU.
    ///
    /// # Safety
    ///
    /// The range is allocated.
    pub(crate) unsafe fn download(
        &mut self,
        address: u64,
        bytes: &mut [u8],
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        for (piece, first) in bytes.chunks_mut(N_BYTES).zip((address..).step_by(N_BYTES)) {
            let down = &mut self.down.bytes()[..piece.len()];
            // SAFETY: the caller's; what lies there has been copied on.
            unsafe { result::memcpy_dtoh_async(down, first, stream.cu_stream()) }?;
            self.finish(stream)?;
            piece.copy_from_slice(&self.down.bytes()[..piece.len()]);
        }
        Ok(())
    }
}

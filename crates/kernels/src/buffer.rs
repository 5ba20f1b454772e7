//! Large aligned memory: zeroed, cache-line aligned, on huge pages where the system grants them.
//!
//! Weights and the KV cache are read from end to end at every step; with 4 KiB pages the address translation
//! misses cost a noticeable part of the read bandwidth.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const HUGE_PAGE: usize = 2 << 20;
const CACHE_LINE: usize = 64;

/// A zeroed byte buffer, aligned to a cache line, or to a huge page from half of one on.
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its memory like a `Vec<u8>`; shared access only reads.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Allocates `len` zero bytes. Pages are not touched, so they count as used memory once written.
    ///
    /// # Panics
    /// If `len` exceeds the address space; aborts through the allocator's handler when memory is refused.
    pub fn zeroed(len: usize) -> Self {
        let align = if len >= HUGE_PAGE / 2 {
            HUGE_PAGE
        } else {
            CACHE_LINE
        };
        let layout =
            Layout::from_size_align(len.max(1), align).expect("length fits the address space");
        // SAFETY: the layout has a non-zero size.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        if align == HUGE_PAGE {
            advise_huge_pages(start, len);
        }
        Self {
            start,
            layout: Layout::from_size_align(len, align).unwrap_or(layout),
        }
    }
}

/// Asks for huge pages. A refusal costs speed, not correctness, so the answer is not looked at.
fn advise_huge_pages(start: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the range was just allocated and is owned; the advice does not change its contents.
    unsafe {
        libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, len);
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.layout.size().max(1), self.layout.align())
            .expect("the layout was valid when allocated");
        // SAFETY: allocated by `alloc_zeroed` with this layout.
        unsafe { dealloc(self.start.as_ptr(), layout) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `layout.size()` bytes were allocated and zeroed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_and_aligned() {
        for len in [0, 1, 63, 4096, HUGE_PAGE / 2, 3 * HUGE_PAGE + 5] {
            let mut buf = AlignedBuf::zeroed(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_ptr() as usize % CACHE_LINE, 0);
            assert!(buf.iter().all(|&byte| byte == 0));
            buf.fill(7);
        }
    }
}

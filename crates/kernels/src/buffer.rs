//! Large aligned memory: zeroed, cache-line aligned, on huge pages where the system grants them.
//!
//! Weights and the KV cache are read from end to end at every step; with 4 KiB pages the address translation
//! misses cost a noticeable part of the read bandwidth.
//!
//! On Unix a large buffer is mapped from the system and not taken from the allocator. The allocator has to zero memory
//! of this alignment itself, and would touch all of it: on one thread, before huge pages were asked for, and whether it
//! is ever used or not.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const HUGE_PAGE: usize = 2 << 20;
const CACHE_LINE: usize = 64;

/// A zeroed byte buffer, aligned to a cache line, or to a huge page from half of one on.
pub struct AlignedBuf {
    start: NonNull<u8>,
    len: usize,
    memory: Memory,
}

/// Where the bytes come from, and go back to.
enum Memory {
    Allocator(Layout),
    #[cfg(unix)]
    System {
        base: *mut libc::c_void,
        len: usize,
    },
}

// SAFETY: the buffer owns its memory like a `Vec<u8>`; shared access only reads.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Allocates `len` zero bytes. Pages of a large buffer are not touched, so they count as used memory once written.
    ///
    /// # Panics
    /// If `len` exceeds the address space; ends the process through the allocator's handler when memory is refused.
    pub fn zeroed(len: usize) -> Self {
        #[cfg(unix)]
        if len >= HUGE_PAGE / 2 {
            return Self::mapped(len);
        }
        let layout =
            Layout::from_size_align(len.max(1), CACHE_LINE).expect("length fits the address space");
        // SAFETY: the layout has a non-zero size.
        let start = unsafe { alloc_zeroed(layout) };
        Self {
            start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)),
            len,
            memory: Memory::Allocator(layout),
        }
    }

    /// Maps fresh pages, which are zero, and asks for huge ones.
    #[cfg(unix)]
    fn mapped(len: usize) -> Self {
        let layout =
            Layout::from_size_align(len, HUGE_PAGE).expect("length fits the address space");
        // Room to align in.
        let map_len = len
            .checked_add(HUGE_PAGE)
            .expect("length fits the address space");
        // SAFETY: an anonymous mapping at an address of the system's choice touches no memory that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            handle_alloc_error(layout);
        }
        let start = base.cast::<u8>();
        let start = start.wrapping_add(start.align_offset(HUGE_PAGE));
        #[cfg(target_os = "linux")]
        // A refusal costs speed, not correctness, so the answer is not looked at.
        // SAFETY: the range was just mapped and is owned; the advice does not change its contents.
        unsafe {
            libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE);
        }
        Self {
            start: NonNull::new(start).expect("inside the mapping"),
            len,
            memory: Memory::System { base, len: map_len },
        }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        match self.memory {
            // SAFETY: allocated by `alloc_zeroed` with this layout.
            Memory::Allocator(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
            #[cfg(unix)]
            // The mapping is whole and ours, so this cannot fail.
            // SAFETY: mapped with this length, and nobody refers to it any more.
            Memory::System { base, len } => unsafe {
                libc::munmap(base, len);
            },
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes were allocated and zeroed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
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

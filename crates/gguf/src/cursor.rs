//! A buffered walk through the header that checks every number before it is used.
//!
//! Whatever reads a length or a count out of a file comes through here, so that the two limits stand in one place:
//! the bytes left in the file, and the memory that a header may take.

use std::io;

use crate::source::Source;
use crate::{Error, Place, Problem};

/// The memory that a header may take once read. The largest vocabularies in use (260 thousand tokens, 500 thousand
/// merges) take a fifth of it. A limit of its own is needed because an empty string is 8 bytes in a file and 24 in
/// memory, and because the size of a sparse file limits nothing.
pub(crate) const HEADER_MEMORY_MAX: u64 = 256 << 20;

/// What the allocator takes beside the bytes asked for.
const ALLOCATION_BYTES: u64 = 32;

/// Large enough that system calls do not show, small enough to stay in the cache.
const BUFFER_BYTES: usize = 64 << 10;

pub(crate) struct Cursor<'a> {
    source: &'a Source,
    file: &'a str,
    file_bytes: u64,
    /// File offset of the first byte of `buffer`.
    buffer_offset: u64,
    buffer: Vec<u8>,
    /// Index of the next byte in `buffer`.
    next: usize,
    memory_left: u64,
    /// What is being read, for errors.
    pub(crate) place: Place,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a Source, file: &'a str, file_bytes: u64) -> Self {
        Self {
            source,
            file,
            file_bytes,
            buffer_offset: 0,
            buffer: Vec::new(),
            next: 0,
            memory_left: HEADER_MEMORY_MAX,
            place: Place::Header,
        }
    }

    /// Where the next byte stands in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.buffer_offset + self.next as u64
    }

    /// The bytes between here and the end of the file.
    pub(crate) fn left(&self) -> u64 {
        self.file_bytes - self.offset()
    }

    /// The error for something wrong at `offset`, in what is being read.
    #[cold]
    pub(crate) fn malformed(&self, offset: u64, problem: Problem) -> Error {
        Error::Malformed {
            place: self.place.clone(),
            offset,
            problem,
            file: self.file.to_owned(),
        }
    }

    /// Takes memory from the header's allowance, before it is allocated.
    pub(crate) fn spend_memory(&mut self, bytes: u64) -> Result<(), Error> {
        match self.memory_left.checked_sub(bytes) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(self.malformed(
                self.offset(),
                Problem::TooMuchMemory {
                    most: HEADER_MEMORY_MAX,
                },
            )),
        }
    }

    /// The next `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        if let Some(bytes) = self.buffer[self.next..].first_chunk() {
            self.next += N;
            return Ok(*bytes);
        }
        self.fill(N)?;
        let bytes = self.buffer[self.next..].first_chunk();
        self.next += N;
        Ok(*bytes.expect("`fill` gives what it is asked for. This is a bug."))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.take().map(u64::from_le_bytes)
    }

    /// A count of things of which each takes at least `bytes_min` bytes of the file.
    pub(crate) fn count(&mut self, what: &'static str, bytes_min: u64) -> Result<usize, Error> {
        let offset = self.offset();
        let count = self.u64()?;
        let most = self.left() / bytes_min;
        match usize::try_from(count) {
            Ok(n) if count <= most => Ok(n),
            _ => Err(self.malformed(offset, Problem::TooMany { what, count, most })),
        }
    }

    /// An empty vector for `count` items, a number that [`Cursor::count`] gave.
    ///
    /// The items' memory is spent in full, but never is more reserved than there are bytes left in the file.
    pub(crate) fn vec<T>(&mut self, count: usize) -> Result<Vec<T>, Error> {
        let item_bytes = size_of::<T>() as u64;
        let bytes = (count as u64).saturating_mul(item_bytes);
        self.spend_memory(bytes.saturating_add(ALLOCATION_BYTES))?;
        let reserve_max = usize::try_from(self.left() / item_bytes).unwrap_or(usize::MAX);
        Ok(Vec::with_capacity(count.min(reserve_max)))
    }

    /// `count` numbers of `N` bytes each; `count` came from [`Cursor::count`].
    pub(crate) fn numbers<T, const N: usize>(
        &mut self,
        count: usize,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut numbers = self.vec(count)?;
        while numbers.len() < count {
            self.fill(N)?;
            let (chunks, _) = self.buffer[self.next..].as_chunks();
            let chunks = &chunks[..chunks.len().min(count - numbers.len())];
            numbers.extend(chunks.iter().copied().map(&decode));
            self.next += chunks.len() * N;
        }
        Ok(numbers)
    }

    /// Text: its length in 8 bytes, then UTF-8 without an end mark.
    pub(crate) fn string(&mut self) -> Result<String, Error> {
        let len = self.u64()?;
        self.text(len)
    }

    /// Text of at most `most` bytes.
    pub(crate) fn short_string(&mut self, what: &'static str, most: u64) -> Result<String, Error> {
        let offset = self.offset();
        let len = self.u64()?;
        if len > most {
            return Err(self.malformed(offset, Problem::TooLong { what, len, most }));
        }
        self.text(len)
    }

    fn text(&mut self, len: u64) -> Result<String, Error> {
        let offset = self.offset();
        let left = self.left();
        if len > left {
            return Err(self.malformed(offset - 8, Problem::Truncated { want: len, left }));
        }
        self.spend_memory(len.saturating_add(ALLOCATION_BYTES))?;
        let len = usize::try_from(len).expect("the memory allowance fits a usize. This is a bug.");
        let buffered = &self.buffer[self.next..];
        let bytes = if let Some(text) = buffered.get(..len) {
            self.next += len;
            text.to_vec()
        } else {
            self.long_bytes(len)?
        };
        String::from_utf8(bytes).map_err(|error| {
            let valid_bytes = error.utf8_error().valid_up_to();
            self.malformed(offset, Problem::NotUtf8 { valid_bytes })
        })
    }

    /// `len` bytes that are not all in the buffer; the caller has checked that the file holds them.
    fn long_bytes(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        let offset = self.offset();
        let mut bytes = vec![0; len];
        self.read(offset, &mut bytes)?;
        self.buffer.clear();
        self.next = 0;
        self.buffer_offset = offset + len as u64;
        Ok(bytes)
    }

    /// Makes at least `want` bytes available in the buffer; `want` is the size of a number.
    fn fill(&mut self, want: usize) -> Result<(), Error> {
        let left = self.left();
        if want as u64 > left {
            let want = want as u64;
            return Err(self.malformed(self.offset(), Problem::Truncated { want, left }));
        }
        if self.buffer.len() - self.next >= want {
            return Ok(());
        }
        let offset = self.offset();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(
            usize::try_from(left)
                .unwrap_or(BUFFER_BYTES)
                .min(BUFFER_BYTES),
            0,
        );
        self.read(offset, &mut buffer)?;
        (self.buffer, self.buffer_offset, self.next) = (buffer, offset, 0);
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.source.read_exact_at(offset, out).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                let want = out.len() as u64;
                return self.malformed(offset, Problem::Truncated { want, left: 0 });
            }
            Error::Io {
                action: "read the model's header",
                file: self.file.to_owned(),
                source,
            }
        })
    }
}

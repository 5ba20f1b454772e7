//! How much room a disk has, and taking it. The crate's only platform code beside reading and writing by position.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::Error;

/// Left on the disk for everything else.
pub(crate) const SPARE_BYTES: u64 = 64 << 20;

/// Bytes that are free on the disk of a directory that may not be there yet; `None` where the system does not tell.
pub(crate) fn free(directory: &Path) -> Option<u64> {
    let there = directory.ancestors().find(|it| it.is_dir());
    of(there.unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn of(directory: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(directory).ok()?;
    about.f_bavail.checked_mul(about.f_frsize)
}

#[cfg(not(unix))]
fn of(_: &Path) -> Option<u64> {
    None
}

/// Gives a file its length, and takes the room for it where the file system can.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    if bytes == 0 {
        return Ok(());
    }
    allocate(file, bytes)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Some file systems take room only when they are written to.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allocate(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// An error of writing, which may be that there is no room.
pub(crate) fn writing(error: io::Error, needs: u64, directory: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::DiskFull {
                needs,
                free: free(directory).unwrap_or(0),
            }
        }
        _ => Error::io("write to the directory of the models")(error),
    }
}

#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn read_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                out = &mut out[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(windows)]
pub(crate) fn write_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_one() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let told = writing(full, 5 << 30, Path::new(".")).to_string();
        assert!(told.contains("disk is full: 5.0 GiB"), "{told}");
        let other = writing(io::ErrorKind::PermissionDenied.into(), 1, Path::new("."));
        assert!(matches!(other, Error::Io { .. }));
    }

    #[test]
    fn room_is_told_of_a_directory_that_is_not_there_yet() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        assert_eq!(free(&below).is_some(), cfg!(unix));
    }
}

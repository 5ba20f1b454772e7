//! What the host has to do with it: recording, bytes to the GPU and back, on the ways that steps and loads take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use troika_device::Error;

use super::{Course, Series, micros};
use crate::kernels::Roof;
use crate::{Bind, Buffer, Gpu, Key, Recorder};

/// Bytes of a round.
const UPLOAD: usize = 1 << 20;
const DOWNLOAD: usize = 1 << 20;

/// Uploads that are handed over together: a load does not pile up either.
const UPLOADS_PER_SUBMIT: usize = 8;

/// Microseconds that the CPU needs for a dispatch, submissions on the way included.
pub(super) fn record_us(
    gpu: &Arc<Gpu>,
    buffer: &Buffer,
    course: &mut Course<'_, '_>,
) -> Result<Series, Error> {
    let mut recorder = Recorder::new(Arc::clone(gpu));
    let once = |rounds: u32| {
        let binds = [Bind::whole(buffer)];
        let started = Instant::now();
        for i in 0..rounds {
            recorder.dispatch(Key::Roof(Roof::Step), &binds, &[i], [1, 1, 1])?;
        }
        recorder.submit();
        let took = started.elapsed();
        gpu.wait()?;
        Ok(took)
    };
    course.series("recording", once, micros)
}

/// 10⁹ bytes a second from the host into a buffer.
pub(super) fn upload_gbs(
    gpu: &Arc<Gpu>,
    buffer: &Buffer,
    course: &mut Course<'_, '_>,
) -> Result<Series, Error> {
    let bytes: Vec<u8> = (0..UPLOAD).map(|i| (i * 31) as u8).collect();
    let n_place = (buffer.bytes().0 as usize / UPLOAD).max(1);
    let once = |rounds: u32| {
        let started = Instant::now();
        for i in 0..rounds as usize {
            gpu.write(buffer, i % n_place * UPLOAD, &bytes);
            if i % UPLOADS_PER_SUBMIT == UPLOADS_PER_SUBMIT - 1 {
                gpu.queue.submit([]);
            }
        }
        gpu.queue.submit([]);
        gpu.wait()?;
        Ok(started.elapsed())
    };
    course.series("to the GPU", once, |rounds, seconds| {
        UPLOAD as f64 * rounds / seconds / 1e9
    })
}

/// 10⁹ bytes a second from a buffer to the host.
pub(super) fn download_gbs(
    gpu: &Arc<Gpu>,
    buffer: &Buffer,
    course: &mut Course<'_, '_>,
) -> Result<Series, Error> {
    /// Rounds that come over at once, at most: what comes lies in memory of the host.
    const ROUNDS: usize = 64;
    let mut recorder = Recorder::new(Arc::clone(gpu));
    let most = ROUNDS.min(buffer.bytes().0 as usize / DOWNLOAD).max(1);
    let once = |rounds: u32| {
        let mut took = Duration::ZERO;
        let mut left = rounds as usize;
        while left > 0 {
            let now = left.min(most);
            let started = Instant::now();
            recorder.read(buffer, 0..now * DOWNLOAD)?;
            took += started.elapsed();
            left -= now;
        }
        Ok(took)
    };
    course.series("from the GPU", once, |rounds, seconds| {
        DOWNLOAD as f64 * rounds / seconds / 1e9
    })
}

/// The first word of a buffer.
pub(super) fn first_word(gpu: &Arc<Gpu>, buffer: &Buffer) -> Result<u32, Error> {
    let bytes = Recorder::new(Arc::clone(gpu)).read(buffer, 0..4)?;
    Ok(bytemuck::pod_read_unaligned(&bytes))
}

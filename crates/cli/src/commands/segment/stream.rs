//! Bare frames from stdin, one after the other, to stdout or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use image::{DynamicImage, RgbImage};
use troika_media::vision::picture::SIDE_MAX;

use crate::exit::WrongUse;
use crate::output::Console;

/// Pixels of a frame: more than any camera's.
const PIXELS_MAX: u64 = 1 << 27;

/// Width and height of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameSize {
    width: u32,
    height: u32,
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once('x').and_then(|(width, height)| {
            Some((width.parse::<u32>().ok()?, height.parse::<u32>().ok()?))
        });
        let Some((width, height)) = sides else {
            return Err("write it as 1280x720".to_owned());
        };
        let sides = 1..=SIDE_MAX;
        let is_bearable = sides.contains(&width)
            && sides.contains(&height)
            && u64::from(width) * u64::from(height) <= PIXELS_MAX;
        match is_bearable {
            true => Ok(Self { width, height }),
            false => Err(format!(
                "a frame has 1 to {SIDE_MAX} pixels a side, and {PIXELS_MAX} at most"
            )),
        }
    }
}

/// A frame's result, and whether another one is wanted.
type Worked = anyhow::Result<(DynamicImage, bool)>;

/// Works on each frame until stdin ends.
///
/// # Errors
/// If stdin ends within a frame, or what comes out cannot be written.
pub(super) fn run(
    size: FrameSize,
    output: &Path,
    console: &Console,
    work: &mut dyn FnMut(&RgbImage) -> Worked,
) -> anyhow::Result<()> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(WrongUse("stdin is a terminal; pipe frames into it".to_owned()).into());
    }
    if output != Path::new("-") {
        let file =
            File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
        return pump(size, &mut stdin.lock(), &mut BufWriter::new(file), work);
    }
    let stdout = io::stdout();
    if console.json || stdout.is_terminal() {
        let what = if console.json { "--json" } else { "a terminal" };
        return Err(WrongUse(format!(
            "{what} and frames cannot share stdout; name a file with -o"
        ))
        .into());
    }
    pump(size, &mut stdin.lock(), &mut stdout.lock(), work)
}

fn pump(
    size: FrameSize,
    from: &mut dyn Read,
    to: &mut dyn Write,
    work: &mut dyn FnMut(&RgbImage) -> Worked,
) -> anyhow::Result<()> {
    let mut frame = RgbImage::new(size.width, size.height);
    loop {
        let have = fill(from, &mut frame).context("cannot read stdin")?;
        match have {
            0 => return Ok(()),
            have if have < frame.len() => bail!(
                "stdin ended within a frame: {have} of {} bytes; is --size {}x{} right, and the format rgb24?",
                frame.len(),
                size.width,
                size.height
            ),
            _ => {}
        }
        let (out, goes_on) = work(&frame)?;
        // Each frame is seen as soon as it is ready.
        let written = to.write_all(out.as_bytes()).and_then(|()| to.flush());
        written.context("cannot write a frame")?;
        if !goes_on {
            return Ok(());
        }
    }
}

/// Reads until the frame is full or there is no more. Returns the bytes that were read.
fn fill(from: &mut dyn Read, frame: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < frame.len() {
        match from.read(&mut frame[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, want) in [
            ("1280x720", Some((1280, 720))),
            ("1x1", Some((1, 1))),
            ("0x4", None),
            ("16384x16384", None),
            ("99999999999x1", None),
            ("1280", None),
            ("1280*720", None),
        ] {
            let want = want.map(|(width, height)| FrameSize { width, height });
            assert_eq!(text.parse().ok(), want, "{text}");
        }
    }

    #[test]
    fn frames_go_through_one_by_one_and_a_torn_one_is_told() {
        let size = FrameSize {
            width: 2,
            height: 1,
        };
        let through = |bytes: &[u8], frames: usize| {
            let (mut out, mut seen) = (Vec::new(), 0);
            let result = pump(size, &mut &*bytes, &mut out, &mut |image| {
                seen += 1;
                Ok((DynamicImage::from(image.clone()).grayscale(), seen < frames))
            });
            (result.map_err(|error| error.to_string()), out)
        };
        let bytes = [9; 18];
        assert_eq!(through(&bytes, 9), (Ok(()), vec![9; 6]));
        assert_eq!(through(&bytes, 2), (Ok(()), vec![9; 4]));
        assert_eq!(through(&[], 9), (Ok(()), vec![]));
        let (result, out) = through(&bytes[..8], 9);
        assert!(result.is_err_and(|said| said.contains("2 of 6 bytes")));
        assert_eq!(out, [9; 2]);
    }
}

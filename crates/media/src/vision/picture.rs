//! Pictures from files and to files: JPEG, PNG, WebP.
//!
//! A camera's note on how it was held (EXIF) is followed, transparent parts become white, and nothing is allocated
//! because a file says that it is large.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Cursor, Seek, Write as _};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use super::Error;

/// Pixels of a side.
pub const SIDE_MAX: u32 = 16_384;
/// Bytes of a picture in memory.
const BYTES_MAX: u64 = 512 << 20;
/// Bytes of a picture's file.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Of JPEG files that are written, from 1 to 100.
const JPEG_QUALITY: u8 = 92;

/// Reads a picture from its file, upright.
///
/// # Errors
/// If the file cannot be read, is no picture or too large a one.
pub fn open(path: &Path) -> Result<RgbImage, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let name = path.display().to_string();
    // A device or a pipe may never end, and cannot be sought in.
    if !metadata.is_file() {
        let reason = "it is no regular file".to_owned();
        return Err(Error::NoPicture { name, reason });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large(
            &name,
            format!("its file has {} bytes", metadata.len()),
        ));
    }
    read(BufReader::new(file), &name)
}

/// Reads a picture from the bytes of a file; `name` is for messages.
///
/// # Errors
/// As [`open`].
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage, Error> {
    read(Cursor::new(bytes), name)
}

fn read(from: impl BufRead + Seek, name: &str) -> Result<RgbImage, Error> {
    let refused = |error: &ImageError| match error {
        ImageError::Limits(limit) => too_large(name, limit.to_string()),
        error => Error::NoPicture {
            name: name.to_owned(),
            reason: error.to_string(),
        },
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(BYTES_MAX);
    let mut reader = ImageReader::new(from)
        .with_guessed_format()
        .map_err(|error| refused(&error.into()))?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| refused(&error))?;
    if decoder.total_bytes() > BYTES_MAX {
        let (width, height) = decoder.dimensions();
        return Err(too_large(name, format!("it has {width}x{height} pixels")));
    }
    // A damaged note is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| refused(&error))?;
    image.apply_orientation(orientation);
    Ok(opaque(image))
}

fn too_large(name: &str, reason: String) -> Error {
    Error::TooLarge {
        name: name.to_owned(),
        reason,
        side_max: SIDE_MAX,
        mib_max: BYTES_MAX >> 20,
    }
}

/// The picture on white paper.
fn opaque(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let over = |value: u8| {
            let sum = u32::from(value) * u32::from(alpha) + 255 * u32::from(255 - alpha);
            ((sum + 127) / 255) as u8
        };
        image::Rgb([over(red), over(green), over(blue)])
    })
}

/// Which sort of file a name asks for.
///
/// # Errors
/// If its ending is none of those that are written, or cannot hold transparent parts that the picture has.
pub fn format(path: &Path, has_alpha: bool) -> Result<ImageFormat, Error> {
    let format = ImageFormat::from_path(path).ok().filter(|format| {
        matches!(
            format,
            ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP
        )
    });
    let format = format.ok_or_else(|| Error::Format {
        path: path.to_owned(),
        reason: "its name has to end in .png, .jpg or .webp".to_owned(),
    })?;
    match format == ImageFormat::Jpeg && has_alpha {
        true => Err(Error::Format {
            path: path.to_owned(),
            reason: "JPEG has no transparent parts; name a .png or .webp".to_owned(),
        }),
        false => Ok(format),
    }
}

/// Writes a picture as its file's name says. There is no half-written file at any time.
///
/// # Errors
/// If the name's ending is unknown, JPEG shall be transparent, or the file cannot be written.
pub fn save(image: &DynamicImage, path: &Path) -> Result<(), Error> {
    let format = format(path, image.color().has_alpha())?;
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
    let mut out = BufWriter::new(&mut file);
    let written = match format {
        ImageFormat::Jpeg => {
            image.write_with_encoder(JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY))
        }
        // The encoders of these want to seek.
        format => {
            let mut bytes = Cursor::new(Vec::new());
            image
                .write_to(&mut bytes, format)
                .and_then(|()| out.write_all(bytes.get_ref()).map_err(ImageError::IoError))
        }
    };
    match written {
        Ok(()) => {}
        Err(ImageError::IoError(error)) => return Err(io(error)),
        Err(error) => {
            return Err(Error::Format {
                path: path.to_owned(),
                reason: error.to_string(),
            });
        }
    }
    out.flush().map_err(io)?;
    drop(out);
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// If it has no pixels.
pub fn png(image: &DynamicImage) -> Result<Vec<u8>, Error> {
    let mut bytes = Cursor::new(Vec::new());
    match image.write_to(&mut bytes, ImageFormat::Png) {
        Ok(()) => Ok(bytes.into_inner()),
        Err(error) => Err(Error::NoPicture {
            name: "the picture".to_owned(),
            reason: error.to_string(),
        }),
    }
}

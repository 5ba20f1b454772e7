//! `POST /api/troika/vision`: what a model of pictures sees in one, or the picture with another background.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::{DynamicImage, RgbImage};
use serde_json::{Value, json};
use troika_media::vision::background::{Background, Colour, Composer};
use troika_media::vision::{Error, Mask, Model, matte, picture};

use super::ask::{self, Accepts, Params, quoted};
use super::outlet::{Failed, Outlet};
use super::shelf::{Kind, Loaded};
use super::{Door, Handled, caller};
use crate::job::Caller;
use crate::{ApiError, ErrorKind};

/// Labels of a picture, if nobody says how many.
const TOP: usize = 5;
/// How much a background is blurred, in percent, if nobody says.
const STRENGTH: u32 = 50;

/// What is wanted of a picture.
#[derive(Clone)]
enum Wanted {
    /// What the model sees.
    Seen { mask: MaskForm, top: usize },
    /// The picture with another background.
    Background(Background),
    /// White where the foreground is.
    Matte,
}

/// How a mask is written in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MaskForm {
    /// Lengths of runs of background and foreground, on the model's grid.
    Runs,
    /// A grey picture of the same size.
    Png,
    /// How much is foreground, alone.
    Nothing,
}

/// What a model gives.
enum Seen {
    Told(Value),
    Png(Vec<u8>),
}

/// Answers a request with a picture.
pub(super) async fn look(
    State(door): State<Door>,
    extension: Option<Extension<Caller>>,
    request: Request,
) -> Handled {
    let wished = door.wished(&caller(extension))?;
    let headers = request.headers().clone();
    let (bytes, params) = ask::picture(request).await?;
    let wanted = wanted(&params, Accepts::of(&headers))?;
    let wants_picture = !matches!(wanted, Wanted::Seen { .. });
    let name = params.text("model").map(str::to_owned);
    let order = door.order(wished, move |shelf| match name {
        Some(name) => shelf.named(&name),
        None if wants_picture => shelf.first(Kind::Segment),
        None => shelf.only_one_that_sees(),
    });
    let order = order.await?;
    let mut running = door.media.submit(order, move |model, outlet| {
        let kind = model.kind();
        let Loaded::Vision(model) = model else {
            let message = format!("this model is for {}, and sees nothing", kind.what());
            return Err(ApiError::invalid(message).at("model").into());
        };
        see(model, kind, &bytes, &wanted, outlet)
    })?;
    let seen = running.next().await?;
    // Its time and its joules are told after it.
    running.next().await?;
    match seen {
        Some(Seen::Told(mut told)) => {
            told["model"] = running.name.clone().into();
            told["troika"] = running.troika();
            Ok(Json(told).into_response())
        }
        Some(Seen::Png(bytes)) => {
            let mut response = Response::new(Body::from(bytes));
            let png = header::HeaderValue::from_static("image/png");
            response.headers_mut().insert(header::CONTENT_TYPE, png);
            running.report_in(&mut response);
            Ok(response)
        }
        None => Err(ApiError::internal().into()),
    }
}

/// What the parameters ask for. Who names a background gets a picture, unless JSON is what it takes.
fn wanted(params: &Params, accepts: Accepts<'_>) -> Result<Wanted, ApiError> {
    let background = params.text("background");
    let wants_json = accepts.names("application/json");
    let wants_picture = accepts.names("image/png") || background.is_some();
    let strength = params.number("strength", 1..=100)?.unwrap_or(STRENGTH);
    let top = params.number("top", 1..=1000)?.unwrap_or(TOP);
    let mask = match params.text("mask") {
        None | Some("runs") => MaskForm::Runs,
        Some("png") => MaskForm::Png,
        Some("none") => MaskForm::Nothing,
        Some(other) => {
            let message = format!(
                "`mask` is `{}`; it must be runs, png or none",
                quoted(other)
            );
            return Err(ApiError::invalid(message).at("mask"));
        }
    };
    let blur = || Background::Blur(f64::from(strength) / 100.0);
    let change = match background.unwrap_or("blur") {
        "blur" => Wanted::Background(blur()),
        "remove" => Wanted::Background(Background::Remove),
        "mask" => Wanted::Matte,
        colour => match colour.parse() {
            Ok(Colour(colour)) => Wanted::Background(Background::Colour(colour)),
            Err(_) => {
                let message = format!(
                    "`background` is `{}`; it must be blur, remove, mask, or a colour as #1e90ff",
                    quoted(colour)
                );
                return Err(ApiError::invalid(message).at("background"));
            }
        },
    };
    Ok(match wants_picture && !wants_json {
        true => change,
        false => Wanted::Seen { mask, top },
    })
}

/// Looks at a picture, on the model's thread.
fn see(
    model: &mut Model,
    kind: Kind,
    bytes: &Bytes,
    wanted: &Wanted,
    outlet: &mut Outlet<Seen>,
) -> Result<(), Failed> {
    let image = picture::decode(bytes, "the picture").map_err(failed)?;
    outlet.check()?;
    let seen = match (kind, wanted) {
        (Kind::Segment, wanted) => {
            let mask = outlet.timed(|| model.segment(&image)).map_err(failed)?;
            segmented(&image, &mask, wanted, outlet)?
        }
        (_, Wanted::Background(_) | Wanted::Matte) => {
            let message = format!(
                "this model is for {}, and gives no picture; ask for application/json, without `background`",
                kind.what()
            );
            return Err(ApiError::invalid(message).at("background").into());
        }
        (Kind::Detect, Wanted::Seen { .. }) => {
            let boxes = outlet.timed(|| model.detect(&image)).map_err(failed)?;
            told(kind, &image, "boxes", json!(boxes))
        }
        (_, Wanted::Seen { top, .. }) => {
            let mut labels = outlet.timed(|| model.classify(&image)).map_err(failed)?;
            labels.truncate(*top);
            told(kind, &image, "labels", json!(labels))
        }
    };
    outlet.tell(seen)
}

fn segmented(
    image: &RgbImage,
    mask: &Mask,
    wanted: &Wanted,
    outlet: &mut Outlet<Seen>,
) -> Result<Seen, Failed> {
    let changed = match wanted {
        Wanted::Seen { mask: form, .. } => {
            return Ok(told(
                Kind::Segment,
                image,
                "mask",
                written(mask, image, *form)?,
            ));
        }
        Wanted::Matte => outlet.timed(|| DynamicImage::ImageLuma8(matte::matte(mask, image))),
        Wanted::Background(background) => outlet.timed(|| {
            let matte = matte::matte(mask, image);
            Composer::new(background.clone()).compose(image, &matte)
        }),
    };
    outlet.check()?;
    Ok(Seen::Png(picture::png(&changed).map_err(failed)?))
}

fn told(kind: Kind, image: &RgbImage, field: &str, value: Value) -> Seen {
    let (width, height) = image.dimensions();
    let mut told = json!({"kind": kind, "width": width, "height": height});
    told[field] = value;
    Seen::Told(told)
}

/// A mask in JSON.
fn written(mask: &Mask, image: &RgbImage, form: MaskForm) -> Result<Value, Failed> {
    let mut written = json!({
        "width": mask.width,
        "height": mask.height,
        "threshold": mask.threshold,
        "coverage": mask.coverage(),
    });
    match form {
        MaskForm::Nothing => {}
        MaskForm::Runs => written["runs"] = runs(mask).into(),
        MaskForm::Png => {
            let matte = DynamicImage::ImageLuma8(matte::matte(mask, image));
            let png = picture::png(&matte).map_err(failed)?;
            written["png"] = BASE64_STANDARD.encode(png).into();
        }
    }
    Ok(written)
}

/// How many places follow each other that are background, foreground, background, and so on, row by row.
fn runs(mask: &Mask) -> Vec<usize> {
    let mut runs = vec![0];
    let mut is_foreground = false;
    for value in &mask.values {
        if (*value >= mask.threshold) != is_foreground {
            is_foreground = !is_foreground;
            runs.push(0);
        }
        if let Some(run) = runs.last_mut() {
            *run += 1;
        }
    }
    runs
}

fn failed(error: Error) -> Failed {
    match error {
        Error::NoPicture { .. } => ApiError::invalid(error.to_string()).into(),
        Error::TooLarge { .. } => ApiError::new(ErrorKind::TooLarge, error.to_string()).into(),
        // The model's file is in order, so what it does not do now it may do elsewhere.
        error => Failed::Model(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_begin_with_the_background() {
        let runs = |values: &[f32]| {
            runs(&Mask {
                width: values.len(),
                height: 1,
                values: values.to_vec(),
                threshold: 0.5,
            })
        };
        assert_eq!(runs(&[0.0, 0.4, 0.5, 1.0, 0.1]), [2, 2, 1]);
        assert_eq!(runs(&[1.0, 1.0]), [0, 2]);
        assert_eq!(runs(&[0.0]), [1]);
    }
}

//! Reads what a request asks: parameters of the address, files in forms, pictures in JSON.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Multipart, Query, Request};
use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::ApiError;
use crate::fields::TextOr;
use crate::wire::parse;

/// Characters of a parameter's value that are quoted back.
const QUOTED_CHARS_MAX: usize = 40;

/// Parameters: of the address, or fields of a form or an object, which go before.
#[derive(Debug, Default)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// Those of an address.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn of_uri(uri: &Uri) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) = query.map_err(|error| {
            ApiError::invalid(format!("the address' parameters cannot be read: {error}"))
        })?;
        Ok(Self(pairs.into_iter().collect()))
    }

    fn set(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// A parameter that says something.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name)?;
        (!text.is_empty()).then_some(&**text)
    }

    /// A number of a range.
    ///
    /// # Errors
    /// If it is none, or outside.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong = || {
            let (low, high) = (range.start(), range.end());
            let text = quoted(text);
            let message = format!("`{name}` is `{text}`; it must be a number from {low} to {high}");
            ApiError::invalid(message).at(name)
        };
        number.map(Some).ok_or_else(wrong)
    }
}

/// The beginning of what a client wrote.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

/// A request that brings a file: as its body, or as the field `file` of a form, as OpenAI's routes of sound have it.
///
/// # Errors
/// If there is no file, or the form cannot be read.
pub(super) async fn file(request: Request) -> Result<(Bytes, Params), ApiError> {
    let mut params = Params::of_uri(request.uri())?;
    if !content_type(request.headers()).starts_with("multipart/form-data") {
        let bytes = whole(request).await?;
        if bytes.is_empty() {
            return Err(ApiError::invalid(
                "the body is empty; send the sound as the body, or as the field `file` of a form",
            ));
        }
        return Ok((bytes, params));
    }
    let wrong =
        |error: &dyn Display| ApiError::invalid(format!("the form cannot be read: {error}"));
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|error| wrong(&error))?;
    let mut file = None;
    while let Some(field) = form.next_field().await.map_err(|error| wrong(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        match &*name {
            "file" => file = Some(field.bytes().await.map_err(|error| wrong(&error))?),
            _ => {
                let text = field.text().await.map_err(|error| wrong(&error))?;
                params.set(&name, Some(text));
            }
        }
    }
    match file {
        Some(file) if !file.is_empty() => Ok((file, params)),
        _ => Err(ApiError::invalid("the form has no sound in its field `file`").at("file")),
    }
}

/// A picture as OpenAI's clients write it, in an object with the parameters beside it.
#[derive(Deserialize)]
struct WirePicture {
    model: Option<String>,
    image: Option<String>,
    image_url: Option<TextOr<ImageUrl>>,
    background: Option<String>,
    strength: Option<f64>,
    mask: Option<String>,
    top: Option<u64>,
}

#[derive(Deserialize)]
struct ImageUrl {
    url: String,
}

/// A request that brings a picture: as its body, or within JSON as a data URL.
///
/// # Errors
/// If there is none.
pub(super) async fn picture(request: Request) -> Result<(Bytes, Params), ApiError> {
    let mut params = Params::of_uri(request.uri())?;
    let is_json = content_type(request.headers()).starts_with("application/json");
    let bytes = whole(request).await?;
    if !is_json {
        return match bytes.is_empty() {
            false => Ok((bytes, params)),
            true => Err(ApiError::invalid(
                "the body is empty; send a picture (JPEG, PNG, WebP), or JSON with `image_url`",
            )),
        };
    }
    let wire: WirePicture = parse(&bytes)?;
    params.set("model", wire.model);
    params.set("background", wire.background);
    params.set(
        "strength",
        wire.strength.map(|strength| strength.to_string()),
    );
    params.set("mask", wire.mask);
    params.set("top", wire.top.map(|top| top.to_string()));
    let (text, field) = match (wire.image_url, wire.image) {
        (Some(TextOr::Text(url)), _) => (url, "image_url"),
        (Some(TextOr::Other(ImageUrl { url })), _) => (url, "image_url.url"),
        (None, Some(image)) => (image, "image"),
        (None, None) => {
            return Err(ApiError::invalid("`image_url` is missing").at("image_url"));
        }
    };
    Ok((data_url(&text, field)?, params))
}

/// The bytes of `data:image/png;base64,…`, or of base64 alone.
fn data_url(text: &str, field: &str) -> Result<Bytes, ApiError> {
    let refused = |message: String| Err(ApiError::invalid(message).at(field));
    let data = match text.strip_prefix("data:") {
        Some(rest) => match rest.split_once(";base64,") {
            Some((_, data)) => data,
            None => {
                return refused(format!(
                    "`{field}` is no data URL that can be read; write data:image/png;base64,…"
                ));
            }
        },
        None if text.contains("://") => {
            return refused(format!(
                "`{field}` is an address, and nothing is fetched from elsewhere; send the picture as a data URL"
            ));
        }
        None => text,
    };
    match BASE64_STANDARD.decode(data) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes.into()),
        Ok(_) => refused(format!("`{field}` holds no picture")),
        Err(error) => refused(format!("`{field}` is not base64: {error}")),
    }
}

/// All of a body; how long it may be was checked before.
async fn whole(request: Request) -> Result<Bytes, ApiError> {
    let read = Bytes::from_request(request, &()).await;
    read.map_err(|error| ApiError::invalid(format!("the body cannot be read: {error}")))
}

fn content_type(headers: &HeaderMap) -> &str {
    text(headers, header::CONTENT_TYPE)
}

/// What a client takes as an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepts<'h>(&'h str);

impl<'h> Accepts<'h> {
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        Self(text(headers, header::ACCEPT))
    }

    /// Whether it names this type. Who takes anything names none.
    pub(super) fn names(self, media_type: &str) -> bool {
        let types = self.0.split(',').filter_map(|item| item.split(';').next());
        types
            .into_iter()
            .any(|item| item.trim().eq_ignore_ascii_case(media_type))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

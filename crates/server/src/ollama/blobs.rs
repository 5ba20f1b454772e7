//! `/api/blobs/sha256:...`: files that models are to be made of.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use troika_library::{Digest, Error, Library, Upload};

use super::Handled;
use crate::app::App;
use crate::{ApiError, ErrorKind};

/// No model of one file is larger.
const BYTES_MAX: u64 = 256 << 30;

/// Pieces that wait for the disk; the client is held back when there are so many.
const WAITING_MAX: usize = 8;

/// `HEAD`: whether the file was uploaded before.
pub(super) async fn find(State(app): State<App>, Path(digest): Path<String>) -> Handled {
    let (library, digest) = place(&app, &digest)?;
    let known = blocking(move || Ok(library.has_blob(&digest))).await?;
    if known {
        return Ok(StatusCode::OK.into_response());
    }
    Err(ApiError::not_found("no file with this digest was uploaded").into())
}

/// `POST`: takes the file as it comes, and keeps it if its digest is right.
pub(super) async fn upload(
    State(app): State<App>,
    Path(digest): Path<String>,
    body: Body,
) -> Handled {
    let (library, digest) = place(&app, &digest)?;
    let begun = blocking(move || {
        if library.has_blob(&digest) {
            return Ok(None);
        }
        library.upload(digest, BYTES_MAX).map(Some)
    });
    let Some(upload) = begun.await? else {
        return Ok(StatusCode::OK.into_response());
    };
    let (pieces, inbox) = mpsc::channel(WAITING_MAX);
    let written = tokio::task::spawn_blocking(move || write(upload, inbox));
    let mut stream = body.into_data_stream();
    let mut broke_off = false;
    while let Some(piece) = stream.next().await {
        broke_off = piece.is_err();
        // The writer is gone when it has failed, and says why below.
        if pieces.send(piece.map_err(io::Error::other)).await.is_err() || broke_off {
            break;
        }
    }
    drop(pieces);
    let written = written.await.map_err(|_| ApiError::internal())?;
    if broke_off {
        return Err(ApiError::invalid("the upload broke off; send it again").into());
    }
    written.map_err(told)?;
    Ok(StatusCode::CREATED.into_response())
}

/// Writes the pieces as they come. One that is cut off has another digest than was announced, and leaves nothing.
fn write(mut upload: Upload, mut inbox: mpsc::Receiver<io::Result<Bytes>>) -> Result<(), Error> {
    while let Some(piece) = inbox.blocking_recv() {
        let piece = piece.map_err(|source| Error::Io {
            action: "read the upload to its end",
            source,
        })?;
        upload.write(&piece)?;
    }
    upload.finish()
}

fn place(app: &App, digest: &str) -> Result<(Arc<Library>, Digest), ApiError> {
    let digest = digest
        .parse()
        .map_err(|error: Error| ApiError::invalid(error.to_string()))?;
    let library = app.backend.library();
    let library = library.ok_or_else(|| ApiError::unsupported("files cannot be uploaded here"))?;
    Ok((library, digest))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal())?.map_err(told)
}

/// What the client is told of it.
fn told(error: Error) -> ApiError {
    match error {
        Error::WrongDigest { .. } => ApiError::invalid(error.to_string()),
        Error::TooLarge { .. } => ApiError::new(ErrorKind::TooLarge, error.to_string()),
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "an upload failed");
            ApiError::internal()
        }
    }
}

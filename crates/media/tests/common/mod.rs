//! What the tests with real models share.

use std::path::{Path, PathBuf};

/// A file of the shared data, or `None` with a message where there is none.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data").join(below);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

//! Real ZEO clients with blobs, and `vellum serve`: see `xtask/peer/blob_clients.py`.

use super::{Ground, Trouble, clients};

/// Has Python's clients do with blobs what a site's clients do.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    clients::of_each_kind(ground, "blob_clients.py", &|_| Ok(()))
}

//! Blobs, table and signer.

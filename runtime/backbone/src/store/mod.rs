//! Models on disk: pull, list, info, verify, remove; stored by content hash.

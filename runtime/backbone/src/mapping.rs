//! Shared-memory maps of files that know when the file changed.

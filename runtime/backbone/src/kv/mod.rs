//! KV pages: who owns which, what is in them, what may be shared.

//! Tables of the two databases and how older ones become today's.
//!
//! A migration is never edited once released; a new one is added behind it. The number of migrations is the schema's
//! version, kept in `user_version`, and a database with a larger one is refused.

/// `application_id` of our databases: "Cold" in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x436f_6c64;

/// A database's file and its migrations, oldest first.
pub(super) struct Schema {
    /// Name of the file.
    pub file: &'static str,
    /// SQL from nothing to today.
    pub migrations: &'static [&'static str],
    /// Files up to this size are checked whole at every start; larger ones when an operator asks.
    pub checked_bytes_max: u64,
}

impl Schema {
    /// The version that this code knows.
    pub fn version(&self) -> i64 {
        i64::try_from(self.migrations.len()).expect("a few migrations")
    }
}

/// Records, their history, idempotency keys, jobs.
pub(super) const REGISTRY: Schema = Schema {
    file: super::REGISTRY,
    checked_bytes_max: u64::MAX,
    migrations: &["
        CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER, bytes BLOB) STRICT, WITHOUT ROWID;
        INSERT INTO meta (name, number) VALUES ('commits', 0), ('revision', 0), ('floor', 0);
        INSERT INTO meta (name, bytes) VALUES ('seal', zeroblob(32));
        CREATE TABLE record (
            key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, digest BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE change (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, deleted INTEGER NOT NULL) STRICT;
        CREATE TABLE done (
            scope TEXT NOT NULL, idem TEXT NOT NULL, fingerprint BLOB NOT NULL, result INTEGER NOT NULL,
            at_ms INTEGER NOT NULL, PRIMARY KEY (scope, idem)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX done_at ON done (at_ms);
        CREATE TABLE queue (name TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE job (
            queue TEXT NOT NULL, id INTEGER NOT NULL, payload TEXT NOT NULL, attempts INTEGER NOT NULL,
            token INTEGER NOT NULL, state INTEGER NOT NULL, due_ns INTEGER NOT NULL, PRIMARY KEY (queue, id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX job_due ON job (queue, state, due_ns);
    "],
};

/// Books and functions' state.
pub(super) const JOURNAL: Schema = Schema {
    file: super::JOURNAL,
    // Read within some tenths of a second. Books grow with every call, and a start is not to wait for that.
    checked_bytes_max: 64 << 20,
    migrations: &["
        CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER, bytes BLOB) STRICT, WITHOUT ROWID;
        INSERT INTO meta (name, number) VALUES ('commits', 0);
        CREATE TABLE entry (
            number INTEGER PRIMARY KEY AUTOINCREMENT, book INTEGER NOT NULL, name TEXT NOT NULL,
            at_ms INTEGER NOT NULL, tenant TEXT NOT NULL, function TEXT, kind TEXT NOT NULL,
            prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, device_ns INTEGER NOT NULL,
            nanodollars INTEGER NOT NULL, payload TEXT NOT NULL, UNIQUE (book, name)
        ) STRICT;
        CREATE INDEX entry_time ON entry (book, at_ms);
        CREATE INDEX entry_tenant ON entry (book, tenant, function, number);
        CREATE TABLE state (
            tenant TEXT NOT NULL, function TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (tenant, function, key)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE state_size (
            tenant TEXT NOT NULL, function TEXT NOT NULL, keys INTEGER NOT NULL, bytes INTEGER NOT NULL,
            PRIMARY KEY (tenant, function)
        ) STRICT, WITHOUT ROWID;
    "],
};

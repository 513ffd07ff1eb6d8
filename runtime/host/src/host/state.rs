//! Functions' state in the store, as their code asks for it.

use crate::call::Later;
use crate::live::state::StateStore;
use crate::records::Names;
use crate::store::StoreError;
use crate::store::state::{StateQuota, StateStore as Kept};
use coldframe_sandbox::services::Failure;
use std::sync::Arc;

/// Keys of one answer.
const KEYS_MAX: usize = 1000;

/// State that survives a restart.
pub struct StoreState(pub Arc<dyn Kept>);

fn failure(error: StoreError) -> Failure {
    let code = match &error {
        StoreError::Rejected(_) => "quota",
        StoreError::Unknown(_) | StoreError::Unavailable(_) => "unavailable",
    };
    Failure { code: code.to_owned(), message: error.to_string() }
}

impl StateStore for StoreState {
    fn get<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>> {
        Box::pin(async move { self.0.get(of, key).await.map_err(failure) })
    }

    fn set<'a>(&'a self, of: &'a Names, key: &'a str, value: Vec<u8>) -> Later<'a, Result<(), Failure>> {
        Box::pin(async move { self.0.set(of, key, value, StateQuota::default()).await.map_err(failure) })
    }

    fn delete<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<(), Failure>> {
        Box::pin(async move { self.0.delete(of, key).await.map_err(failure) })
    }

    fn keys<'a>(&'a self, of: &'a Names, prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>> {
        Box::pin(async move { self.0.keys(of, prefix, KEYS_MAX).await.map_err(failure) })
    }
}

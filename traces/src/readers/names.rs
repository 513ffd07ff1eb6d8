//! Function identities from raw bytes, without allocating for a name seen before.
//!
//! UTF-8 is checked once per identity, when it is new.

use super::rows::Fault;
use crate::record::{Catalog, FunctionInfo};
use std::collections::HashMap;

/// Bytes of an identity: name, adapter, base model, tenant.
pub type Identity<'a> = [&'a [u8]; 4];

const COLUMNS: [&str; 4] = ["function", "adapter", "base_model", "tenant"];

/// Identities seen by one reader. Looked up only, never iterated.
#[derive(Default)]
pub struct Names {
    seen: HashMap<Box<[u8]>, u32>,
    key: Vec<u8>,
    last: Option<u32>,
    last_key: Vec<u8>,
}

impl Names {
    /// The catalog index of an identity.
    #[inline]
    pub fn function(&mut self, identity: Identity<'_>, catalog: &mut Catalog) -> Result<u32, Fault> {
        self.key.clear();
        for part in identity {
            self.key.extend_from_slice(part);
            // 0xff is in no UTF-8 text, and only valid text is ever stored.
            self.key.push(0xff);
        }
        if let Some(last) = self.last
            && self.key == self.last_key
        {
            return Ok(last);
        }
        let index = match self.seen.get(self.key.as_slice()) {
            Some(&index) => index,
            None => self.add(identity, catalog)?,
        };
        self.last = Some(index);
        std::mem::swap(&mut self.key, &mut self.last_key);
        Ok(index)
    }

    #[cold]
    fn add(&mut self, identity: Identity<'_>, catalog: &mut Catalog) -> Result<u32, Fault> {
        let mut texts = [const { String::new() }; 4];
        for ((text, bytes), column) in texts.iter_mut().zip(identity).zip(COLUMNS) {
            let valid = std::str::from_utf8(bytes).map_err(|_| Fault::at(column, "is not UTF-8 text"))?;
            text.push_str(valid);
        }
        let [name, adapter, base_model, tenant] = texts;
        let index = catalog.intern(FunctionInfo { name, adapter, base_model, tenant });
        self.seen.insert(self.key.clone().into_boxed_slice(), index);
        Ok(index)
    }
}

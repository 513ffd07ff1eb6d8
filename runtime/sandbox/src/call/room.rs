//! Holds an instance to its memory and tables: more of either ends the call instead of being refused to the guest.

use crate::end::End;
use crate::limits::Limits;
use wasmtime::ResourceLimiter;

/// Linear memories of one core instance or component, all together.
const MEMORIES_MAX: usize = 8;

/// Tables of one component, all together.
const TABLES_MAX: usize = 64;

/// What an instance has of memory, and the most it may have.
#[derive(Debug)]
pub(crate) struct Room {
    memory_bytes_limit: usize,
    table_elements_limit: usize,
    instances_limit: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Room {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_limit: limits.memory_bytes,
            table_elements_limit: limits.table_elements,
            instances_limit: limits.instances,
            bytes: 0,
            bytes_max: 0,
        }
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl ResourceLimiter for Room {
    fn memory_growing(&mut self, now: usize, asked: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_sub(now).saturating_add(asked);
        if bytes > self.memory_bytes_limit {
            return Err(End::Memory { limit: self.memory_bytes_limit }.into());
        }
        // Past its own declared maximum a memory does not grow, and the guest is told so as the standard says.
        if most.is_some_and(|most| asked > most) {
            return Ok(false);
        }
        self.bytes = bytes;
        self.bytes_max = self.bytes_max.max(bytes);
        Ok(true)
    }

    fn table_growing(&mut self, _now: usize, asked: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        if asked > self.table_elements_limit {
            return Err(End::Table { limit: self.table_elements_limit }.into());
        }
        Ok(most.is_none_or(|most| asked <= most))
    }

    fn instances(&self) -> usize {
        self.instances_limit
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

//! Books in memory.

use super::Memory;
use crate::call::Later;
use crate::store::journal::{Amounts, Book, Entry, Filter, Journal, Page, Row, Sum};
use crate::store::{Result, rules};
use std::collections::BTreeMap;

/// Rows of all books, oldest first.
#[derive(Default)]
pub(super) struct Books {
    last: u64,
    entries: Vec<(Book, Entry)>,
}

fn matches(filter: &Filter, row: &Row) -> bool {
    let same = |wanted: &Option<String>, found: Option<&str>| {
        wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
    };
    same(&filter.tenant, Some(&row.tenant))
        && same(&filter.function, row.function.as_deref())
        && same(&filter.kind, Some(&row.kind))
        && filter.from_ms.is_none_or(|from| row.at_ms >= from)
        && filter.until_ms.is_none_or(|until| row.at_ms < until)
}

impl Books {
    fn append(&mut self, book: Book, row: Row) {
        if self.entries.iter().any(|(of, entry)| *of == book && entry.row.name == row.name) {
            return;
        }
        self.last += 1;
        self.entries.push((book, Entry { number: self.last, row }));
    }

    fn of<'a>(&'a self, book: Book, filter: &'a Filter) -> impl DoubleEndedIterator<Item = &'a Entry> {
        let wanted = move |(of, entry): &&(Book, Entry)| *of == book && matches(filter, &entry.row);
        self.entries.iter().filter(wanted).map(|(_, entry)| entry)
    }
}

impl Journal for Memory {
    fn append(&self, book: Book, rows: Vec<Row>) -> Later<'_, Result<()>> {
        Box::pin(async move {
            for row in &rows {
                rules::to_text(&row.payload)?;
            }
            let mut inner = self.inner();
            rows.into_iter().for_each(|row| inner.books.append(book, row));
            Ok(())
        })
    }

    fn query(&self, book: Book, filter: Filter, page: Page, limit: usize) -> Later<'_, Result<Vec<Entry>>> {
        Box::pin(async move {
            let inner = self.inner();
            let rows = inner.books.of(book, &filter);
            Ok(match page {
                Page::After(after) => {
                    rows.filter(|entry| entry.number > after).take(limit).cloned().collect()
                }
                Page::Before(before) => {
                    rows.rev().filter(|entry| entry.number < before).take(limit).cloned().collect()
                }
            })
        })
    }

    fn sums(&self, book: Book, filter: Filter) -> Later<'_, Result<Vec<Sum>>> {
        Box::pin(async move {
            let mut sums: BTreeMap<(String, Option<String>), (u64, Amounts)> = BTreeMap::new();
            for Entry { row, .. } in self.inner().books.of(book, &filter) {
                let (rows, sum) = sums.entry((row.tenant.clone(), row.function.clone())).or_default();
                *rows += 1;
                sum.prompt_tokens += row.amounts.prompt_tokens;
                sum.completion_tokens += row.amounts.completion_tokens;
                sum.device_ns += row.amounts.device_ns;
                sum.nanodollars += row.amounts.nanodollars;
            }
            let sum = |((tenant, function), (rows, amounts))| Sum { tenant, function, rows, amounts };
            Ok(sums.into_iter().map(sum).collect())
        })
    }

    fn trim(&self, book: Book, before_ms: u64) -> Later<'_, Result<u64>> {
        Box::pin(async move {
            let entries = &mut self.inner().books.entries;
            let before = entries.len();
            entries.retain(|(of, entry)| *of != book || entry.row.at_ms >= before_ms);
            Ok((before - entries.len()) as u64)
        })
    }
}

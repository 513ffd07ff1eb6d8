//! The page book: walls between owners, reuse inside them, copy-on-write, eviction, accounting.

use coldframe_backbone::adapter::Generation;
use coldframe_backbone::executor::{PAGE_TOKENS, PageId};
use coldframe_backbone::kv::{Book, BookOptions, Budget, Chain, Effect, Owner, Reach, TenantId};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn owner(tenant: u32, generation: u8) -> Owner {
    let generation = (generation > 0).then_some(Generation([generation; 32]));
    Owner { tenant: TenantId(tenant), generation }
}

fn book(pages: u32) -> Book {
    Book::new(pages, 100, BookOptions::default())
}

/// Allocates and indexes pages for all of `tokens`, as a sequence that computed them would.
fn hold(book: &mut Book, owner: Owner, tokens: &[u32]) -> Vec<PageId> {
    let mut pages = book.adopt(owner, tokens);
    while pages.len() * PAGE_TOKENS < tokens.len() {
        pages.push(book.allocate(owner, Reach::Any).expect("room"));
        let at = pages.len() - 1;
        let end = (pages.len() * PAGE_TOKENS).min(tokens.len());
        let parent = at.checked_sub(1).map(|above| pages[above]);
        pages[at] = book.register(pages[at], parent, &tokens[at * PAGE_TOKENS..end]);
    }
    pages
}

fn drop_all(book: &mut Book, pages: Vec<PageId>) {
    pages.into_iter().rev().for_each(|page| book.release(page));
}

fn tokens(seed: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| seed * 1000 + i).collect()
}

#[test]
fn a_prefix_is_found_by_its_owner_only() {
    let mut book = book(64);
    let prompt = tokens(1, 40);
    let first = hold(&mut book, owner(1, 1), &prompt);
    drop_all(&mut book, first.clone());
    for stranger in [owner(2, 1), owner(1, 2), owner(1, 0)] {
        assert_eq!(book.adopt(stranger, &prompt), [], "{stranger:?}");
    }
    assert_eq!(book.adopt(owner(1, 1), &prompt), first[..2]);
    book.audit().unwrap();
}

#[test]
fn the_last_token_is_always_left_to_compute() {
    let mut book = book(64);
    let prompt = tokens(1, 2 * PAGE_TOKENS);
    let pages = hold(&mut book, owner(1, 0), &prompt);
    drop_all(&mut book, pages);
    assert_eq!(book.adopt(owner(1, 0), &prompt).len(), 1);
    assert_eq!(book.adopt(owner(1, 0), &tokens(1, 2 * PAGE_TOKENS + 1)).len(), 2);
}

#[test]
fn pages_of_another_owner_are_cleared_and_ones_own_are_not() {
    let mut book = book(1);
    let page = book.allocate(owner(1, 1), Reach::Fair).unwrap();
    assert_eq!(book.take_effects(), []);
    book.release(page);
    book.allocate(owner(1, 1), Reach::Fair).unwrap();
    assert_eq!(book.take_effects(), []);
    book.release(page);
    book.allocate(owner(1, 2), Reach::Fair).unwrap();
    assert_eq!(book.take_effects(), [Effect::Clear(page)]);
    book.discard(page);
    book.allocate(owner(1, 2), Reach::Fair).unwrap();
    assert_eq!(
        book.take_effects(),
        [Effect::Clear(page)],
        "tainted pages are cleared for their own owner too"
    );
}

#[test]
fn a_shared_page_is_copied_before_a_write() {
    let mut book = book(4);
    let page = book.allocate(owner(1, 1), Reach::Fair).unwrap();
    assert_eq!(book.writable(page, Reach::Fair), Some(page));
    book.retain(page);
    let own = book.writable(page, Reach::Fair).unwrap();
    assert_ne!(own, page);
    assert_eq!(book.take_effects(), [Effect::Copy { from: page, to: own }]);
    assert_eq!(book.writable(page, Reach::Fair), Some(page), "the other has it alone now");
    assert_eq!(book.stats().copies, 1);
}

#[test]
fn forced_collisions_share_nothing() {
    // With no bits at all, every page has the same key.
    let options = BookOptions { chain: Chain::new().shortened(0), ..BookOptions::default() };
    let mut book = Book::new(64, 100, options);
    let held = hold(&mut book, owner(1, 1), &tokens(1, 17));
    assert_eq!(book.adopt(owner(1, 1), &tokens(2, 17)), [], "other tokens");
    assert_eq!(book.adopt(owner(2, 1), &tokens(1, 17)), [], "another tenant");
    assert_eq!(book.adopt(owner(1, 1), &tokens(1, 17)), held[..1], "the same");
    let other = hold(&mut book, owner(2, 1), &tokens(1, 33));
    assert!(other.iter().all(|page| !held.contains(page)));
    book.audit().unwrap();
}

#[test]
fn a_page_under_another_parent_is_another_page() {
    let (above, below) = (tokens(1, PAGE_TOKENS), tokens(2, PAGE_TOKENS + 1));
    for _ in 0..64 {
        // With one bit, the key of `below` alone is that of `below` after `above` in every second book.
        let options = BookOptions { chain: Chain::new().shortened(1), ..BookOptions::default() };
        let mut book = Book::new(8, 100, options);
        hold(&mut book, owner(1, 1), &[&above[..], &below[..PAGE_TOKENS]].concat());
        assert_eq!(book.adopt(owner(1, 1), &below), []);
    }
}

#[test]
fn keys_depend_on_the_secret_the_owner_and_the_parent() {
    let (a, b) = (Chain::new(), Chain::new());
    let key = a.key(&owner(1, 1), None, &[1, 2]);
    assert_eq!(key, a.key(&owner(1, 1), None, &[1, 2]));
    assert_ne!(key, b.key(&owner(1, 1), None, &[1, 2]), "another process");
    assert_ne!(key, a.key(&owner(2, 1), None, &[1, 2]));
    assert_ne!(key, a.key(&owner(1, 0), None, &[1, 2]));
    assert_ne!(key, a.key(&owner(1, 1), Some(key), &[1, 2]));
    assert_ne!(key, a.key(&owner(1, 1), None, &[2, 1]));
}

#[test]
fn the_end_of_a_chain_goes_first_and_the_least_recent_chain_before_others() {
    let mut book = book(6);
    let (old, new) = (tokens(1, 3 * PAGE_TOKENS + 1), tokens(2, 2 * PAGE_TOKENS));
    let pages = hold(&mut book, owner(1, 0), &old[..3 * PAGE_TOKENS]);
    drop_all(&mut book, pages.clone());
    let other = hold(&mut book, owner(1, 0), &new);
    drop_all(&mut book, other);
    // One page is free; two more come from the end of the older chain.
    let taken: Vec<_> = (0..3).map(|_| book.allocate(owner(1, 0), Reach::Fair).unwrap()).collect();
    assert_eq!(taken[1..], [pages[2], pages[1]]);
    assert_eq!(book.adopt(owner(1, 0), &old), pages[..1]);
    assert_eq!(book.stats().evictions, 2);
    book.audit().unwrap();
}

#[test]
fn a_flood_by_one_tenant_leaves_the_others_cache() {
    let mut book = book(100);
    let prompts: Vec<_> = (0..4).map(|i| tokens(i, 4 * PAGE_TOKENS + 1)).collect();
    let warm = |book: &mut Book| -> usize {
        let held: Vec<_> = prompts.iter().map(|prompt| book.adopt(owner(1, 1), prompt)).collect();
        let hits = held.iter().map(Vec::len).sum();
        held.into_iter().for_each(|pages| drop_all(book, pages));
        hits
    };
    for prompt in &prompts {
        let pages = hold(&mut book, owner(1, 1), &prompt[..4 * PAGE_TOKENS]);
        drop_all(&mut book, pages);
    }
    assert_eq!(warm(&mut book), 16);
    for round in 10..300 {
        let flood = hold(&mut book, owner(2, 2), &tokens(round, 20 * PAGE_TOKENS));
        drop_all(&mut book, flood);
    }
    assert_eq!(warm(&mut book), 16, "the flood evicted its own");
    book.audit().unwrap();
}

#[test]
fn beyond_its_share_a_tenant_evicts_its_own_only() {
    let mut book = book(10);
    let cached = hold(&mut book, owner(1, 1), &tokens(1, 4 * PAGE_TOKENS));
    drop_all(&mut book, cached);
    // Six free ones, beyond the share of five; no page of the other tenant after that.
    assert_eq!(book.available(TenantId(2), Reach::Fair), 6);
    let used: Vec<_> = (0..6).map(|_| book.allocate(owner(2, 2), Reach::Fair).unwrap()).collect();
    assert_eq!(book.allocate(owner(2, 2), Reach::Fair), None);
    assert_eq!(book.available(TenantId(2), Reach::Any), 4);
    assert!(book.allocate(owner(2, 2), Reach::Any).is_some());
    drop_all(&mut book, used);
    book.audit().unwrap();
}

#[test]
fn an_unloaded_generation_leaves_nothing_cached() {
    let mut book = book(10);
    let gone = hold(&mut book, owner(1, 1), &tokens(1, 3 * PAGE_TOKENS));
    let stays = hold(&mut book, owner(1, 2), &tokens(1, 3 * PAGE_TOKENS));
    drop_all(&mut book, gone);
    drop_all(&mut book, stays);
    assert_eq!(book.forget(Generation([1; 32])), 3);
    assert_eq!(book.adopt(owner(1, 1), &tokens(1, 49)), []);
    assert_eq!(book.adopt(owner(1, 2), &tokens(1, 49)).len(), 3);
    assert_eq!(book.stats().free, 7);
    book.audit().unwrap();
}

#[test]
fn equal_pages_computed_twice_become_one() {
    let mut book = book(10);
    let prompt = tokens(1, PAGE_TOKENS);
    let first = hold(&mut book, owner(1, 1), &prompt);
    let second = book.allocate(owner(1, 1), Reach::Fair).unwrap();
    assert_eq!(book.register(second, None, &prompt), first[0]);
    assert_eq!((book.stats().used, book.stats().free), (1, 9));
    book.release(first[0]);
    book.release(first[0]);
    assert_eq!((book.stats().cached, book.stats().cached_bytes), (1, 100));
    book.audit().unwrap();
}

#[test]
fn adapters_are_reserved_before_pages() {
    assert_eq!(Budget { total: 1000, adapters: 300 }.pages(100).unwrap(), 7);
    let error = Budget { total: 1000, adapters: 950 }.pages(100).unwrap_err();
    assert_eq!(error.code(), "no_room");
    assert_eq!(
        error.to_string(),
        "no room for KV pages beside 950 bytes of adapters: needs 100 bytes, 50 free"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Sequences that come, go, fork and fail, over few pages, few tokens and three owners: whatever happens, a page is
    /// never in the hands of two owners, a found prefix holds exactly its tokens, and nothing is lost.
    #[test]
    fn the_book_stays_true(
        bits in prop_oneof![Just(128_u32), 0_u32..6],
        moves in prop::collection::vec((0_u8..6, 0_usize..8, 0_u32..3, 1_usize..60), 1..120),
    ) {
        let options = BookOptions { chain: Chain::new().shortened(bits), ..BookOptions::default() };
        let mut book = Book::new(16, 100, options);
        let mut alive: Vec<(Owner, Vec<u32>, Vec<PageId>)> = Vec::new();
        // What an executor would have in each page: whose, and after which tokens.
        let mut contents: BTreeMap<PageId, (Owner, Vec<u32>)> = BTreeMap::new();
        for (what, which, seed, length) in moves {
            match what {
                0..=2 => {
                    let (owner, prompt) = (owner(seed % 2, seed as u8), tokens(seed % 2, length));
                    let mut pages = book.adopt(owner, &prompt);
                    for (at, page) in pages.iter().enumerate() {
                        let there = contents.get(page).cloned();
                        prop_assert_eq!(there, Some((owner, prompt[..(at + 1) * PAGE_TOKENS].to_vec())));
                    }
                    while pages.len() * PAGE_TOKENS < prompt.len() {
                        let Some(page) = book.allocate(owner, Reach::Any) else { break };
                        let (at, end) = (pages.len(), ((pages.len() + 1) * PAGE_TOKENS).min(prompt.len()));
                        contents.insert(page, (owner, prompt[..end].to_vec()));
                        let parent = at.checked_sub(1).map(|above| pages[above]);
                        pages.push(book.register(page, parent, &prompt[at * PAGE_TOKENS..end]));
                    }
                    alive.push((owner, prompt, pages));
                }
                3 if !alive.is_empty() => {
                    let copy = alive[which % alive.len()].clone();
                    copy.2.iter().for_each(|page| book.retain(*page));
                    alive.push(copy);
                }
                4 if !alive.is_empty() => {
                    let (_, _, pages) = alive.swap_remove(which % alive.len());
                    pages.into_iter().rev().for_each(|page| book.discard(page));
                }
                _ if !alive.is_empty() => {
                    let (_, _, pages) = alive.swap_remove(which % alive.len());
                    drop_all(&mut book, pages);
                }
                _ => { book.forget(Generation([seed as u8; 32])); }
            }
            prop_assert_eq!(book.audit(), Ok(()));
            for (owner, prompt, pages) in &alive {
                for (at, page) in pages.iter().enumerate() {
                    let end = ((at + 1) * PAGE_TOKENS).min(prompt.len());
                    prop_assert_eq!(contents.get(page), Some(&(*owner, prompt[..end].to_vec())));
                }
            }
        }
        alive.into_iter().for_each(|(_, _, pages)| drop_all(&mut book, pages));
        prop_assert_eq!(book.stats().used, 0);
    }
}

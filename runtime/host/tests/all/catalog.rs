//! The catalog over a registry in memory: keys, names, splits, and that it never falls behind.

use crate::store::Place;
use coldframe_host::auth::{self, Bootstrap, Denied, KeyOrder};
use coldframe_host::catalog::{Catalog, CatalogChange, keys, split};
use coldframe_host::records::{Function, Generation, Names, Quota, Scope, Settings, Target, Tenant};
use coldframe_host::store::{Expect, Read, Registry};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

const PATIENCE: Duration = Duration::from_secs(20);

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn generation(letter: char) -> Generation {
    Generation {
        id: id(letter),
        backbone: "smol".to_owned(),
        adapters: Vec::new(),
        module: None,
        settings: Settings::default(),
        created_ms: 1,
    }
}

fn target(letter: char, weight: u32) -> Target {
    Target { generation: id(letter), weight }
}

fn function(tenant: &str, name: &str, live: Vec<Target>) -> Function {
    Function {
        names: Names { tenant: tenant.to_owned(), function: name.to_owned() },
        generations: vec![generation('a'), generation('b')],
        aliases: BTreeMap::from([("live".to_owned(), live), ("old".to_owned(), vec![target('a', 1)])]),
        pinned: false,
        created_ms: 1,
        updated_ms: 1,
    }
}

/// Sets a record, whatever is there; its revision.
async fn set(registry: &dyn Registry, key: &str, value: &impl Serialize) -> u64 {
    let found = registry.get(key, Read::Fresh).await.unwrap();
    let expect = found.map_or(Expect::Absent, |found| Expect::At(found.revision));
    let idem = format!("{key}-{}", registry.revision().await.unwrap());
    registry.put(key, serde_json::to_value(value).unwrap(), expect, &idem).await.unwrap()
}

async fn start(registry: &Arc<dyn Registry>) -> (Arc<Catalog>, UnboundedReceiver<CatalogChange>) {
    let bootstrap = Bootstrap::from_text("an operator's own key").unwrap();
    Catalog::start(Arc::clone(registry), Some(bootstrap)).await.unwrap()
}

#[tokio::test]
async fn a_key_is_known_until_it_is_revoked() {
    let registry = Place::memory().registry();
    let (catalog, _changes) = start(&registry).await;
    let order = KeyOrder {
        tenant: "acme".to_owned(),
        scope: Scope::Admin,
        note: String::new(),
        expires_ms: Some(1_000),
    };
    let (record, secret) = auth::issue(order, 0).unwrap();
    assert_eq!(catalog.identify(secret.reveal(), 1), Err(Denied::Unknown));
    let revision = set(&*registry, &keys::api_key(&record.id), &record).await;
    assert!(catalog.reached(revision, PATIENCE).await);
    let who = catalog.identify(secret.reveal(), 1).unwrap();
    assert_eq!((who.tenant.as_str(), who.scope, &who.key), ("acme", Scope::Admin, &record.id));
    assert_eq!(catalog.identify(secret.reveal(), 1_000), Err(Denied::Expired));
    let wrong = format!("cf_{}_{}", record.id, "0".repeat(64));
    assert_eq!(catalog.identify(&wrong, 1), Err(Denied::Unknown));
    assert_eq!(catalog.identify("an operator's own key", 1).unwrap().scope, Scope::Operator);
    let gone = registry.delete(&keys::api_key(&record.id), revision, "revoke").await.unwrap();
    assert!(catalog.reached(gone, PATIENCE).await);
    assert_eq!(catalog.identify(secret.reveal(), 1), Err(Denied::Unknown));
}

#[tokio::test]
async fn names_are_bound_to_generations() {
    let registry = Place::memory().registry();
    set(&*registry, &keys::function("acme", "pirate"), &function("acme", "pirate", vec![target('b', 1)]))
        .await;
    let (catalog, _changes) = start(&registry).await;
    let bound = |name: &str| {
        catalog.resolve("acme", name, "r").map(|bound| (bound.generation.id.clone(), bound.alias))
    };
    let alias = |name: &str| Some(name.to_owned());
    assert_eq!(bound("pirate"), Some((id('b'), alias("live"))));
    assert_eq!(bound("pirate@old"), Some((id('a'), alias("old"))));
    assert_eq!(bound(&format!("pirate@{}", id('a'))), Some((id('a'), None)));
    assert_eq!(bound("pirate@bbbbbbbb"), Some((id('b'), None)));
    for absent in ["pirat", "pirate@", "pirate@new", "pirate@bbbbbbb", "pirate@bbbbbbbbc", "", "@live"] {
        assert_eq!(bound(absent), None, "{absent:?}");
    }
    assert_eq!(catalog.resolve("other", "pirate", "r"), None, "another tenant's function");
}

#[test]
fn a_split_is_even_and_the_same_for_the_same_request() {
    let names = Names { tenant: "a".to_owned(), function: "f".to_owned() };
    let targets = [target('a', 1), target('b', 3), target('c', 0)];
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 0..10_000 {
        let request = format!("r-{number}");
        let picked = split::pick(&targets, &names, &request).unwrap();
        assert_eq!(split::pick(&targets, &names, &request), Some(picked));
        *counts.entry(picked).or_default() += 1;
    }
    let (a, b) = (id('a'), id('b'));
    // Four standard deviations of a share of a quarter in ten thousand.
    assert!((2_327..=2_673).contains(&counts[a.as_str()]), "{counts:?}");
    assert_eq!(counts[a.as_str()] + counts[b.as_str()], 10_000, "a target without weight was picked");
    assert_eq!(split::pick(&[], &names, "r"), None);
    assert_eq!(split::pick(&[target('a', 0)], &names, "r"), None);
}

#[tokio::test]
async fn lists_end_at_the_tenant() {
    let registry = Place::memory().registry();
    for (tenant, name) in [("a", "y"), ("a", "x"), ("ab", "z"), ("b", "x")] {
        set(&*registry, &keys::function(tenant, name), &function(tenant, name, vec![])).await;
    }
    let tenant = Tenant { name: "a".to_owned(), quota: Quota::default(), created_ms: 1 };
    set(&*registry, &keys::tenant("a"), &tenant).await;
    let (catalog, _changes) = start(&registry).await;
    let list = |tenant: Option<&str>, after: Option<(&str, &str)>, limit| -> Vec<String> {
        let after = after
            .map(|(tenant, function)| Names { tenant: tenant.to_owned(), function: function.to_owned() });
        let found = catalog.functions(tenant, after.as_ref(), limit);
        found.iter().map(|found| format!("{}/{}", found.names.tenant, found.names.function)).collect()
    };
    assert_eq!(list(Some("a"), None, 9), ["a/x", "a/y"]);
    assert_eq!(list(Some("a"), Some(("a", "x")), 9), ["a/y"]);
    assert_eq!(list(Some("b"), Some(("a", "x")), 9), ["b/x"], "a cursor of another tenant");
    assert_eq!(list(Some("a"), Some(("b", "x")), 9), Vec::<String>::new());
    assert_eq!(list(None, Some(("a", "x")), 2), ["a/y", "ab/z"]);
    assert_eq!((catalog.count("a"), catalog.count("c")), (2, 0));
    assert_eq!(catalog.tenant("a").unwrap().name, "a");
}

#[tokio::test]
async fn an_unreadable_record_is_left_out_alone() {
    let registry = Place::memory().registry();
    set(&*registry, &keys::function("a", "good"), &function("a", "good", vec![])).await;
    set(&*registry, &keys::function("a", "bad"), &"not a function").await;
    let (catalog, _changes) = start(&registry).await;
    assert_eq!(catalog.unreadable(), ["function/a/bad"]);
    assert!(catalog.function("a", "good").is_some());
    let revision = set(&*registry, &keys::function("a", "bad"), &function("a", "bad", vec![])).await;
    assert!(catalog.reached(revision, PATIENCE).await);
    assert!(catalog.unreadable().is_empty() && catalog.function("a", "bad").is_some());
}

/// Applies what came out of the catalog to what was known.
fn hear(known: &mut BTreeMap<Names, Arc<Function>>, changes: &mut UnboundedReceiver<CatalogChange>) {
    while let Ok(change) = changes.try_recv() {
        match change {
            CatalogChange::Put(function) => drop(known.insert(function.names.clone(), function)),
            CatalogChange::Removed(names) => drop(known.remove(&names)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_up_with_what_the_registry_has() {
    let mut place = Place::memory();
    let registry = place.registry();
    let (catalog, mut changes) = start(&registry).await;
    let mut known = BTreeMap::new();
    let mut last = 0;
    for number in 0..300_u64 {
        let name = format!("f{}", number * number % 11);
        let key = keys::function("a", &name);
        match registry.get(&key, Read::Fresh).await.unwrap() {
            Some(found) if number % 3 == 0 => {
                last = registry.delete(&key, found.revision, &number.to_string()).await.unwrap();
            }
            _ => {
                let mut function = function("a", &name, vec![]);
                function.updated_ms = number;
                last = set(&*registry, &key, &function).await;
            }
        }
        if number % 100 == 50 {
            // The watch breaks: the catalog reads all again.
            place.reopen().await;
        }
    }
    assert!(catalog.reached(last, PATIENCE).await);
    hear(&mut known, &mut changes);
    let wanted = registry.list("function/", None, 99).await.unwrap();
    let wanted: Vec<Function> =
        wanted.into_iter().map(|record| serde_json::from_value(record.value).unwrap()).collect();
    let found: Vec<Function> =
        catalog.functions(None, None, 99).iter().map(|found| (**found).clone()).collect();
    assert_eq!(found, wanted);
    assert_eq!(known.into_values().map(|known| (*known).clone()).collect::<Vec<_>>(), wanted);
}

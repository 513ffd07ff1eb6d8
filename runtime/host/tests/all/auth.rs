//! Keys, principals, the operator's key, and the limiter of wrong tries.

use coldframe_host::auth::limiter::Limiter;
use coldframe_host::auth::{self, Bootstrap, BootstrapError, KeyOrder, Principal};
use coldframe_host::records::Scope;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

fn order(scope: Scope) -> KeyOrder {
    KeyOrder { tenant: "acme".to_owned(), scope, note: "laptop".to_owned(), expires_ms: None }
}

#[test]
fn a_key_is_shown_once_and_kept_hashed() {
    let (record, secret) = auth::issue(order(Scope::Invoke), 7).unwrap();
    let (id, text) = auth::split(secret.reveal()).expect("a key of our form");
    assert_eq!((id, record.created_ms), (record.id.as_str(), 7));
    assert!(auth::is_secret(text, &record.secret_sha256));
    assert!(!auth::is_secret(&text[1..], &record.secret_sha256));
    let kept = serde_json::to_string(&record).unwrap();
    assert!(!kept.contains(text), "the record holds the secret");
    assert_eq!(format!("{secret:?}"), "[secret]");
    let (other, _) = auth::issue(order(Scope::Invoke), 7).unwrap();
    assert_ne!(other.id, record.id);
}

#[test]
fn what_is_no_key_is_known_as_none() {
    let long = format!("cf_a_{}", "b".repeat(999));
    for text in ["", "cf_", "cf_a", "cf_a_", "cf__b", "sk-abc", "cf_a_b_c", "cf_a_b\n", "cf_ä_b", &long] {
        assert_eq!(auth::split(text), None, "{text:?}");
    }
    assert_eq!(auth::split("cf_a1_B2"), Some(("a1", "B2")));
}

#[test]
fn scopes_end_at_the_tenant() {
    let who = |scope| Principal { tenant: "acme".to_owned(), scope, key: "k".to_owned() };
    let table = [
        (Scope::Invoke, "acme", [true, false, false]),
        (Scope::Invoke, "other", [false, false, false]),
        (Scope::Admin, "acme", [true, true, false]),
        (Scope::Admin, "other", [false, false, false]),
        (Scope::Operator, "other", [true, true, true]),
    ];
    for (scope, tenant, wanted) in table {
        let found = [Scope::Invoke, Scope::Admin, Scope::Operator].map(|asked| who(scope).may(asked, tenant));
        assert_eq!(found, wanted, "{scope:?} on {tenant}");
    }
}

#[test]
fn the_operators_key_comes_from_a_private_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    std::fs::write(&path, "a key of my own choice\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Bootstrap::from_file(&path), Err(BootstrapError::Open(_))));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let bootstrap = Bootstrap::from_file(&path).unwrap();
    assert_eq!(bootstrap.identify("a key of my own choice").unwrap().scope, Scope::Operator);
    assert_eq!(bootstrap.identify("a key of my own choic"), None);
    assert!(!format!("{bootstrap:?}").contains("choice"));
    assert!(matches!(Bootstrap::from_text("short"), Err(BootstrapError::Short)));
    assert!(matches!(Bootstrap::from_file(&home.path().join("none")), Err(BootstrapError::Unread { .. })));
}

#[test]
fn guessing_is_slow_and_others_feel_nothing() {
    let (mut limiter, peer, other) =
        (Limiter::default(), "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let at = Duration::from_secs;
    for _ in 0..10 {
        assert_eq!(limiter.check(peer, at(100)), Ok(()));
        limiter.failed(peer, at(100));
    }
    assert_eq!(limiter.check(peer, at(100)), Err(at(6)));
    assert_eq!(limiter.check(other, at(100)), Ok(()));
    assert_eq!(limiter.check(peer, at(105)), Err(at(1)));
    assert_eq!(limiter.check(peer, at(106)), Ok(()));
    limiter.failed(peer, at(106));
    assert_eq!(limiter.check(peer, at(106)), Err(at(6)));
    let tries_of_a_day = 10 + 24 * 3_600 / 6;
    assert!(tries_of_a_day < 15_000);
}

#[test]
fn a_network_is_one_peer_and_the_table_is_bounded() {
    let mut limiter = Limiter::default();
    for host in 0..10_u16 {
        limiter.failed(format!("2001:db8::{host:x}").parse().unwrap(), Duration::ZERO);
    }
    assert!(limiter.check("2001:db8::ffff".parse().unwrap(), Duration::ZERO).is_err());
    assert!(limiter.check("2001:db8:0:1::1".parse().unwrap(), Duration::ZERO).is_ok());
    for address in 0..100_000_u32 {
        limiter.failed(std::net::Ipv4Addr::from(address).into(), Duration::ZERO);
    }
    assert!(limiter.peers() <= 16_384, "{}", limiter.peers());
}

//! Ways out: hosts that are not allowed, names that lead inside, redirects, odd URLs.

use crate::bed::{Bed, call, code, limits, small};
use crate::guests::{Script, script};
use crate::web::{Table, server};
use coldframe_sandbox::outbound::{Outbound, is_global};
use coldframe_sandbox::{Allowed, Function, Grants, SandboxOptions};
use std::net::IpAddr;
use std::sync::Arc;

async fn function(allowed: &[&str], names: &[(&str, &str)], loopback: bool) -> Function {
    let outbound = Outbound { resolver: Arc::new(Table::new(names)), loopback };
    let sandbox = small(SandboxOptions { outbound, ..SandboxOptions::default() });
    let grants = Grants { outbound: Allowed::parse(allowed).expect("patterns"), ..Grants::default() };
    sandbox.load(script(), limits(), grants).await.expect("it loads")
}

/// The word `send` answers for a URL.
async fn answer(function: &Function, url: &str) -> String {
    let (end, got) = call(function, &Script::new().with(21, url).op(34, &[]).0, &Bed::new()).await;
    assert_eq!(code(&end), "ok", "{url}: {end:?}");
    got.text()
}

#[tokio::test]
async fn a_host_that_is_not_in_the_manifest_is_refused() {
    let function = function(&["https://api.example.com", "http://*.example.org:8080"], &[], false).await;
    for url in [
        "https://example.com/",
        "http://api.example.com/",
        "https://api.example.com:444/",
        "https://api.example.com.evil.net/",
        "https://evil.net/?https://api.example.com/",
        "https://evil.net#https://api.example.com/",
        "http://example.org:8080/",
        "http://evilexample.org:8080/",
    ] {
        assert_eq!(answer(&function, url).await, "not_allowed", "{url}");
    }
    for url in [
        "https://api.example.com@evil.net/",
        "https://u:p@api.example.com/",
        "file:///etc/passwd",
        "ftp://api.example.com/",
        "//api.example.com/",
        "https:",
        "data:text/plain,x",
    ] {
        assert_eq!(answer(&function, url).await, "invalid", "{url}");
    }
    // A backslash is a slash to the one parser: the host is what stands before it.
    assert_eq!(answer(&function, "https://evil.net\\@api.example.com/").await, "not_allowed");
    // Allowed, but it leads nowhere.
    for url in ["https://api.example.com/", "http://a.example.org:8080/x", "HTTPS://API.Example.COM./"] {
        assert_eq!(answer(&function, url).await, "unavailable", "{url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused() {
    let names = [
        ("loop.test", "127.0.0.1"),
        ("meta.test", "169.254.169.254"),
        ("private.test", "10.1.2.3"),
        ("shared.test", "100.100.0.1"),
        ("six.test", "::1"),
        ("mapped.test", "::ffff:127.0.0.1"),
        ("unique.test", "fd00::1"),
        // Rebinding by a mixed answer: one outside, one inside.
        ("mixed.test", "93.184.216.34 127.0.0.1"),
    ];
    let function = function(
        &[
            "http://*.test.example:*",
            "http://127.0.0.1:*",
            "http://[::1]:*",
            "http://loop.test",
            "http://meta.test",
            "http://private.test",
            "http://shared.test",
            "http://six.test",
            "http://mapped.test",
            "http://unique.test",
            "http://mixed.test",
        ],
        &names,
        false,
    )
    .await;
    for (name, _) in names {
        assert_eq!(answer(&function, &format!("http://{name}/")).await, "forbidden_address", "{name}");
    }
    // Addresses in the URL itself, in every dress: what the manifest allows by name is still not reached.
    for url in [
        "http://127.0.0.1:80/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
    ] {
        assert_eq!(answer(&function, url).await, "forbidden_address", "{url}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_and_that_address_is_used() {
    let table = Arc::new(Table::new(&[("rebind.test", "127.0.0.1")]));
    let outbound = Outbound { resolver: table.clone(), loopback: true };
    let sandbox = small(SandboxOptions { outbound, ..SandboxOptions::default() });
    let (port, seen) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let grants = Grants {
        outbound: Allowed::parse(&[format!("http://rebind.test:{port}")]).expect("patterns"),
        ..Grants::default()
    };
    let function = sandbox.load(script(), limits(), grants).await.expect("it loads");
    assert_eq!(answer(&function, &format!("http://rebind.test:{port}/path?query")).await, "");
    assert_eq!(table.asked(), 1);
    let seen = seen.lock().expect("unpoisoned").join("");
    assert!(
        seen.starts_with("GET /path?query HTTP/1.1\r\n")
            && seen.contains(&format!("host: rebind.test:{port}\r\n")),
        "{seen}"
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (inside, reached) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inside}/secret\r\ncontent-length: 0\r\n\r\n"
    );
    let (port, _) = server(Box::leak(redirect.into_boxed_str())).await;
    let function = function(&[&format!("http://out.test:{port}")], &[("out.test", "127.0.0.1")], true).await;
    assert_eq!(answer(&function, &format!("http://out.test:{port}/")).await, "");
    assert!(reached.lock().expect("unpoisoned").is_empty(), "the redirect was followed");
    assert_eq!(answer(&function, &format!("http://127.0.0.1:{inside}/secret")).await, "not_allowed");
}

#[tokio::test]
async fn bodies_and_calls_are_bounded() {
    let (port, _) = server("HTTP/1.1 200 OK\r\n\r\n0123456789012345678901234567890123456789").await;
    let allowed = Allowed::parse(&[format!("http://out.test:{port}")]).expect("patterns");
    let outbound = Outbound { resolver: Arc::new(Table::new(&[("out.test", "127.0.0.1")])), loopback: true };
    let sandbox = small(SandboxOptions { outbound, ..SandboxOptions::default() });
    let grants = Grants { outbound: allowed, ..Grants::default() };
    let small_limits = coldframe_sandbox::Limits { http_body_bytes: 16, http_calls: 2, ..limits() };
    let function = sandbox.load(script(), small_limits, grants).await.expect("it loads");
    let url = format!("http://out.test:{port}/");
    assert_eq!(answer(&function, &url).await, "too_large");
    let flood = Script::new().with(21, &url).op(17, &[]);
    let (end, _) = call(&function, &flood.0, &Bed::new()).await;
    assert_eq!((code(&end), end.usage.http_calls), ("http_calls", 2));
}

#[test]
fn only_the_public_internet_is_global() {
    let inside = "0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 \
        192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 ::ffff:8.8.8.8 \
        ::ffff:10.0.0.1 ::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 fc00::1 fd00::1 \
        fe80::1 fec0::1 ff02::1 3fff::1";
    for address in inside.split_whitespace() {
        assert!(!is_global(address.parse::<IpAddr>().expect("an address")), "{address}");
    }
    for address in [
        "8.8.8.8",
        "1.1.1.1",
        "93.184.216.34",
        "100.128.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "64:ff9b::808:808",
    ] {
        assert!(is_global(address.parse::<IpAddr>().expect("an address")), "{address}");
    }
}

#[test]
fn patterns_that_say_too_much_are_refused() {
    for pattern in [
        "",
        "*",
        "https://*",
        "https://*.com",
        "example.com",
        "ftp://example.com",
        "https://a*.example.com",
        "https://example.com/path",
        "https://u@example.com",
        "*://example.com",
        "https://*.1.2.3.4",
        "https://example.com:99999",
    ] {
        assert!(Allowed::parse(&[pattern]).is_err(), "{pattern}");
    }
}

//! TLS: both versions of HTTP over it, a handshake that hangs, a certificate that changes.

use super::scripted::app_with;
use coldframe_host::http::tls::{Certificates, TlsError};
use coldframe_host::http::{Limits, Settings, server};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// A self-signed certificate, made by openssl; `None` where there is no openssl.
fn make(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    match made {
        Ok(made) if made.status.success() => Some((certificate, key)),
        _ => {
            eprintln!("openssl is not there: the TLS tests did not run");
            None
        }
    }
}

#[test]
fn files_that_hold_no_certificate_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("empty.pem");
    std::fs::write(&path, "").expect("written");
    let error = Certificates::load(&path, &path).err().expect("an error");
    assert!(matches!(&error, TlsError::File { path: named, .. } if *named == path), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_spoken_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((certificate, key)) = make(folder.path()) else { return };
    let certificates = Certificates::load(&certificate, &key).expect("a pair");
    certificates.reload().expect("the same pair again");
    let limits = Limits { handshake_time: Duration::from_millis(300), ..Limits::default() };
    let (app, seen) = app_with(Settings { limits, ..Settings::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(server::run(listener, app, Some(certificates), std::future::pending()));
    for version in ["--http1.1", "--http2"] {
        let url = format!("https://localhost:{}/health", address.port());
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", version, "-w", " %{http_version}", "--cacert"])
            .arg(&certificate)
            .arg(url);
        match tokio::task::spawn_blocking(move || curl.output()).await.expect("joined") {
            Ok(out) => {
                let text = String::from_utf8_lossy(&out.stdout).into_owned();
                let wanted = if version == "--http2" { " 2" } else { " 1.1" };
                assert!(text.starts_with("ok") && text.ends_with(wanted), "{version}: {text} {out:?}");
            }
            Err(_) => eprintln!("curl is not there: HTTP over TLS was not tried"),
        }
    }
    let mut hanging = TcpStream::connect(address).await.expect("a connection");
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(10), hanging.read(&mut byte)).await;
    assert!(matches!(read.expect("the server closes the connection"), Ok(0) | Err(_)));
    assert!(seen.closed.lock().unwrap().contains(&"handshake"));
}

//! TLS and HTTP/2, towards clients and towards providers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{CREDENTIAL, KEY, gateway, mock};

/// Makes a certificate for `localhost` and 127.0.0.1, which signs itself.
pub(crate) fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (cert, key)
}

/// Sends a body with curl, which speaks every version of HTTP; gives status, version and body.
pub(crate) fn curl(arguments: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args([
            "-s",
            "-w",
            "\n%{http_code} %{http_version}",
            "-H",
            &format!("x-api-key: {KEY}"),
        ])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, outcome) = text.rsplit_once('\n').unwrap();
    (outcome.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_providers_speak_tls_and_both_versions() {
    let folder = TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    let (ca, key_text) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let mock = mock().await;
    let tls = json!({ "cert": ca, "key": key_text });
    let inner = gateway()
        .provider("up", &mock)
        .set("/server/tls", tls.clone())
        .run()
        .await;
    // A router before the router, so that upstreams over TLS are met as well.
    let port = inner.address.port();
    let upstream = |id: &str, http2: &str| {
        json!({ "id": id, "type": "custom", "base_url": format!("https://localhost:{port}/v1"),
            "api_key": "${CLIENT_KEY}", "ca_file": ca, "http2": http2 })
    };
    let outer = gateway()
        .set("/server/tls", tls)
        .add("providers", upstream("one", "never"))
        .add("providers", upstream("two", "auto"))
        .run()
        .await;
    for size in [100, 65_537, 1 << 20] {
        let body = folder.path().join("body");
        for provider in ["one", "two"] {
            let padding = "x".repeat(size);
            let model = format!("{provider}/mock-embed");
            fs::write(
                &body,
                json!({ "model": model, "input": padding }).to_string(),
            )
            .unwrap();
            for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
                for framing in [
                    "content-type: application/json",
                    "transfer-encoding: chunked",
                ] {
                    if flag == "--http2" && framing.starts_with("transfer") {
                        continue;
                    }
                    let data = format!("@{}", body.display());
                    let url = format!("{}/v1/embeddings", outer.url);
                    let (outcome, answer) = curl(&[
                        flag,
                        "--cacert",
                        ca,
                        "-H",
                        framing,
                        "--data-binary",
                        &data,
                        &url,
                    ]);
                    let start = &answer[..answer.len().min(300)];
                    assert_eq!(outcome, format!("200 {version}"), "{model} {flag}: {start}");
                    let received = mock.meter.requests(1, |_| true).pop().unwrap();
                    assert!(
                        received.body_bytes as usize > size,
                        "{model} {flag} {framing}"
                    );
                }
            }
        }
    }
    let stream = json!({ "model": "two/mock-gpt", "stream": true,
        "messages": [{ "role": "user", "content": "hi" }] });
    let url = format!("{}/v1/chat/completions", outer.url);
    let (outcome, answer) = curl(&["--http2", "--cacert", ca, "-d", &stream.to_string(), &url]);
    assert_eq!(outcome, "200 2");
    assert!(answer.trim_end().ends_with("data: [DONE]"), "{answer}");
    assert!(!answer.contains(CREDENTIAL));
    // Translated, with a length that nobody knew, towards either version.
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for (stream, end) in [(false, "end_turn"), (true, "message_stop")] {
            let body = json!({ "model": "two/mock-gpt", "stream": stream, "max_tokens": 100,
                "messages": [{ "role": "user", "content": "hi" }] });
            let url = format!("{}/v1/messages", outer.url);
            let (outcome, answer) = curl(&[flag, "--cacert", ca, "-d", &body.to_string(), &url]);
            assert_eq!(outcome, format!("200 {version}"), "{answer}");
            assert!(answer.contains(end), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_certificate_is_refused() {
    let folder = TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    let mock = mock().await;
    let tls = json!({ "cert": cert, "key": key });
    let inner = gateway()
        .provider("up", &mock)
        .set("/server/tls", tls)
        .run()
        .await;
    let url = format!("https://localhost:{}/v1", inner.address.port());
    let outer = gateway().provider_at("tls", "custom", &url).run().await;
    let answer = outer.chat("tls/mock-gpt", &[]).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_error")
    );
    assert_eq!(mock.meter.totals().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_http2_has_so_many_bytes() {
    let folder = TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    let ca = cert.to_str().unwrap();
    let tls = json!({ "cert": ca, "key": key.to_str().unwrap() });
    let gateway = gateway().set("/server/tls", tls).run().await;
    let url = format!("{}/v1/models", gateway.url);
    // Beyond, the stream is refused, and there is no answer.
    for (length, outcome) in [(60_000, "200 2"), (70_000, "000 0"), (100, "200 2")] {
        let line = format!("x-long: {}", "y".repeat(length));
        let (told, _) = curl(&["--http2", "--cacert", ca, "-H", &line, &url]);
        assert_eq!(told, outcome, "{length} bytes");
    }
}

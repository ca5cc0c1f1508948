//! Matrix of body sizes: the SHA-256 of the body sent compared with that of the body received
//! upstream.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::bed::{CHAT, Cpus, Proxy, ProxyKind, ProxyUnderTest, TestBed};
use crate::digest::sha256;
use crate::http1::{Channel, HttpFault};
use crate::payload::{self, MODEL};
use crate::{http2, output, target, to_its_end};

/// Options of `bodies`.
#[derive(Args, Debug)]
pub(crate) struct BodiesOptions {
    #[command(flatten)]
    subject: ProxyUnderTest,
    /// Bytes of the bodies
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    sizes: Vec<usize>,
    /// Leave out HTTP/2, which needs TLS
    #[arg(long)]
    no_http2: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the matrix; fails if a body arrived changed or not at all.
///
/// # Errors
/// Returns an error if upstream or proxy don't start.
pub(crate) fn run(options: &BodiesOptions) -> anyhow::Result<ExitCode> {
    let outcomes = to_its_end(matrix(options))?;
    output::report(options.json, &outcomes, &text(&outcomes))?;
    let good = outcomes.iter().all(|outcome| outcome.verdict.is_good());
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 1 << 20, 32 << 20];
/// Chunks are of a size that is no divisor of a buffer's.
const CHUNK: usize = 10_007;

/// Framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum BodyFraming {
    #[serde(rename = "HTTP/1.1 content-length")]
    Length,
    #[serde(rename = "HTTP/1.1 chunked")]
    Chunked,
    #[serde(rename = "HTTP/2 content-length")]
    H2Length,
    #[serde(rename = "HTTP/2 without length")]
    H2Open,
}

impl BodyFraming {
    fn name(self) -> &'static str {
        match self {
            Self::Length => "HTTP/1.1 content-length",
            Self::Chunked => "HTTP/1.1 chunked",
            Self::H2Length => "HTTP/2 content-length",
            Self::H2Open => "HTTP/2 without length",
        }
    }
}

#[derive(Debug, Serialize)]
struct BodyOutcome {
    size: usize,
    sent: BodyFraming,
    sha256: String,
    #[serde(flatten)]
    verdict: BodyVerdict,
}

/// Verdict on a body.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum BodyVerdict {
    /// The upstream got these bytes.
    Equal,
    /// The upstream got others.
    Changed { length: u64, sha256: String },
    /// Answered by the proxy: right for what is no JSON object.
    Refused { status: u16 },
    /// Answered by the proxy with an error though it was a valid chat.
    Failed { status: u16, answer: String },
    /// No answer.
    Broken { fault: String },
}

impl BodyVerdict {
    fn is_good(&self) -> bool {
        matches!(self, Self::Equal | Self::Refused { .. })
    }

    fn text(&self) -> String {
        match self {
            Self::Equal => "equal".to_owned(),
            Self::Changed { length, sha256 } => format!("CHANGED: {length} bytes, {sha256}"),
            Self::Refused { status } => format!("refused with {status}, as it should be"),
            Self::Failed { status, answer } => format!("FAILED with {status}: {answer}"),
            Self::Broken { fault } => format!("BROKEN: {fault}"),
        }
    }
}

async fn matrix(options: &BodiesOptions) -> anyhow::Result<Vec<BodyOutcome>> {
    let bed = TestBed::start(
        Cpus {
            proxy: None,
            load: None,
        },
        None,
        true,
    )
    .await?;
    let kind = options.subject.kind();
    let plain = bed.proxy("router", &kind).await?;
    let mut outcomes = series(
        &plain,
        &options.sizes,
        [BodyFraming::Length, BodyFraming::Chunked],
    )
    .await;
    if let (ProxyKind::Router(path), false) = (kind, options.no_http2) {
        let tls = bed.proxy("router-tls", &ProxyKind::RouterTls(path)).await?;
        outcomes.extend(
            series(
                &tls,
                &options.sizes,
                [BodyFraming::H2Length, BodyFraming::H2Open],
            )
            .await,
        );
    }
    Ok(outcomes)
}

async fn series(proxy: &Proxy, sizes: &[usize], ways: [BodyFraming; 2]) -> Vec<BodyOutcome> {
    let mut outcomes = Vec::new();
    for sent in ways {
        for &size in sizes {
            let body = body(size);
            let answer = send(proxy, sent, &body).await;
            let sha256 = sha256(&body);
            let verdict = judge(&body, &sha256, answer);
            outcomes.push(BodyOutcome {
                size,
                sent,
                sha256,
                verdict,
            });
        }
    }
    outcomes
}

/// A chat of exactly `size` bytes, or as much of one as fits.
fn body(size: usize) -> Vec<u8> {
    let mut body = payload::chat(MODEL, size, None);
    body.truncate(size);
    body
}

async fn send(proxy: &Proxy, sent: BodyFraming, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    let target = &proxy.target;
    Ok(match sent {
        BodyFraming::Length => exchange(proxy, &target.post(body)).await?,
        BodyFraming::Chunked => exchange(proxy, &target.post_chunked(body, CHUNK)).await?,
        BodyFraming::H2Length => http2::post(target.address, CHAT, body, Some(body.len())).await?,
        BodyFraming::H2Open => http2::post(target.address, CHAT, body, None).await?,
    })
}

/// One exchange; an answer that comes before the request is sent counts too.
async fn exchange(proxy: &Proxy, request: &[u8]) -> Result<(u16, Vec<u8>), HttpFault> {
    let mut channel = Channel::connect(proxy.target.address).await?;
    let sent = channel.send(request).await;
    let mut body = Vec::new();
    let head = target::answer(&mut channel, &mut |part: &[u8]| {
        body.extend_from_slice(part)
    })
    .await;
    match (sent, head) {
        (_, Ok(head)) => Ok((head.status, body)),
        (Err(error), Err(_)) => Err(error.into()),
        (Ok(()), Err(fault)) => Err(fault),
    }
}

#[derive(Deserialize)]
struct DigestAnswer {
    received: ReceivedDigest,
}

#[derive(Deserialize)]
struct ReceivedDigest {
    length: u64,
    sha256: String,
}

fn judge(body: &[u8], sha256: &str, answer: anyhow::Result<(u16, Vec<u8>)>) -> BodyVerdict {
    let (status, answer) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return BodyVerdict::Broken {
                fault: format!("{error:#}"),
            };
        }
    };
    if let Ok(DigestAnswer {
        received: ReceivedDigest {
            length,
            sha256: got,
        },
    }) = serde_json::from_slice(&answer)
    {
        let equal = got == sha256 && length == body.len() as u64;
        return if equal {
            BodyVerdict::Equal
        } else {
            BodyVerdict::Changed {
                length,
                sha256: got,
            }
        };
    }
    if status == 400 && serde_json::from_slice::<serde_json::Value>(body).is_err() {
        return BodyVerdict::Refused { status };
    }
    let answer = String::from_utf8_lossy(&answer).chars().take(200).collect();
    BodyVerdict::Failed { status, answer }
}

fn text(outcomes: &[BodyOutcome]) -> String {
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|outcome| {
            let short = outcome.sha256.chars().take(12).collect();
            let sent = outcome.sent.name().to_owned();
            vec![
                outcome.size.to_string(),
                sent,
                short,
                outcome.verdict.text(),
            ]
        })
        .collect();
    output::table(
        &[
            "bytes",
            "sent by",
            "SHA-256 sent",
            "received by the upstream",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_answer(length: usize, sha256: &str) -> Vec<u8> {
        format!(r#"{{"received":{{"length":{length},"sha256":"{sha256}"}}}}"#).into_bytes()
    }

    #[test]
    fn bodies_have_their_size_whatever_it_is() {
        for size in SIZES.into_iter().filter(|&size| size < 2 << 20) {
            assert_eq!(body(size).len(), size);
        }
    }

    #[test]
    fn verdicts() {
        let valid = body(1000);
        let hash = sha256(&valid);
        let judged = |body: &[u8], status, answer: &[u8]| {
            judge(body, &sha256(body), Ok((status, answer.to_vec())))
        };
        assert_eq!(
            judged(&valid, 200, &digest_answer(1000, &hash)),
            BodyVerdict::Equal
        );
        assert!(!judged(&valid, 200, &digest_answer(999, &hash)).is_good());
        assert!(!judged(&valid, 200, &digest_answer(1000, "00")).is_good());
        assert!(matches!(
            judged(&valid, 400, b"{}"),
            BodyVerdict::Failed { status: 400, .. }
        ));
        assert_eq!(
            judged(b"", 400, b"{}"),
            BodyVerdict::Refused { status: 400 }
        );
        assert!(matches!(
            judged(b"{", 500, b"{}"),
            BodyVerdict::Failed { status: 500, .. }
        ));
        assert!(matches!(
            judge(b"", "", Err(anyhow::anyhow!("x"))),
            BodyVerdict::Broken { .. }
        ));
    }
}

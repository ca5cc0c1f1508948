//! The matrix of body sizes: the SHA-256 of what was sent against that of what the upstream got.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, CHAT, Cpus, Kind, Proxy, Subject};
use crate::digest::sha256;
use crate::http1::{Channel, Fault};
use crate::payload::{self, MODEL};
use crate::{http2, output, runtime, target};

/// Options of `bodies`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
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
/// When upstream or proxy don't start.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let outcomes = runtime(NonZeroUsize::MIN)?.block_on(matrix(options))?;
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

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Sent {
    #[serde(rename = "HTTP/1.1 content-length")]
    Length,
    #[serde(rename = "HTTP/1.1 chunked")]
    Chunked,
    #[serde(rename = "HTTP/2 content-length")]
    H2Length,
    #[serde(rename = "HTTP/2 without length")]
    H2Open,
}

impl Sent {
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
struct Outcome {
    size: usize,
    sent: Sent,
    sha256: String,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What became of a body.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum Verdict {
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

impl Verdict {
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

async fn matrix(options: &Options) -> anyhow::Result<Vec<Outcome>> {
    let bed = Bed::start(
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
    let mut outcomes = series(&plain, &options.sizes, [Sent::Length, Sent::Chunked]).await;
    if let (Kind::Router(path), false) = (kind, options.no_http2) {
        let tls = bed.proxy("router-tls", &Kind::RouterTls(path)).await?;
        outcomes.extend(series(&tls, &options.sizes, [Sent::H2Length, Sent::H2Open]).await);
    }
    Ok(outcomes)
}

async fn series(proxy: &Proxy, sizes: &[usize], ways: [Sent; 2]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for sent in ways {
        for &size in sizes {
            let body = body(size);
            let answer = send(proxy, sent, &body).await;
            let sha256 = sha256(&body);
            let verdict = judge(&body, &sha256, answer);
            outcomes.push(Outcome {
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

async fn send(proxy: &Proxy, sent: Sent, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    let target = &proxy.target;
    Ok(match sent {
        Sent::Length => exchange(proxy, &target.post(body)).await?,
        Sent::Chunked => exchange(proxy, &target.post_chunked(body, CHUNK)).await?,
        Sent::H2Length => http2::post(target.address, CHAT, body, Some(body.len())).await?,
        Sent::H2Open => http2::post(target.address, CHAT, body, None).await?,
    })
}

/// One exchange; an answer that comes before the request is sent counts too.
async fn exchange(proxy: &Proxy, request: &[u8]) -> Result<(u16, Vec<u8>), Fault> {
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
struct Answer {
    received: Received,
}

#[derive(Deserialize)]
struct Received {
    length: u64,
    sha256: String,
}

fn judge(body: &[u8], sha256: &str, answer: anyhow::Result<(u16, Vec<u8>)>) -> Verdict {
    let (status, answer) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Verdict::Broken {
                fault: format!("{error:#}"),
            };
        }
    };
    if let Ok(Answer {
        received: Received {
            length,
            sha256: got,
        },
    }) = serde_json::from_slice(&answer)
    {
        let equal = got == sha256 && length == body.len() as u64;
        return if equal {
            Verdict::Equal
        } else {
            Verdict::Changed {
                length,
                sha256: got,
            }
        };
    }
    if status == 400 && serde_json::from_slice::<serde_json::Value>(body).is_err() {
        return Verdict::Refused { status };
    }
    let answer = String::from_utf8_lossy(&answer).chars().take(200).collect();
    Verdict::Failed { status, answer }
}

fn text(outcomes: &[Outcome]) -> String {
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

    fn told(length: usize, sha256: &str) -> Vec<u8> {
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
        assert_eq!(judged(&valid, 200, &told(1000, &hash)), Verdict::Equal);
        assert!(!judged(&valid, 200, &told(999, &hash)).is_good());
        assert!(!judged(&valid, 200, &told(1000, "00")).is_good());
        assert!(matches!(
            judged(&valid, 400, b"{}"),
            Verdict::Failed { status: 400, .. }
        ));
        assert_eq!(judged(b"", 400, b"{}"), Verdict::Refused { status: 400 });
        assert!(matches!(
            judged(b"{", 500, b"{}"),
            Verdict::Failed { status: 500, .. }
        ));
        assert!(matches!(
            judge(b"", "", Err(anyhow::anyhow!("x"))),
            Verdict::Broken { .. }
        ));
    }
}

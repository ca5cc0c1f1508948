//! The bare upstream: answers chats with fixed bytes or stamped events for as little CPU as
//! possible. It must not imitate a provider's behaviour; that is the mock provider's work.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clap::Args;
use httparse::Status;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::digest::RunningDigest;
use crate::event::{self, EventPlan};
use crate::http1::{self, Channel, Framing, HEADERS, HttpFault};
use crate::{clock, runtime};

/// Options of `upstream`.
#[derive(Args, Debug)]
pub(crate) struct UpstreamOptions {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Worker threads
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Answer with SHA-256 and length of the body received
    #[arg(long)]
    digest: bool,
}

/// Serves until the process is ended.
///
/// # Errors
/// Returns an error if it can't listen.
pub(crate) fn run(options: &UpstreamOptions) -> anyhow::Result<()> {
    let state = Arc::new(UpstreamState::new(options.digest));
    runtime(options.threads)?.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        loop {
            // A failed accept is the client's loss: most often it has gone already.
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&state)));
            }
        }
    })
}

/// Larger bodies are refused.
const BODY_LIMIT: u64 = 64 << 20;
/// Only the first part of a body is searched for what it asks.
const SEARCHED: usize = 64 << 10;
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[derive(Debug)]
struct UpstreamState {
    answer: Bytes,
    digest: bool,
    open: AtomicUsize,
    served: AtomicUsize,
}

impl UpstreamState {
    fn new(digest: bool) -> Self {
        let answer = message(200, &chat_answer("")).into();
        Self {
            answer,
            digest,
            open: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
        }
    }

    fn counts(&self) -> Vec<u8> {
        let open = self.open.load(Ordering::Relaxed);
        let served = self.served.load(Ordering::Relaxed);
        message(200, &format!(r#"{{"open":{open},"served":{served}}}"#))
    }
}

/// Counts a stream as open while it lives.
struct OpenStream<'a>(&'a AtomicUsize);

impl<'a> OpenStream<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(stream: TcpStream, state: Arc<UpstreamState>) {
    let Ok(mut channel) = Channel::new(stream) else {
        return;
    };
    while let Ok(true) = exchange(&mut channel, &state).await {}
}

/// One request and its answer; false when the connection is at its end.
async fn exchange(channel: &mut Channel, state: &UpstreamState) -> Result<bool, HttpFault> {
    let Some(head) = channel.head(parse_request).await? else {
        return Ok(false);
    };
    if matches!(head.framing, Framing::Length(length) if length > BODY_LIMIT) {
        channel
            .send(&message(413, r#"{"error":{"message":"too large"}}"#))
            .await?;
        return Ok(false);
    }
    if head.continues {
        channel.send(CONTINUE).await?;
    }
    let body = receive(channel, head.framing, state.digest).await?;
    answer(channel, state, head, body).await
}

async fn answer(
    channel: &mut Channel,
    state: &UpstreamState,
    head: UpstreamRequestHead,
    body: ReceivedBody,
) -> Result<bool, HttpFault> {
    state.served.fetch_add(1, Ordering::Relaxed);
    if head.path == UpstreamPath::Counts {
        channel.send(&state.counts()).await?;
    } else if let Some(plan) = plan(head.plan, &body.start) {
        let _open = OpenStream::new(&state.open);
        return stream(channel, &plan).await;
    } else if let Some(digest) = body.digest {
        channel.send(&digest_answer(digest)).await?;
    } else {
        channel.send(&state.answer).await?;
    }
    Ok(!head.close)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpstreamPath {
    /// `/bench/open`: how many streams are open.
    Counts,
    /// Everything else is a chat.
    Chat,
}

#[derive(Debug)]
struct UpstreamRequestHead {
    path: UpstreamPath,
    framing: Framing,
    /// The client waits for a `100 Continue` before it sends the body.
    continues: bool,
    close: bool,
    /// The stream that `x-bench-…` headers ask for.
    plan: Option<EventPlan>,
}

fn parse_request(bytes: &[u8]) -> Result<Option<(usize, UpstreamRequestHead)>, HttpFault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let Status::Complete(length) = parsed.parse(bytes)? else {
        return Ok(None);
    };
    let path = if parsed.path == Some("/bench/open") {
        UpstreamPath::Counts
    } else {
        UpstreamPath::Chat
    };
    let framing = http1::framing(parsed.headers)?.unwrap_or(Framing::Length(0));
    let says = |name: &str, value: &[u8]| {
        http1::find(parsed.headers, name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let (continues, close) = (
        says("expect", b"100-continue"),
        says("connection", b"close"),
    );
    let plan = plan_of_headers(parsed.headers);
    Ok(Some((
        length,
        UpstreamRequestHead {
            path,
            framing,
            continues,
            close,
            plan,
        },
    )))
}

fn plan_of_headers(headers: &[httparse::Header<'_>]) -> Option<EventPlan> {
    let mut plan = None;
    for header in headers {
        let Some((prefix, rest)) = header.name.split_at_checked("x-bench-".len()) else {
            continue;
        };
        if let (true, Ok(value)) = (
            prefix.eq_ignore_ascii_case("x-bench-"),
            str::from_utf8(header.value),
        ) {
            let name = rest.to_ascii_lowercase().replace('-', "_");
            plan.get_or_insert_with(EventPlan::default)
                .set(&name, value);
        }
    }
    plan
}

/// Returns the stream to send, if one was requested: headers take precedence over the body.
fn plan(asked: Option<EventPlan>, body: &[u8]) -> Option<EventPlan> {
    if asked.is_some() {
        return asked;
    }
    let streams = |flag: &[u8]| memmem::find(body, flag).is_some();
    if !streams(br#""stream":true"#) && !streams(br#""stream": true"#) {
        return None;
    }
    let mut plan = EventPlan::default();
    if let Some(knob) = knob(body) {
        plan.apply(knob);
    }
    Some(plan)
}

fn knob(body: &[u8]) -> Option<&str> {
    const NAME: &[u8] = br#""bench":""#;
    let rest = body.get(memmem::find(body, NAME)? + NAME.len()..)?;
    str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
}

struct ReceivedBody {
    start: Vec<u8>,
    digest: Option<RunningDigest>,
}

async fn receive(
    channel: &mut Channel,
    framing: Framing,
    digest: bool,
) -> Result<ReceivedBody, HttpFault> {
    let mut received = ReceivedBody {
        start: Vec::new(),
        digest: digest.then(RunningDigest::default),
    };
    let mut sink = |part: &[u8]| {
        let room = SEARCHED
            .saturating_sub(received.start.len())
            .min(part.len());
        received
            .start
            .extend_from_slice(part.get(..room).unwrap_or_default());
        if let Some(digest) = &mut received.digest {
            digest.add(part);
        }
    };
    channel.body(framing, &mut sink).await?;
    Ok(received)
}

/// Sends the events of `plan`, each in a write of its own; false if the client left.
async fn stream(channel: &mut Channel, plan: &EventPlan) -> Result<bool, HttpFault> {
    channel.send(STREAM_HEAD).await?;
    let (start, mut due) = (Instant::now(), std::time::Duration::ZERO);
    let (mut chunk, mut event) = (Vec::new(), Vec::new());
    for sequence in 0..plan.events {
        // The timer rounds up to a millisecond, so that waiting for a moment past costs one.
        if !due.is_zero() && !wait(channel, start + due).await? {
            return Ok(false);
        }
        due += plan.interval;
        event.clear();
        event::write(&mut event, sequence, clock::unix_nanos(), plan.size);
        frame(&mut chunk, &event);
        channel.send(&chunk).await?;
    }
    frame(&mut chunk, event::TAIL);
    chunk.extend_from_slice(b"0\r\n\r\n");
    channel.send(&chunk).await?;
    Ok(true)
}

/// Waits until `due`; false as soon as the client closes.
async fn wait(channel: &mut Channel, due: Instant) -> Result<bool, HttpFault> {
    loop {
        tokio::select! {
            biased;
            () = sleep_until(due) => return Ok(true),
            read = channel.fill() => if read? == 0 { return Ok(false) },
        }
    }
}

fn frame(chunk: &mut Vec<u8>, content: &[u8]) {
    chunk.clear();
    chunk.extend_from_slice(format!("{:x}\r\n", content.len()).as_bytes());
    chunk.extend_from_slice(content);
    chunk.extend_from_slice(b"\r\n");
}

fn message(status: u16, body: &str) -> Vec<u8> {
    let reason = if status == 200 {
        "OK"
    } else {
        "Content Too Large"
    };
    let length = body.len();
    let head = "content-type: application/json\r\ncontent-length:";
    format!("HTTP/1.1 {status} {reason}\r\n{head} {length}\r\n\r\n{body}").into_bytes()
}

fn digest_answer(digest: RunningDigest) -> Vec<u8> {
    let (length, sha256) = (digest.length, digest.hex());
    let field = format!(r#""received":{{"length":{length},"sha256":"{sha256}"}},"#);
    message(200, &chat_answer(&field))
}

/// A chat completion of about 1 KB, with `extra` fields in it.
fn chat_answer(extra: &str) -> String {
    let content = "The auditors need one more day, so the meeting moved to Thursday. ".repeat(11);
    format!(
        r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1764000000,"model":"bench",{extra}"choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":150,"total_tokens":350}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_answer_is_about_a_kilobyte_of_json() {
        let answer = chat_answer("");
        assert!((950..1100).contains(&answer.len()), "{}", answer.len());
        let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(json["choices"][0]["finish_reason"], "stop");
        let digest = digest_answer(RunningDigest::default());
        let body = digest.split(|&byte| byte == b'\n').next_back().unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(body).unwrap()["received"]["length"],
            0
        );
    }

    #[test]
    fn a_stream_is_asked_for_by_body_or_headers() {
        let knob = br#"{"stream":true,"metadata":{"bench":"events=3;interval_us=5"}}"#;
        let found = plan(None, knob).unwrap();
        assert_eq!(
            (found.events, found.interval),
            (3, Duration::from_micros(5))
        );
        assert_eq!(
            plan(None, br#"{"stream": true}"#),
            Some(EventPlan::default())
        );
        assert_eq!(plan(None, br#"{"stream":false}"#), None);
        let head =
            b"POST /v1/messages HTTP/1.1\r\nX-Bench-Events: 9\r\nx-bench-interval-us: 7\r\n\r\n";
        let (_, head) = parse_request(head).unwrap().unwrap();
        let asked = head.plan.unwrap();
        assert_eq!(
            (asked.events, asked.interval),
            (9, Duration::from_micros(7))
        );
    }

    #[test]
    fn request_heads() {
        let head = b"POST /v1/x HTTP/1.1\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
        let (_, head) = parse_request(head).unwrap().unwrap();
        assert!(head.continues && head.close && head.framing == Framing::Length(0));
        let (_, head) = parse_request(b"GET /bench/open HTTP/1.1\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(head.path, UpstreamPath::Counts);
    }
}

//! Clients that send one chat after the other and check every answer.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::clock;
use crate::http1::{AnswerHead, Channel, HEADERS, HttpFault, find, parse_answer};
use crate::target::LoadTarget;

/// Clients and their requests.
#[derive(Clone)]
pub(crate) struct ChatClients {
    pub(crate) target: LoadTarget,
    pub(crate) model: &'static str,
    pub(crate) stream: bool,
    /// Concurrent clients.
    pub(crate) clients: usize,
    /// The text that every answer must have, once it is known.
    pub(crate) content: Option<Arc<str>>,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Time of the request.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) provider: String,
}

/// Results of the requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrafficTally {
    pub(crate) samples: Vec<Sample>,
    /// Errors of the other requests.
    pub(crate) errors: Vec<String>,
    /// Streams that broke after content and ended with an error.
    pub(crate) broken: usize,
    /// Answers whose text isn't the expected one, or isn't its beginning where they broke.
    pub(crate) repeated: usize,
}

impl TrafficTally {
    /// Adds the results of other requests.
    pub(crate) fn add(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.errors.extend(other.errors);
        self.broken += other.broken;
        self.repeated += other.repeated;
    }
}

/// One answer, whole or broken.
struct ChatAnswer {
    provider: String,
    text: String,
    broken: bool,
}

/// Clients at work in the background.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<TrafficTally>>,
    clients: JoinSet<()>,
}

impl ChatClients {
    /// Asks `count` times and waits for the answers.
    pub(crate) async fn times(&self, count: usize) -> TrafficTally {
        let traffic = self.begin(count);
        traffic.finish().await
    }

    /// Asks until it is stopped, at most `count` times.
    pub(crate) fn begin(&self, count: usize) -> Traffic {
        let (stop, tally) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<TrafficTally>>::default(),
        );
        let left = Arc::new(AtomicUsize::new(count));
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let (ask, stop, tally, left) = (
                self.clone(),
                Arc::clone(&stop),
                Arc::clone(&tally),
                Arc::clone(&left),
            );
            clients.spawn(async move { ask.work(&stop, &left, &tally).await });
        }
        Traffic {
            stop,
            tally,
            clients,
        }
    }

    async fn work(&self, stop: &AtomicBool, left: &AtomicUsize, tally: &Mutex<TrafficTally>) {
        let request = self.request();
        let mut channel = None;
        let take = |left: usize| left.checked_sub(1);
        while !stop.load(Relaxed) && left.fetch_update(Relaxed, Relaxed, take).is_ok() {
            let at = clock::now();
            let answered = self.ask(&mut channel, &request).await;
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match answered {
                Ok(answer) => {
                    tally.repeated += usize::from(!self.is_expected(&answer));
                    if answer.broken {
                        channel = None;
                        tally.broken += 1;
                        continue;
                    }
                    tally.samples.push(Sample {
                        at,
                        took: clock::now() - at,
                        provider: answer.provider,
                    });
                }
                Err(error) => {
                    channel = None;
                    tally.errors.push(format!("{error:#}"));
                }
            }
        }
    }

    /// Asks once for the text that every answer has.
    ///
    /// # Errors
    /// Returns an error if there is no answer.
    pub(crate) async fn learn_content(&self) -> anyhow::Result<Arc<str>> {
        let request = self.request();
        Ok(self.ask(&mut None, &request).await?.text.into())
    }

    fn is_expected(&self, answer: &ChatAnswer) -> bool {
        let Some(content) = &self.content else {
            return true;
        };
        if answer.broken {
            content.starts_with(&answer.text)
        } else {
            **content == *answer.text
        }
    }

    fn request(&self) -> Vec<u8> {
        let body = format!(
            "{{\"model\":\"{}\",\"stream\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}",
            self.model, self.stream
        );
        self.target.post(body.as_bytes())
    }

    /// Asks once.
    async fn ask(&self, kept: &mut Option<Channel>, request: &[u8]) -> anyhow::Result<ChatAnswer> {
        let mut channel = match kept.take() {
            Some(channel) => channel,
            None => Channel::connect(self.target.address).await?,
        };
        channel.send(request).await?;
        let (head, provider) = channel.head(parse).await?.context("no answer")?;
        let mut body = Vec::new();
        channel
            .body(head.framing, &mut |part: &[u8]| {
                body.extend_from_slice(part)
            })
            .await?;
        let text = String::from_utf8_lossy(&body);
        let whole = if self.stream {
            text.ends_with("[DONE]\n\n")
        } else {
            text.contains("\"choices\"")
        };
        let failed = text.contains("\"error\"");
        let answer = ChatAnswer {
            provider,
            text: content(&text, self.stream),
            broken: self.stream && failed && !whole,
        };
        let told = answer.broken && !answer.text.is_empty();
        anyhow::ensure!(
            head.status == 200 && (told || whole && !failed),
            "{}: {text}",
            head.status
        );
        *kept = (!head.close).then_some(channel);
        Ok(answer)
    }
}

/// The text of a chat completion, or of the chunks of one.
fn content(body: &str, stream: bool) -> String {
    let read = |json: &str, pointer: &str| {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        Some(value.pointer(pointer)?.as_str()?.to_owned())
    };
    if !stream {
        return read(body, "/choices/0/message/content").unwrap_or_default();
    }
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|json| read(json, "/choices/0/delta/content"))
        .collect()
}

/// The head of an answer and the provider that the router names in it.
type AnswerWithProvider = (AnswerHead, String);

fn parse(bytes: &[u8]) -> Result<Option<(usize, AnswerWithProvider)>, HttpFault> {
    let Some((length, head)) = parse_answer(bytes)? else {
        return Ok(None);
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(bytes)?;
    let provider = find(parsed.headers, "x-llm-router-provider").unwrap_or_default();
    let provider = String::from_utf8_lossy(provider).into_owned();
    Ok(Some((length, (head, provider))))
}

impl Traffic {
    /// Stops the clients and returns the results.
    pub(crate) async fn stop(self) -> TrafficTally {
        self.stop.store(true, Relaxed);
        self.finish().await
    }

    async fn finish(mut self) -> TrafficTally {
        while self.clients.join_next().await.is_some() {}
        std::mem::take(&mut *self.tally())
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, TrafficTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

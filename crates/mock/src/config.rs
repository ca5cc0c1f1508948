//! Settings of a mock provider. Those of a single request belong to `control`.

use std::time::Duration;

use secrecy::SecretString;

/// Settings of a mock provider for requests without controls.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// Answers are drawn from this and the request: the same both times, the same answer.
    pub seed: u64,
    /// Wait from the request to the first event of a stream.
    pub first_token: Duration,
    /// Wait between two token events. A whole answer waits as long as its stream would take.
    pub token_delay: Duration,
    /// Usual length of an answer in tokens.
    pub tokens: u32,
    /// Variation of waits and lengths, in percent.
    pub jitter_percent: u8,
    /// Names listed by `/v1/models`. Any name is answered.
    pub models: Vec<String>,
    /// The only credential accepted; without it any is, and none.
    pub require_key: Option<SecretString>,
    /// Largest request body in bytes; a larger one is answered 413.
    pub max_body: usize,
    /// Number of requests in the meter's log.
    pub log_capacity: usize,
    /// Time that open streams have after a shutdown.
    pub drain: Duration,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            first_token: Duration::ZERO,
            token_delay: Duration::ZERO,
            tokens: 40,
            jitter_percent: 0,
            models: ["mock-gpt", "mock-gpt-mini", "mock-claude", "mock-embed"]
                .map(String::from)
                .into(),
            require_key: None,
            max_body: 64 << 20,
            log_capacity: 1_000,
            drain: Duration::ZERO,
        }
    }
}

impl MockConfig {
    /// The pace and length of a hosted model, for demonstrations.
    #[must_use]
    pub fn realistic() -> Self {
        Self {
            first_token: Duration::from_millis(280),
            token_delay: Duration::from_millis(14),
            tokens: 120,
            jitter_percent: 40,
            drain: Duration::from_secs(5),
            ..Self::default()
        }
    }
}

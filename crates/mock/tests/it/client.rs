//! Minimal client that reports exactly what it received: chunks as they were, and how the
//! connection ended. It must not hold assertions.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use llm_router_mock::{MockConfig, MockProvider, RunningMock};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Timeout of anything that should be immediate.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn mock() -> RunningMock {
    MockProvider::start(MockConfig::default()).await.unwrap()
}

/// End of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyEnd {
    /// The message was complete.
    Message,
    /// Closed before the message was complete.
    Closed,
    /// Reset.
    Reset,
}

#[derive(Debug)]
pub(crate) struct StreamReply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) chunks: Vec<usize>,
    pub(crate) end: ReplyEnd,
}

/// An SSE event by name, empty where it has none, and data.
pub(crate) type NamedEvent = (String, String);

impl StreamReply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn events(&self) -> Vec<NamedEvent> {
        let text = self.text();
        let blocks = text.split("\n\n").filter(|block| !block.is_empty());
        blocks.map(parse_event).collect()
    }

    /// The data of all events that are JSON.
    pub(crate) fn data(&self) -> Vec<Value> {
        let events = self.events().into_iter();
        events
            .filter_map(|(_, data)| serde_json::from_str(&data).ok())
            .collect()
    }
}

fn parse_event(block: &str) -> NamedEvent {
    let (mut name, mut data) = (String::new(), String::new());
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", value)) => value.clone_into(&mut name),
            Some(("data", value)) => value.clone_into(&mut data),
            _ => panic!("no SSE line: {line}"),
        }
    }
    (name, data)
}

/// A request on its way.
pub(crate) struct TestRequest {
    addr: SocketAddr,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub(crate) fn get(mock: &RunningMock, path: &str) -> TestRequest {
    TestRequest {
        addr: mock.addr(),
        method: "GET",
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

pub(crate) fn post(mock: &RunningMock, path: &str, body: &Value) -> TestRequest {
    let request = TestRequest {
        method: "POST",
        body: body.to_string().into(),
        ..get(mock, path)
    };
    if path.contains("messages") {
        request.header("anthropic-version", "2023-06-01")
    } else {
        request
    }
}

impl TestRequest {
    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the request and reads to the end.
    pub(crate) async fn send(self) -> StreamReply {
        self.open().await.rest().await
    }

    /// Sends the request.
    pub(crate) async fn open(self) -> TestAnswer {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\nhost: mock\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", self.body.len());
        stream
            .write_all(&[head.as_bytes(), &self.body].concat())
            .await
            .unwrap();
        TestAnswer {
            stream,
            received: Vec::new(),
        }
    }
}

/// An answer being received.
pub(crate) struct TestAnswer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl TestAnswer {
    /// Reads until `text` has arrived.
    pub(crate) async fn until(&mut self, text: &str) {
        while !self
            .received
            .windows(text.len())
            .any(|window| window == text.as_bytes())
        {
            let end = timeout(PATIENCE, self.read()).await.unwrap();
            assert_eq!(end, None, "ended before {text}");
        }
    }

    /// Reads whatever arrives next.
    pub(crate) async fn until_more(&mut self) {
        let end = timeout(PATIENCE, self.read()).await.unwrap();
        assert_eq!(end, None, "ended before there was more");
    }

    /// Returns true if nothing more arrives for a while.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let before = self.received.len();
        let read = timeout(Duration::from_millis(80), self.read()).await;
        read.is_err() && self.received.len() == before
    }

    pub(crate) fn received_bytes(&self) -> &[u8] {
        &self.received
    }

    pub(crate) async fn rest(mut self) -> StreamReply {
        loop {
            if let Some(reply) = parse(&self.received, None) {
                return reply;
            }
            if let Some(end) = timeout(PATIENCE, self.read()).await.unwrap() {
                return parse(&self.received, Some(end)).unwrap();
            }
        }
    }

    async fn read(&mut self) -> Option<ReplyEnd> {
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Some(ReplyEnd::Closed),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                Some(ReplyEnd::Reset)
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads a reply from what has arrived; `None` if more must come.
fn parse(received: &[u8], ended: Option<ReplyEnd>) -> Option<StreamReply> {
    let Some(head_end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        let empty = |end| StreamReply {
            status: 0,
            headers: HashMap::new(),
            body: received.to_vec(),
            chunks: Vec::new(),
            end,
        };
        return ended.map(empty);
    };
    let head = std::str::from_utf8(&received[..head_end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let rest = &received[head_end + 4..];
    let (body, chunks, whole) = match headers.get("content-length") {
        Some(length) => (rest.to_vec(), Vec::new(), length.parse() == Ok(rest.len())),
        None if headers.contains_key("transfer-encoding") => dechunk(rest),
        None => (rest.to_vec(), Vec::new(), rest.is_empty()),
    };
    let end = if whole {
        Some(ReplyEnd::Message)
    } else {
        ended
    };
    end.map(|end| StreamReply {
        status,
        headers,
        body,
        chunks,
        end,
    })
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, Vec<usize>, bool) {
    let (mut body, mut chunks) = (Vec::new(), Vec::new());
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, chunks, true);
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + size) else {
            body.extend_from_slice(&rest[line + 2..]);
            break;
        };
        body.extend_from_slice(chunk);
        chunks.push(size);
        rest = rest.get(line + 4 + size..).unwrap_or_default();
    }
    (body, chunks, false)
}

/// Asks again and again until `done`, and fails when it takes too long.
pub(crate) async fn eventually(done: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("it never came to be");
}

//! HTTP/2 with prior knowledge.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use llm_router_mock::RunningMock;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{eventually, mock};

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(mock: &RunningMock) -> Sender {
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Sender, model: &str) -> hyper::Result<Response<Incoming>> {
    let body: Value = json!({"model": model, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let request = Request::post("http://mock/v1/chat/completions")
        .body(Full::from(body.to_string()))
        .unwrap();
    sender.send_request(request).await
}

/// Reads until the end, and returns true if that is a failure.
async fn until_end(mut body: Incoming) -> (Vec<u8>, bool) {
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => return (received, true),
        }
    }
    (received, false)
}

#[tokio::test]
async fn streams_are_answered_side_by_side() {
    let mock = mock().await;
    let mut sender = connect(&mock).await;
    let (slow, quick) = {
        let mut second = sender.clone();
        tokio::join!(
            ask(&mut sender, "m:token_delay=5ms:tokens=5"),
            ask(&mut second, "m:tokens=5"),
        )
    };
    for response in [slow, quick] {
        let body = response
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert!(body.ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_failure_ends_its_own_stream_only() {
    let mock = mock().await;
    let mut sender = connect(&mock).await;
    assert!(ask(&mut sender, "m:reset").await.is_err());
    for model in ["m:reset_after=3", "m:cut_after=3", "m:cut_bytes=40"] {
        let response = ask(&mut sender, model).await.unwrap();
        assert_eq!(response.status(), 200);
        let (received, failed) = until_end(response.into_body()).await;
        assert!(failed, "{model}");
        match model {
            "m:cut_bytes=40" => assert_eq!(received.len(), 40),
            _ => assert_eq!(received.windows(2).filter(|end| end == b"\n\n").count(), 3),
        }
    }
    assert_eq!(
        ask(&mut sender, "m:status=500").await.unwrap().status(),
        500
    );
    let whole = ask(&mut sender, "m")
        .await
        .unwrap()
        .into_body()
        .collect()
        .await;
    assert!(whole.is_ok());
    eventually(|| mock.meter().totals().ended.cut == 4).await;
}

#[tokio::test]
async fn a_client_that_cancels_is_noticed() {
    let mock = mock().await;
    let mut sender = connect(&mock).await;
    let response = ask(&mut sender, "m:hang_after=2").await.unwrap();
    eventually(|| mock.meter().open_streams() == 1).await;
    drop(response);
    eventually(|| mock.meter().totals().ended.client_gone == 1).await;
}

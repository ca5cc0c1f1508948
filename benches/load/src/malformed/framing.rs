//! Malformed HTTP. The content within is broken too, so that however the framing is understood
//! the answer can't be a success.

use rand::RngExt;
use rand::rngs::StdRng;

use super::case::{CallerFormat, CaseDraft, MalformedCase};
use super::content::pick;

/// Broken whatever the framing.
const BROKEN: &str = r#"{"model":"#;

/// A length that is none.
pub(super) fn bad_length(rng: &mut StdRng) -> MalformedCase {
    let value = pick(
        rng,
        &[
            "-1",
            "abc",
            "",
            "1e3",
            "0x10",
            "99999999999999999999999",
            "+9",
            "9 9",
            "9,9",
            "\u{661}",
        ],
    );
    CaseDraft::new(rng)
        .header(&format!("content-length: {value}"))
        .raw(BROKEN.as_bytes())
        .half_closed()
}

/// Two lengths, or a length and chunks.
pub(super) fn two_framings(rng: &mut StdRng) -> MalformedCase {
    let draft = CaseDraft::new(rng);
    let length = BROKEN.len();
    let draft = match rng.random_range(0..4) {
        0 => draft
            .header(&format!("content-length: {length}"))
            .header("content-length: 3"),
        1 => draft.header(&format!("content-length: {length}, 3")),
        2 => draft
            .header("content-length: 3")
            .header("transfer-encoding: chunked"),
        _ => draft.header("transfer-encoding: chunked, identity, x"),
    };
    draft
        .raw(format!("{length:x}\r\n{BROKEN}\r\n0\r\n\r\n").as_bytes())
        .half_closed()
}

/// Chunk sizes that are none, or whose chunk isn't as long.
pub(super) fn bad_chunks(rng: &mut StdRng) -> MalformedCase {
    let extension = "x".repeat(rng.random_range(1..100_000));
    let body = match rng.random_range(0..8) {
        0 => "zz\r\n{}\r\n0\r\n\r\n".to_owned(),
        1 => format!("-9\r\n{BROKEN}\r\n0\r\n\r\n"),
        2 => "ffffffffffffffffff\r\n".to_owned(),
        3 => format!("7fffffffffffffff\r\n{BROKEN}"),
        4 => format!("3\r\n{BROKEN}\r\n0\r\n\r\n"),
        5 => format!("9;{extension}\r\n{BROKEN}\r\n0\r\n\r\n"),
        6 => format!("9\n{BROKEN}\n0\n\n"),
        _ => format!("9\r\n{BROKEN}\r\n0\r\ncontent-length: 5\r\n{extension}\r\n\r\n"),
    };
    let draft = CaseDraft::new(rng).header("transfer-encoding: chunked");
    draft.raw(body.as_bytes()).half_closed()
}

/// A body that ends before it should.
pub(super) fn body_cut(rng: &mut StdRng) -> MalformedCase {
    let missing = rng.random_range(1..10_000);
    let draft = CaseDraft::new(rng);
    if rng.random_bool(0.5) {
        let length = BROKEN.len() + missing;
        draft
            .header(&format!("content-length: {length}"))
            .raw(BROKEN.as_bytes())
            .half_closed()
    } else {
        let body = format!(
            "{missing:x}\r\n{}",
            BROKEN.get(..missing.min(9)).unwrap_or(BROKEN)
        );
        draft
            .header("transfer-encoding: chunked")
            .raw(body.as_bytes())
            .half_closed()
    }
}

/// A body that is said to be larger than any router takes.
pub(super) fn too_large(rng: &mut StdRng) -> MalformedCase {
    let length = rng.random_range(1_u64 << 32..1 << 62);
    CaseDraft::new(rng)
        .header(&format!("content-length: {length}"))
        .raw(BROKEN.as_bytes())
        .half_closed()
}

/// A head that ends before it should.
pub(super) fn head_cut(rng: &mut StdRng) -> MalformedCase {
    let mut case = CaseDraft::new(rng)
        .header("content-length: 9")
        .raw(b"")
        .half_closed();
    case.bytes
        .truncate(rng.random_range(1..case.bytes.len() - 2));
    MalformedCase {
        caller: CallerFormat::Unknown,
        ..case
    }
}

/// Headers beyond measure, by size or number.
pub(super) fn huge_head(rng: &mut StdRng) -> MalformedCase {
    let draft = CaseDraft::new(rng);
    let draft = match rng.random_range(0..3) {
        0 => draft.header(&format!(
            "x-huge: {}",
            "h".repeat(rng.random_range(70_000..1_000_000))
        )),
        1 => draft.header(&format!(
            "{}: x",
            "n".repeat(rng.random_range(70_000..300_000))
        )),
        _ => (0..rng.random_range(300..5_000)).fold(draft, |draft, number| {
            draft.header(&format!("x-{number}: y"))
        }),
    };
    draft.send(BROKEN.as_bytes()).half_closed()
}

/// Header lines that are none.
pub(super) fn bad_header(rng: &mut StdRng) -> MalformedCase {
    let line = pick(
        rng,
        &[
            "no colon here",
            ": no name",
            "na me: x",
            "n\u{e4}me: x",
            "x\0y: z",
            "x: a\0b",
            "x: a\rb",
            " folded: first",
            "x: y\r\n folded",
            "x :y",
            "host: other",
            "\u{7f}: x",
            "x: \u{1}",
        ],
    );
    CaseDraft::new(rng)
        .header(line)
        .send(BROKEN.as_bytes())
        .half_closed()
}

/// A request line that is none, or is for something else.
pub(super) fn bad_line(rng: &mut StdRng) -> MalformedCase {
    let line = pick(
        rng,
        &[
            "POST /v1/chat/completions HTTP/9.9",
            "POST /v1/chat/completions HTTP/2.0",
            "POST",
            "POST /v1/chat/completions",
            "P\0ST /v1/chat/completions HTTP/1.1",
            "GET  / HTTP/1.1",
            "POST /v1/chat completions HTTP/1.1",
            " POST / HTTP/1.1",
            "POST \u{fc} HTTP/1.1",
            "POST http:// HTTP/1.1",
            "CONNECT example.com:443 HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "POST /v1/%00%zz HTTP/1.1",
            "POST /v1/../../etc/passwd HTTP/1.1",
            "\r\n\r\n\r\n",
            "{}",
        ],
    );
    CaseDraft::new(rng)
        .line(line)
        .send(BROKEN.as_bytes())
        .half_closed()
}

/// A path longer than any.
pub(super) fn long_path(rng: &mut StdRng) -> MalformedCase {
    let path = "p".repeat(rng.random_range(8_000..300_000));
    CaseDraft::new(rng)
        .line(&format!("POST /v1/{path} HTTP/1.1"))
        .send(BROKEN.as_bytes())
        .half_closed()
}

/// Keys that are none.
pub(super) fn bad_key(rng: &mut StdRng) -> MalformedCase {
    let long = format!(
        "authorization: Bearer {}",
        "k".repeat(rng.random_range(1..30_000))
    );
    let lines = [
        "authorization: Bearer",
        "authorization: Basic Og==",
        "authorization:",
        "x-api-key: \u{e4}",
        "x-api-key:",
        "authorization: Bearer \u{80}\u{ff}",
        long.as_str(),
    ];
    CaseDraft::new(rng)
        .key(pick(rng, &lines))
        .send(BROKEN.as_bytes())
}

/// A broken request with rubbish right behind it on the same connection.
pub(super) fn pipeline(rng: &mut StdRng) -> MalformedCase {
    let mut case = CaseDraft::new(rng).send(BROKEN.as_bytes());
    let mut rubbish = vec![0; rng.random_range(1..2_000)];
    rng.fill(rubbish.as_mut_slice());
    case.bytes.extend_from_slice(&rubbish);
    MalformedCase {
        answers: 2,
        ..case.half_closed()
    }
}

/// Other protocols.
pub(super) fn other_protocol(rng: &mut StdRng) -> MalformedCase {
    let bytes: &[u8] = pick(
        rng,
        &[
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\0\0\0\0",
            b"*1\r\n$4\r\nPING\r\n",
            b"GET /\r\n\r\n",
        ],
    );
    MalformedCase::from_bytes(bytes.to_vec()).half_closed()
}

/// Random bytes instead of a request.
pub(super) fn noise(rng: &mut StdRng) -> MalformedCase {
    let mut bytes = vec![0; rng.random_range(1..4_096)];
    rng.fill(bytes.as_mut_slice());
    MalformedCase::from_bytes(bytes).half_closed()
}

/// Content codings that the body doesn't have.
pub(super) fn bad_coding(rng: &mut StdRng) -> MalformedCase {
    let coding = pick(
        rng,
        &[
            "gzip",
            "br",
            "zstd",
            "deflate",
            "x-unknown",
            "gzip, gzip, gzip",
        ],
    );
    CaseDraft::new(rng)
        .header(&format!("content-encoding: {coding}"))
        .send(BROKEN.as_bytes())
}

//! Notifications to systemd, and the unit that starts the router.

use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::UnixDatagram;

use crate::harness::{Gateway, binary, chat_body, gateway, mock};

/// A supervisor that listens.
struct Systemd {
    socket: UnixDatagram,
    _folder: TempDir,
    path: String,
}

impl Systemd {
    fn listen() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        Self {
            socket: UnixDatagram::bind(&path).unwrap(),
            path: path.to_str().unwrap().to_owned(),
            _folder: folder,
        }
    }

    async fn hears(&self) -> String {
        let mut buffer = [0; 1024];
        let heard = self.socket.recv(&mut buffer);
        let heard = tokio::time::timeout(std::time::Duration::from_secs(15), heard).await;
        let length = heard
            .unwrap_or_else(|_| panic!("nothing was told"))
            .unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits for a notification that begins like this, whatever comes before: a file may be read
    /// more than once.
    async fn hears_at_last(&self, beginning: &str) {
        while !self.hears().await.starts_with(beginning) {}
    }

    fn hears_no_more(&self) {
        let more = self.socket.try_recv(&mut [0; 1024]);
        assert!(more.is_err(), "{more:?}");
    }
}

async fn is_open(gateway: &Gateway) {
    assert!(
        tokio::net::TcpStream::connect(gateway.address)
            .await
            .is_ok()
    );
    assert_eq!(
        gateway.admin("/api/v1/router/status", None).await.status,
        200
    );
}

#[tokio::test]
async fn the_supervisor_hears_of_every_step() {
    let (systemd, mock) = (Systemd::listen(), mock().await);
    let mut gateway = gateway()
        .provider("up", &mock)
        .environment("NOTIFY_SOCKET", &systemd.path)
        .run()
        .await;
    assert_eq!(systemd.hears().await, "READY=1\nSTATUS=serving\n");
    is_open(&gateway).await;

    gateway.signal("HUP");
    let reloading = systemd.hears().await;
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(systemd.hears().await, "READY=1\nSTATUS=serving\n");
    std::fs::write(gateway.config_file(), "server: { lisen: 1 }").unwrap();
    let refused = "READY=1\nSTATUS=serving; a new configuration was refused";
    systemd.hears_at_last(refused).await;
    std::fs::write(gateway.config_file(), gateway.config.to_string()).unwrap();
    systemd.hears_at_last("READY=1\nSTATUS=serving\n").await;

    let headers = [("x-mock-tokens", "20"), ("x-mock-token-delay", "50ms")];
    let body = chat_body("up/mock-gpt", true);
    let path = "/v1/chat/completions";
    let stream = gateway.start("POST", path, &headers, body).await.unwrap();
    let old = gateway.upgrade().await;
    assert_eq!(
        systemd.hears().await,
        format!("MAINPID={}\n", gateway.pid())
    );
    assert_eq!(systemd.hears().await, "READY=1\nSTATUS=serving\n");
    is_open(&gateway).await;
    stream.bytes().await.unwrap();
    assert_eq!(old.wait_for_exit().await, Some(0));
    // The service goes on: its old process says nothing of stopping.
    systemd.hears_no_more();

    gateway.signal("TERM");
    assert_eq!(systemd.hears().await, "STOPPING=1\nSTATUS=draining\n");
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    systemd.hears_no_more();
}

#[tokio::test]
async fn a_router_that_can_not_start_never_says_that_it_is_ready() {
    let systemd = Systemd::listen();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let log = gateway()
        .set("/admin/listen", json!(address))
        .environment("NOTIFY_SOCKET", &systemd.path)
        .fails_to_start();
    assert!(log.contains(&format!("can't listen on {address}")), "{log}");
    systemd.hears_no_more();
}

#[test]
fn systemd_reads_the_unit_and_finds_it_safe() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/llm-router.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("llm-router.service");
    // It names where the router is installed.
    let text = text.replace("/usr/local/bin/llm-router", binary());
    assert!(text.contains(&format!("ExecStart={} serve", binary())));
    std::fs::write(&copy, text).unwrap();
    let analyze = |arguments: &[&str]| {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(arguments).arg(&copy).output()
    };
    let Ok(verified) = analyze(&["verify"]) else {
        eprintln!("systemd-analyze (Debian package systemd) is absent: the unit was NOT checked");
        return;
    };
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && told.is_empty(), "{told}");
    // From 0, safe, to 10.
    let rated = analyze(&["security", "--offline=true", "--threshold=20"]).unwrap();
    let told = String::from_utf8_lossy(&rated.stdout);
    assert!(rated.status.success(), "{told}");
}

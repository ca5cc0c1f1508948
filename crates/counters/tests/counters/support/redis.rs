//! A Redis server of a test's own: a free port, a temporary folder, nothing shared. It can be
//! killed, started again empty, paused and resumed. Other packages' tests include this file by path.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A running or stopped server; it ends with this value.
pub(crate) struct Redis {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Redis {
    /// Starts a server, or says loudly that Redis isn't installed.
    pub(crate) fn start() -> Option<Self> {
        let found = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("REDIS ABSENT: no redis-server in the path; NOT checked against it");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut redis = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            server: None,
        };
        redis.run();
        Some(redis)
    }

    /// Starts the server on the port it had before, without data.
    pub(crate) fn run(&mut self) {
        let port = self.port.to_string();
        let _ = std::fs::remove_file(self.folder.path().join("dump.rdb"));
        let server = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(["--enable-debug-command", "local"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(server.unwrap());
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server isn't ready after 6 s");
    }

    /// Ends the server at once, and everything it knew.
    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let _ = server.kill();
        let _ = server.wait();
    }

    /// Pauses the server: its connections stay open, but get no answers.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes what was paused.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The answer to a command whose answer is a string or a number; empty if there is none.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        let first = lines.next().unwrap();
        match first.split_at(1) {
            ("$", "-1") => String::new(),
            ("$", _) => lines.next().unwrap(),
            (":" | "+", rest) => rest.to_owned(),
            _ => panic!("{words:?}: {first}"),
        }
    }

    fn signal(&self, name: &str) {
        if let Some(server) = &self.server {
            let _ = Command::new("kill")
                .args([&format!("-{name}"), &server.id().to_string()])
                .status();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.resume();
        self.stop();
    }
}

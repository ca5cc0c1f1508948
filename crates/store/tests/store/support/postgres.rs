//! A PostgreSQL server of a test's own: a free port, a temporary folder, nothing shared. It can be
//! stopped, started again, paused and resumed. Other packages' tests include this file by path.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A running or stopped server; it ends with this value.
pub(crate) struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Starts a server, or says loudly that PostgreSQL isn't installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = binaries() else {
            println!("POSTGRESQL ABSENT: no /usr/lib/postgresql/*/bin; NOT checked against it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut postgres = Self {
            bin,
            folder,
            port,
            server: None,
        };
        postgres.own_folder();
        let data = postgres.data();
        let mut initdb = postgres.command("initdb");
        initdb.args([
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-D",
        ]);
        let made = initdb.arg(&data).stdout(Stdio::null()).status().unwrap();
        assert!(made.success(), "initdb failed");
        postgres.run();
        Some(postgres)
    }

    /// Lets the server speak TLS from its next start on, as `localhost` and 127.0.0.1, with a
    /// certificate of its own making; the certificate's file.
    pub(crate) fn speak_tls(&self) -> PathBuf {
        let (key, certificate) = (
            self.data().join("server.key"),
            self.data().join("server.crt"),
        );
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]);
        openssl
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        let made = openssl.stderr(Stdio::null()).status().unwrap();
        assert!(made.success(), "no certificate could be made");
        for file in [&key, &certificate] {
            if is_root(Path::new("/proc/self")) {
                let given = Command::new("chown").arg("postgres").arg(file).status();
                assert!(given.unwrap().success());
            }
        }
        let kept = self.folder.path().join("root.crt");
        std::fs::copy(&certificate, &kept).unwrap();
        self.sql("postgres", "ALTER SYSTEM SET ssl = on");
        kept
    }

    /// Starts the server on the port and data it had before.
    pub(crate) fn run(&mut self) {
        let port = self.port.to_string();
        let mut server = self.command("postgres");
        server
            .arg("-D")
            .arg(self.data())
            .args(["-p", &port, "-k"])
            .arg(self.folder.path());
        server.args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "max_connections=60",
        ]);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        self.server = Some(server.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.wait_until_ready();
    }

    /// Ends the server as a crash would: at once.
    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        signal("QUIT", server.id());
        let _ = server.wait();
    }

    /// Pauses the server and all its processes.
    pub(crate) fn pause(&self) {
        self.signal_all("STOP");
    }

    /// Resumes what was paused.
    pub(crate) fn resume(&self) {
        self.signal_all("CONT");
    }

    /// The address of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database; its address.
    pub(crate) fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// Runs a statement.
    pub(crate) fn sql(&self, database: &str, sql: &str) {
        let _ = self.ask(database, sql);
    }

    /// Runs a statement; the values of its rows, as psql prints them unaligned.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let done = Command::new(self.bin.join("psql"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres"])
            .args(["-q", "-At", "-d", database, "-c", sql])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(done.status.success(), "{sql}");
        String::from_utf8(done.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server refuses to run as root: then it runs as the user `postgres`.
    fn command(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        if !is_root(self.folder.path()) {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(program);
        command
    }

    fn own_folder(&self) {
        if is_root(Path::new("/proc/self")) {
            let folder = self.folder.path();
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(folder)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }

    fn wait_until_ready(&mut self) {
        let port = self.port.to_string();
        for _ in 0..300 {
            let ready = Command::new(self.bin.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            let ended = self
                .server
                .as_mut()
                .and_then(|server| server.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "the server ended: see {}",
                self.folder.path().display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server isn't ready after 15 s");
    }

    fn signal_all(&self, name: &str) {
        let Some(server) = &self.server else { return };
        signal(name, server.id());
        for child in children(server.id()) {
            signal(name, child);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.resume();
        self.stop();
    }
}

fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// Returns true if this process is root, or root gave the folder away.
fn is_root(path: &Path) -> bool {
    let owner = |path: &Path| std::fs::metadata(path).map(|data| data.uid()).ok();
    owner(Path::new("/proc/self")) == Some(0) && owner(path).is_some()
}

fn signal(name: &str, process: u32) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

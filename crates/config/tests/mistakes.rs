//! Files full of mistakes. Comments that begin with `#!` hold the exact messages that their lines must
//! give: no message may be missing and none may be added.

use std::path::{Path, PathBuf};

use llm_router_config::{Environment, Report, load, load_text};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes")
}

fn environment() -> Environment {
    Environment::new([
        ("GOOD_KEY", "sk-0123456789abcdef0123456789abcdef"),
        ("SHORT", "12345"),
        ("EMPTY", ""),
    ])
}

/// The messages in the comments of a file.
fn expected_messages(file: &Path, text: &str) -> Vec<String> {
    let folder = folder().display().to_string();
    let lines = text.lines().enumerate();
    let messages = lines.flat_map(|(index, line)| {
        let messages = line.split("#! ").skip(1);
        messages.map(move |message| format!("{}:{}: {}", file.display(), index + 1, message.trim()))
    });
    messages
        .map(|message| message.replace("FOLDER", &folder))
        .collect()
}

fn sort(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn every_mistake_of_a_file_is_reported_on_its_line() {
    for (name, at_least) in [("shape.yaml", 40), ("meaning.yaml", 39), ("rules.yaml", 29)] {
        let file = folder().join(name);
        let text = std::fs::read_to_string(&file).unwrap();
        let report = load(Some(&file), &environment()).unwrap_err();
        let got: Vec<String> = report.render().lines().map(str::to_owned).collect();
        let expected = expected_messages(&file, &text);
        assert!(expected.len() >= at_least, "{} in {name}", expected.len());
        let unexpected = got.iter().filter(|line| !expected.contains(line));
        let missing = expected.iter().filter(|line| !got.contains(line));
        let lines = unexpected.map(|line| format!("+ {line}"));
        let lines = lines.chain(missing.map(|line| format!("- {line}")));
        let differences: Vec<String> = lines.collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        assert_eq!(sort(got), sort(expected));
    }
}

#[test]
fn no_report_shows_a_secret() {
    for name in ["shape.yaml", "meaning.yaml", "rules.yaml"] {
        let report = load(Some(&folder().join(name)), &environment()).unwrap_err();
        for secret in ["nobody-may-see", "hunter2", "0123456789abcdef", "12345,"] {
            let shown = format!("{} {report:?}", report.render());
            assert!(!shown.contains(secret), "{secret} in {name}");
        }
    }
}

fn report(text: &str) -> String {
    match load_text(text, Path::new("a.yaml"), &environment()) {
        Ok(loaded) => loaded.warnings.render(),
        Err(report) => report.render(),
    }
}

#[test]
fn broken_yaml_has_a_line() {
    for (text, line) in [
        ("server:\n  listen: [\n", 2..=3),
        ("server:\n\tlisten: x\n", 2..=2),
        ("server:\n  listen: \"x\n", 2..=3),
        ("a: b: c\n", 1..=1),
        ("providers:\n  - id: a\n type: b\n", 3..=3),
        ("store: { url: ${X} }\n", 1..=1),
        ("server: *nothing\n", 1..=1),
        ("? [a]\n: b\n", 1..=1),
        ("server: {}\n---\nserver: {}\n", 2..=2),
        ("a: &a [*a]\n", 1..=1),
    ] {
        let report = report(text);
        let parts: Vec<&str> = report.splitn(4, ':').collect();
        let [file, number, path, _] = parts[..] else {
            panic!("{text:?}: {report}");
        };
        assert_eq!((file, path), ("a.yaml", " (root)"), "{text:?}: {report}");
        assert!(
            line.contains(&number.parse().unwrap()),
            "{text:?}: {report}"
        );
        assert_eq!(report.lines().count(), 1, "{text:?}: {report}");
    }
    assert!(report("store: { url: ${X} }\n").contains("put quotes around ${…}"));
    assert!(report("server:\n\tlisten: x\n").contains("not with tabs"));
}

#[test]
fn a_file_that_is_no_mapping_is_refused() {
    for text in ["- a", "hello", "42", "\"\""] {
        let report = report(text);
        assert!(report.starts_with("a.yaml:1: (root): "), "{text}: {report}");
    }
}

#[test]
fn nesting_and_aliases_have_limits() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert!(
        report(&deep).contains("64 levels deep"),
        "{}",
        report(&deep)
    );
    let block: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(report(&block).contains("64 levels deep"));
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..10 {
        let last = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", [last.as_str(); 10].join(","));
    }
    assert!(report(&laughs).contains("more than 1000000 values"));
}

#[test]
fn aliases_are_expanded() {
    let text = "providers:\n  - id: a\n    type: mock\n    timeouts: &t { total: 5s }\n  \
                - { id: b, type: mock, timeouts: *t }\n";
    let loaded = load_text(text, Path::new("a.yaml"), &environment()).unwrap();
    let totals: Vec<u64> = loaded
        .config
        .providers
        .iter()
        .map(|p| p.timeouts.total.as_secs())
        .collect();
    assert_eq!(totals, [5, 5]);
    let merged = report("providers:\n  - { <<: *x, id: a }\n");
    assert!(merged.contains("unknown anchor"), "{merged}");
    let merged = report("a: &x {}\nproviders:\n  - { <<: *x, id: a, type: mock }\n");
    assert!(merged.contains("merge keys are not supported"), "{merged}");
}

#[test]
fn a_missing_file_is_named() {
    let missing = folder().join("none.yaml");
    let report: Report = load(Some(&missing), &environment()).unwrap_err();
    let rendered = report.render();
    let start = format!("{}: (root): failed to read the file: ", missing.display());
    assert!(rendered.starts_with(&start), "{rendered}");
}

#[test]
fn mistakes_outside_the_file_are_reported_with_those_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let env = "SECRET_KEY=too-short\nno assignment\nADMIN_API_KEY='a b'\nAPI_KEY_SALT=salt\n\
               DATABASE_URL=mysql://u:hunter2@h/d\nREDIS_URL=http://h\n";
    std::fs::write(folder.path().join(".env"), env).unwrap();
    let environment = Environment::read(folder.path());
    let text = "server: { listen: here }\nproviders: [{ id: a, type: mock }]\n";
    let report = load_text(text, Path::new("a.yaml"), &environment).unwrap_err();
    let rendered = report
        .render()
        .replace(&folder.path().display().to_string(), "");
    assert_eq!(
        rendered,
        "/.env:1: SECRET_KEY: is only 9 characters long and easy to guess; use at least 32, for example from `openssl rand -hex 32`
/.env:2: (line): is not of the form NAME=value; write NAME=value, or # before a comment
/.env:3: ADMIN_API_KEY: contains spaces or characters that are not allowed in an HTTP header; check for a stray space, line break or quote
/.env:4: API_KEY_SALT: warning: is only 4 characters long and easy to guess; use at least 16, for example from `openssl rand -hex 32`
/.env:5: DATABASE_URL: is not a store URL; write sqlite:PATH or postgres://USER:PASSWORD@HOST:5432/DATABASE
/.env:6: REDIS_URL: is not a counters URL; write memory:, redis://HOST:PORT/0 or rediss://HOST:PORT/0
a.yaml:1: server.listen: `here` is not a listen address; write an IP address and a port: 0.0.0.0:8000, 127.0.0.1:8000 or [::]:8000
"
    );
}

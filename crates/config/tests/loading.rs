//! Files without mistakes: defaults, substitution, paths, references.

#![expect(clippy::panic, reason = "the helpers of tests fail as tests do")]

use std::path::Path;
use std::time::Duration;

use llm_router_config::{
    AnswersAs, Config, CounterUrl, Environment, Http2, NamePattern, OnDisconnect, StoreUrl,
    Strategy, Target, UsageChunk, load, load_text, schema,
};
use llm_router_domain::budget::Period;
use llm_router_domain::format::Compat;
use llm_router_domain::key::Role;
use llm_router_domain::limit::Rate;
use llm_router_domain::pattern::PatternList;
use secrecy::ExposeSecret;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().copied()).in_folder(Path::new("/work-dir"))
}

fn config_with(text: &str, variables: &[(&str, &str)]) -> Config {
    match load_text(text, Path::new("/conf-dir/a.yaml"), &environment(variables)) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    }
}

fn config(text: &str) -> Config {
    config_with(text, &[])
}

fn patterns(patterns: &[NamePattern]) -> Vec<&str> {
    patterns.iter().map(NamePattern::as_str).collect()
}

#[test]
fn an_empty_file_has_the_defaults() {
    for text in [
        "",
        "# nothing\n",
        "{}",
        "---\n",
        "server:\nproviders:\nkeys:\n",
        "server: {}\n",
    ] {
        let config = config(text);
        let server = config.server;
        assert_eq!(server.listen.to_string(), "0.0.0.0:8000", "{text:?}");
        assert!(server.admin_paths && server.tls.is_none() && server.threads.is_none());
        assert_eq!(server.max_body, 32 * 1024 * 1024);
        assert_eq!(server.drain_timeout, Duration::from_secs(30));
        assert_eq!(server.upgrade_drain_timeout, Duration::from_secs(900));
        assert_eq!(server.header_timeout, Duration::from_secs(10));
        assert_eq!(server.body_timeout, Duration::from_secs(60));
        assert_eq!(server.keep_alive, Duration::from_secs(15));
        assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8001");
        assert!(!config.admin.metrics_public && config.routing.enabled);
        assert_eq!(config.routing.toggle.delay, Duration::from_secs(10));
        assert_eq!(config.routing.toggle.cooldown, Duration::from_secs(60));
        assert!(matches!(config.counters.url, CounterUrl::Memory));
        assert!(matches!(config.store.url, StoreUrl::Sqlite(path)
            if path == Path::new("/work-dir/data/llm-router.db")));
        assert_eq!(config.store.journal, Path::new("/work-dir/data/journal"));
    }
}

#[test]
fn a_provider_has_defaults_by_its_type() {
    let text = "providers:
  - { id: o, type: openai }
  - { id: a, type: anthropic }
  - { id: g, type: gemini }
  - { id: m, type: mock }
  - { id: a2, type: anthropic, base_url: \"https://proxy.example/claude/v1/\" }
  - { id: g2, type: gemini, base_url: \"https://proxy.example/v1beta/openai\" }
";
    let urls: Vec<Option<String>> = config(text)
        .providers
        .iter()
        .map(|provider| Some(provider.base_url.as_ref()?.to_string()))
        .collect();
    let expected = [
        Some("https://api.openai.com/v1"),
        Some("https://api.anthropic.com"),
        Some("https://generativelanguage.googleapis.com/v1beta"),
        None,
        Some("https://proxy.example/claude"),
        Some("https://proxy.example/v1beta"),
    ];
    assert_eq!(urls, expected.map(|url| url.map(str::to_owned)));
    let first = &config(text).providers[0];
    assert_eq!(first.models, PatternList::new(["*"]));
    assert_eq!(first.timeouts.connect, Duration::from_secs(3));
    assert_eq!(first.timeouts.first_byte, Duration::from_secs(60));
    assert_eq!(first.timeouts.first_byte_plain, None);
    assert_eq!(first.timeouts.idle, Duration::from_secs(120));
    assert_eq!(first.timeouts.total, Duration::from_secs(600));
    assert!(first.credential.is_none() && first.enabled && first.settings.responses);
    assert_eq!(first.drain_time(), None);
    let check = &first.health_check;
    assert_eq!((check.path.as_str(), check.interval), ("/models", None));
    assert_eq!(check.timeout, Duration::from_secs(5));
    assert_eq!((check.unhealthy_after, check.healthy_after), (3, 1));
    assert_eq!(config(text).providers[1].health_check.path, "/v1/models");
    assert_eq!(first.usage_chunk, UsageChunk::OnRequest);
    assert_eq!(
        (first.http2, first.on_disconnect, first.compat),
        (Http2::Never, OnDisconnect::Cancel, Compat::Lenient)
    );
}

#[test]
fn what_a_provider_says_is_kept() {
    let text = "providers:
  - id: v
    type: custom
    base_url: http://[::1]:8100/v1
    api_key: ${K}
    models: [llama, 'qwen-*']
    timeouts: { total: 30s, first_byte_plain: 20s }
    usage_chunk: always
    health_check: { interval: 2s }
    http2: always
    on_disconnect: drain
    compat: strict
    headers: { X-Team: a b }
";
    let config = config_with(text, &[("K", KEY)]);
    let provider = &config.providers[0];
    assert_eq!(provider.kind.name(), "custom");
    assert_eq!(
        provider.base_url.as_ref().unwrap().authority(),
        "[::1]:8100"
    );
    assert_eq!(provider.credential.as_ref().unwrap().expose_secret(), KEY);
    assert!(provider.serves("llama") && provider.serves("qwen-3") && !provider.serves("gpt"));
    // Times that are not given fit into the one that is.
    assert_eq!(provider.timeouts.first_byte, Duration::from_secs(30));
    assert_eq!(provider.timeouts.idle, Duration::from_secs(30));
    assert_eq!(provider.timeouts.connect, Duration::from_secs(3));
    let plain = provider.timeouts.first_byte_plain;
    assert_eq!(plain, Some(Duration::from_secs(20)));
    assert_eq!(provider.usage_chunk, UsageChunk::Always);
    let check = &provider.health_check;
    let interval = Duration::from_secs(2);
    assert_eq!(
        (check.path.as_str(), check.interval, check.timeout),
        ("/models", Some(interval), interval)
    );
    assert_eq!(provider.drain_time(), Some(Duration::from_secs(30)));
    assert_eq!(
        (provider.http2, provider.on_disconnect, provider.compat),
        (Http2::Always, OnDisconnect::Drain, Compat::Strict)
    );
    assert_eq!(provider.headers[0].0, "x-team");
    assert_eq!(provider.headers[0].1.expose_secret(), "a b");
    assert!(!format!("{config:?}").contains(KEY));
}

#[test]
fn references_become_positions() {
    let text = "providers:
  - { id: one, type: mock }
  - { id: two, type: mock, models: [listed, '*'] }
models:
  - name: fast
    strategy: least_latency
    deployments: [{ provider: two, model: x, weight: 3 }, { provider: one, model: x }]
    fallbacks: [strong]
    answers_as: served
  - { name: strong, deployments: [{ provider: one, model: y }] }
";
    let read = config(text);
    let fast = &read.models[0];
    assert_eq!(fast.strategy, Strategy::LeastLatency);
    let deployments: Vec<(usize, &str, u32)> = fast
        .deployments
        .iter()
        .map(|one| (one.provider, one.model.as_str(), one.weight))
        .collect();
    assert_eq!(deployments, [(1, "x", 3), (0, "x", 1)]);
    assert_eq!(
        (fast.fallbacks.as_slice(), read.models[1].strategy),
        (&[1][..], Strategy::Weighted)
    );
    assert_eq!(
        (fast.answers_as, read.models[1].answers_as),
        (Some(AnswersAs::Served), None)
    );
    let model = |model: &str| Target::Provider {
        provider: 1,
        model: model.to_owned(),
    };
    for (name, expected) in [
        ("strong", Target::Model(1)),
        ("two/anything/at-all", model("anything/at-all")),
        ("listed", model("listed")),
    ] {
        let config = config(&format!("{text}routing: {{ default_model: {name} }}\n"));
        assert_eq!(config.routing.default_model, Some(expected), "{name}");
    }
}

#[test]
fn keys_are_read() {
    let text = "keys:
  - { name: plain, key: \"${K}\" }
  - name: full
    key: ${L}
    role: operator
    owner: team a
    models: [fast, 'gpt-*']
    limits: { rpm: 600, tpm: 1, concurrency: 20, burst: 7 }
    budget: { usd: 12.50, period: week, allow_unpriced: true }
    expires_at: 2027-01-31T00:00:00Z
    enabled: false
";
    let config = config_with(text, &[("K", KEY), ("L", "fedcba9876543210")]);
    let [plain, full] = config.keys.as_slice() else {
        panic!("{:?}", config.keys);
    };
    assert_eq!(
        (plain.role, plain.owner.as_str(), plain.enabled),
        (Role::User, "plain", true)
    );
    assert_eq!((patterns(&plain.models), plain.budget), (vec!["*"], None));
    assert!(plain.limits.is_none());
    assert_eq!(
        (full.role, full.owner.as_str(), full.enabled),
        (Role::Operator, "team a", false)
    );
    assert_eq!(full.limits.requests, Some(Rate::new(600, Some(7))));
    let budget = full.budget.unwrap();
    assert_eq!(
        (budget.budget.usd.to_string().as_str(), budget.budget.period),
        ("12.50", Period::Week)
    );
    assert!(budget.allow_unpriced);
    assert_eq!(full.expires_at.unwrap().to_string(), "2027-01-31T00:00:00Z");
}

#[test]
fn the_environment_says_where_state_is_kept() {
    let url = "postgresql+asyncpg://u:hunter2@h/d?ssl=require";
    let variables = [("DATABASE_URL", url), ("REDIS_URL", "redis://h:6379/0")];
    let config = config_with("", &variables);
    assert!(!format!("{config:?}").contains("hunter2"));
    let StoreUrl::Postgres(url) = config.store.url else {
        panic!();
    };
    assert_eq!(
        url.expose_secret(),
        "postgresql://u:hunter2@h/d?sslmode=require"
    );
    assert!(matches!(config.counters.url, CounterUrl::Redis(_)));
    assert_eq!(config.store.journal, Path::new("/work-dir/data/journal"));
}

#[test]
fn paths_belong_to_the_folder_of_whoever_wrote_them() {
    for (url, variables, file) in [
        ("sqlite:a.db", &[][..], "/conf-dir/a.db"),
        ("sqlite:/var/a.db", &[], "/var/a.db"),
        ("${U}", &[("U", "sqlite:a.db")], "/work-dir/a.db"),
        (
            "${U:-sqlite:b.db}",
            &[("U", "sqlite:a.db")],
            "/work-dir/a.db",
        ),
        ("${U:-sqlite:b.db}", &[], "/conf-dir/b.db"),
        ("sqlite:${U}", &[("U", "a.db")], "/conf-dir/a.db"),
    ] {
        let config = config_with(&format!("store: {{ url: \"{url}\" }}"), variables);
        let StoreUrl::Sqlite(path) = &config.store.url else {
            panic!("{url}");
        };
        assert_eq!(path, Path::new(file), "{url}");
        assert_eq!(
            config.store.journal,
            path.with_file_name("journal"),
            "{url}"
        );
    }
    let config = config("store: { url: sqlite:a.db, journal: j }");
    assert_eq!(config.store.journal, Path::new("/conf-dir/j"));
}

#[test]
fn substituted_text_takes_the_type_of_its_setting_and_changes_nothing_else() {
    let text = "server: { max_body: \"${SIZE}\", admin_paths: \"${FLAG}\" }
keys:
  - name: ${NAME}
    key: ${KEY}
    limits: { rpm: \"${RPM:-600}\" }
";
    let odd = "a: \"b\", } ] # ${KEY} 'c'";
    let variables = [
        ("SIZE", "1048576"),
        ("FLAG", "false"),
        ("NAME", odd),
        ("KEY", "12345678901234567890"),
    ];
    let read = config_with(text, &variables);
    assert_eq!(
        (read.server.max_body, read.server.admin_paths),
        (1 << 20, false)
    );
    assert_eq!(read.keys[0].name, odd);
    assert_eq!(read.keys[0].key.expose_secret(), "12345678901234567890");
    assert_eq!(read.keys[0].limits.requests, Some(Rate::new(600, None)));
    let injected = "x\nkeys: []\nserver: { listen: 1.2.3.4:5 }";
    let variables = [
        ("KEY", KEY),
        ("NAME", "n"),
        ("FLAG", injected),
        ("SIZE", "1MiB"),
    ];
    let report = load_text(text, Path::new("a.yaml"), &environment(&variables)).unwrap_err();
    let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "a.yaml:1: server.admin_paths: `${FLAG}` is neither true nor false; \
         write true or false, without quotes"
        ]
    );
}

#[test]
fn without_a_file_the_keys_of_the_environment_make_the_providers() {
    let variables = [
        ("OPENAI_API_KEY", KEY),
        ("ANTHROPIC_API_KEY", ""),
        ("GEMINI_API_KEY", "k"),
    ];
    let loaded = load(None, &environment(&variables)).unwrap();
    let providers = &loaded.config.providers;
    let ids: Vec<&str> = providers
        .iter()
        .map(|provider| provider.id.as_str())
        .collect();
    assert_eq!(ids, ["openai", "gemini"]);
    assert_eq!(providers[0].models, PatternList::new(["*"]));
    assert_eq!(
        providers[0].credential.as_ref().unwrap().expose_secret(),
        KEY
    );
    assert!(loaded.files.is_empty() && loaded.warnings.problems().is_empty());
    let none = load(None, &environment(&[])).unwrap();
    let warning = none.warnings.render();
    assert!(
        warning.starts_with("built-in:1: providers: warning: no provider is configured"),
        "{warning}"
    );
}

#[test]
fn the_files_to_watch_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["cert.pem", "key.pem", "prices.yaml", "ca.pem"] {
        std::fs::write(path(name), "").unwrap();
    }
    let text = "server: { tls: { cert: cert.pem, key: key.pem } }
providers: [{ id: a, type: custom, base_url: \"https://h\", ca_file: ca.pem }]
prices: prices.yaml
";
    std::fs::write(path("a.yaml"), text).unwrap();
    let loaded = load(Some(&path("a.yaml")), &environment(&[])).unwrap();
    let expected = ["a.yaml", "prices.yaml", "cert.pem", "key.pem", "ca.pem"].map(path);
    assert_eq!(loaded.files, expected);
}

#[test]
fn rules_are_read() {
    let text = "providers: [{ id: p, type: mock }]
models: [{ name: fast, deployments: [{ provider: p, model: m }] }]
routing:
  rules:
    - { name: a, priority: 10, when: { regex: 'a$${2}' }, then: { use_model: fast } }
    - { name: \"${NAME}\", then: { use_model: p/x, set: { top_k: 5, stop: [\"5\"] } }, when: {} }
";
    let config = config_with(text, &[("NAME", "7")]);
    let [first, second] = config.routing.rules.as_slice() else {
        panic!("{:?}", config.routing.rules);
    };
    assert_eq!(
        (first.priority, first.when.regex.as_deref()),
        (10, Some("a${2}"))
    );
    assert_eq!(
        (second.name.as_str(), second.then.use_model.as_deref()),
        ("7", Some("p/x"))
    );
    let set = second.then.set.as_ref().unwrap();
    assert_eq!((&set["top_k"], &set["stop"][0]), (&5.into(), &"5".into()));
}

#[test]
fn the_schema_is_for_editors() {
    let schema = schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
    let server = &schema["$defs"]["Server"]["properties"];
    assert_eq!(server["max_body"]["default"], "32MiB");
    assert_eq!(server["listen"]["default"], "0.0.0.0:8000");
    assert_eq!(
        schema["$defs"]["Key"]["properties"]["key"]["writeOnly"],
        true
    );
    assert!(!schema.to_string().contains("\"default\":null"));
}

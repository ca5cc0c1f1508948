//! Loads the configuration and swaps it in: at start, on SIGHUP, and when its file changes. What
//! is wrong with a configuration is found by `llm-router-config`.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use llm_router_admin::{ConfigError, Difference, RejectedConfig};
use llm_router_config::{
    Config, DEFAULT_FILE, Environment, Loaded, Problem, Report, RestartOnlySettings, Severity,
};
use llm_router_domain::key::KeyHasher;
use llm_router_store::objects::{AuditDraft, Changes, Objects};
use llm_router_store::seal::Sealer;
use llm_router_store::{Store, StoreError};
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::keys::stored_keys::IssuedKeys;
use crate::ledger::LedgerError;
use crate::process::systemd;
use crate::proxy::{Live, SharedLive};
use crate::routing::toggle::{ToggleReplica, now};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{CompileInputs, compile};
use crate::snapshot::mock_host::MockHost;
use crate::snapshot::prices;
use crate::snapshot::revision::revision;
use crate::snapshot::stored_providers::{self, with_stored_providers};
use crate::snapshot::stored_rules::broken;
use crate::telemetry::metrics::Metrics;

/// Makes snapshots out of a configuration file.
pub(crate) struct Loader {
    /// The file, or nothing for the built-in defaults.
    file: Option<PathBuf>,
    folder: PathBuf,
    admin_key: Option<SecretString>,
    /// Opens the credentials of providers made by API.
    sealer: Option<Sealer>,
    hasher: KeyHasher,
    mock: MockHost,
    mock_config: llm_router_mock::MockConfig,
    /// The files that the latest good configuration was made of.
    files: Mutex<Vec<PathBuf>>,
}

/// Reason that a configuration did not take effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Errors for the operator to fix.
    #[error("{}", .0.render().trim_end())]
    Config(Report),
    /// Error of the operating system.
    #[error("{0}")]
    System(#[from] io::Error),
    /// Error of the store or the journal.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// Error of the store once it was open.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Loader {
    pub(crate) fn new(
        file: Option<PathBuf>,
        folder: PathBuf,
        hasher: KeyHasher,
        mock_config: llm_router_mock::MockConfig,
    ) -> Self {
        let default = || Some(folder.join(DEFAULT_FILE)).filter(|file| file.exists());
        Self {
            file: file.or_else(default),
            folder,
            admin_key: None,
            sealer: None,
            hasher,
            mock: MockHost::default(),
            mock_config,
            files: Mutex::default(),
        }
    }

    /// The same loader with another hasher of keys, if there is one.
    pub(crate) fn with_hasher(self, hasher: Option<KeyHasher>) -> Self {
        Self {
            hasher: hasher.unwrap_or(self.hasher),
            ..self
        }
    }

    /// The same loader with a key that always works.
    pub(crate) fn with_admin_key(self, key: SecretString) -> Self {
        Self {
            admin_key: Some(key),
            ..self
        }
    }

    /// The same loader with what opens stored credentials.
    pub(crate) fn with_sealer(self, sealer: Option<Sealer>) -> Self {
        Self { sealer, ..self }
    }

    /// Reads and checks the configuration. The environment is read anew, as `.env` may have
    /// changed too.
    pub(crate) fn load(&self) -> Result<Loaded, LoadError> {
        let environment = Environment::read(&self.folder);
        let loaded = llm_router_config::load(self.file.as_deref(), &environment)
            .map_err(LoadError::Config)?;
        self.files().clone_from(&loaded.files);
        Ok(loaded)
    }

    /// Compiles a configuration that was checked, with the prices that it names and the objects
    /// made by API. `masked` is the file as it is shown. What `previous` knows of deployments that stay the same is kept.
    pub(crate) fn compile(
        &self,
        config: &Config,
        masked: &Value,
        objects: &Objects,
        issued: &Arc<IssuedKeys>,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, LoadError> {
        let revision = revision(masked, config.prices.as_deref(), objects);
        let config = &with_stored_providers(config, objects, self.sealer.as_ref());
        let mut providers = config.providers.iter();
        let mock = if providers.any(|provider| provider.base_url.is_none()) {
            Some(self.mock.address(self.mock_config.clone())?)
        } else {
            None
        };
        let prices = prices::table(config.prices.as_deref()).map_err(LoadError::Config)?;
        let admin_key = self.admin_key.as_ref();
        let surroundings = CompileInputs {
            mock,
            admin_key,
            hasher: &self.hasher,
            prices: Arc::new(prices.merge(stored_providers::prices(objects))),
            objects,
            issued,
            previous,
        };
        Ok(compile(config, revision, &surroundings))
    }

    /// The file that is loaded, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn files(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that changes when the content of `.env` or of any file does that the
    /// configuration is made of.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let environment = self.folder.join(".env");
        let files = self.files();
        for path in self.file.iter().chain(files.iter()).chain([&environment]) {
            std::fs::read(path).ok().hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Returns the text of an error without the warnings that a configuration has besides.
fn errors_only(error: &LoadError) -> String {
    match error {
        LoadError::Config(report) => {
            let errors: Vec<_> = report.errors().map(ToString::to_string).collect();
            errors.join("\n")
        }
        other => other.to_string(),
    }
}

/// Swaps configurations under a running router. A configuration is a file and the objects made by
/// API; when one of them changes, the other is used as it was.
pub(crate) struct Reloader {
    loader: Loader,
    live: SharedLive,
    switch: Arc<ToggleReplica>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// The settings that the process began with and no reload changes.
    restart_only: RestartOnlySettings,
    /// Also keeps reloads one after the other.
    in_force: Mutex<ActiveConfig>,
}

/// Sources of the active snapshot.
pub(crate) struct ActiveConfig {
    pub(crate) config: Config,
    /// The contents of the file with secrets masked.
    pub(crate) masked: Value,
    pub(crate) objects: Objects,
    /// The fingerprint of the files that were last tried.
    tried: u64,
    /// Error of the last reload, if it failed.
    pub(crate) refused: Option<RejectedConfig>,
}

impl Reloader {
    pub(crate) fn new(
        loader: Loader,
        loaded: Loaded,
        objects: Objects,
        live: SharedLive,
        switch: Arc<ToggleReplica>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let restart_only = loaded.config.restart_only.clone();
        let in_force = ActiveConfig {
            config: loaded.config,
            masked: loaded.masked,
            objects,
            tried: loader.fingerprint(),
            refused: None,
        };
        Self {
            loader,
            live,
            switch,
            store,
            metrics,
            restart_only,
            in_force: Mutex::new(in_force),
        }
    }

    /// Loads the configuration now, and records what changed as done by `actor`. The revision in
    /// force then.
    ///
    /// # Errors
    /// What is wrong with it; then nothing changed.
    pub(crate) async fn reload_as(&self, reason: &str, actor: &str) -> Result<u64, LoadError> {
        let state = || {
            (
                self.in_force().masked.clone(),
                self.live().snapshot.revision,
            )
        };
        let (before, old) = state();
        let revision = self.reload(reason)?;
        let after = self.in_force().masked.clone();
        let mut differences = llm_router_admin::differences(Some(&before), Some(&after));
        if !differences.is_empty() {
            differences.push(Difference {
                path: "revision".to_owned(),
                before: Some(old.into()),
                after: Some(revision.into()),
            });
        }
        if !differences.is_empty() {
            self.record(&differences, actor).await;
        }
        Ok(revision)
    }

    async fn record(&self, differences: &[Difference], actor: &str) {
        let side = |of: fn(&Difference) -> &Option<Value>| {
            let of = |one: &Difference| Some((one.path.clone(), of(one).clone()?));
            Some(
                differences
                    .iter()
                    .filter_map(of)
                    .collect::<Map<_, _>>()
                    .into(),
            )
        };
        let file = self.file().map(|file| file.display().to_string());
        let what = AuditDraft {
            at: now(),
            actor: actor.to_owned(),
            action: "reload".to_owned(),
            kind: "config".to_owned(),
            object: file.unwrap_or_else(|| "built-in defaults".to_owned()),
            before: side(|one| &one.before),
            after: side(|one| &one.after),
        };
        let recording = tokio::time::timeout(RECORDING, self.store.record(what));
        if !matches!(recording.await, Ok(Ok(()))) {
            tracing::warn!("failed to record a changed configuration in the store");
        }
    }

    /// The file that is loaded, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.loader.file()
    }

    fn reload(&self, reason: &str) -> Result<u64, LoadError> {
        let mut in_force = self.in_force();
        in_force.tried = self.loader.fingerprint();
        let reloaded = self.reload_file(&mut in_force);
        in_force.refused = reloaded.as_ref().err().map(|error| RejectedConfig {
            at: now(),
            errors: to_config_errors(error),
        });
        match &reloaded {
            Ok(revision) => {
                self.metrics.config_loaded(*revision);
                tracing::info!(revision, reason, "configuration reloaded");
            }
            Err(error) => {
                self.metrics.config_refused();
                let error = errors_only(error);
                tracing::error!(
                    reason,
                    error,
                    "failed to reload the configuration; the old one stays active"
                );
            }
        }
        reloaded
    }

    /// Takes over what changed of what was made by API, with the file as it was last loaded; whether
    /// that went well. Keys are changed in place, whatever becomes of the rest; for the rest the
    /// snapshot is built anew, unless `keys_only`.
    pub(crate) fn apply(&self, changes: &Changes, keys_only: bool) -> bool {
        let mut in_force = self.in_force();
        let issued = Arc::clone(self.live().snapshot.keys.stored_keys());
        issued.apply(changes);
        match in_force.objects.with(changes) {
            None => {
                in_force.objects.change_number = changes.change_number;
                true
            }
            Some(_) if keys_only => false,
            Some(objects) => self.activate_objects(&mut in_force, objects, &issued),
        }
    }

    /// Activates all stored objects, with the file as it was last loaded; true if that succeeded.
    pub(crate) fn rebuild(&self, objects: Objects, issued: IssuedKeys) -> bool {
        self.activate_objects(&mut self.in_force(), objects, &Arc::new(issued))
    }

    fn activate_objects(
        &self,
        in_force: &mut ActiveConfig,
        objects: Objects,
        issued: &Arc<IssuedKeys>,
    ) -> bool {
        let change_number = objects.change_number;
        let sources = (&in_force.config, &in_force.masked);
        match self.swap(sources, &objects, issued) {
            Ok(revision) => {
                in_force.objects = objects;
                self.metrics.revision(revision);
                tracing::info!(
                    revision,
                    change_number,
                    "activated changes of stored objects"
                );
                true
            }
            Err(error) => {
                tracing::error!(change_number, %error, "failed to activate stored objects");
                false
            }
        }
    }

    /// Returns the active snapshot.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The change number of the objects in force.
    pub(crate) fn change_number(&self) -> u64 {
        self.in_force().objects.change_number
    }

    /// Sources of the active snapshot. Reloads wait until it is given back.
    pub(crate) fn in_force(&self) -> MutexGuard<'_, ActiveConfig> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_file(&self, in_force: &mut ActiveConfig) -> Result<u64, LoadError> {
        let loaded = self.loader.load()?;
        let previous = self.live();
        let issued = Arc::clone(previous.snapshot.keys.stored_keys());
        let file = self.file().map(Path::to_string_lossy);
        let file = file.unwrap_or("built-in".into());
        check_names(&in_force.config, &loaded.config, &issued, &file).map_err(LoadError::Config)?;
        let sources = (&loaded.config, &loaded.masked);
        let snapshot = self.compile(sources, &in_force.objects, &issued, &previous)?;
        let before = Contents::new(&in_force.masked, &previous.snapshot);
        let after = Contents::new(&loaded.masked, &snapshot);
        before
            .check_loss(&after, &file)
            .map_err(LoadError::Config)?;
        let revision = self.activate(snapshot, &previous)?;
        // Of a file that is refused only the errors are told.
        for warning in loaded.warnings.warnings() {
            tracing::warn!("{warning}");
        }
        for setting in self.restart_only.changes(&loaded.config.restart_only) {
            tracing::warn!(setting, "the changed setting takes effect after a restart");
        }
        self.switch.configure(loaded.config.routing.toggle);
        in_force.config = loaded.config;
        in_force.masked = loaded.masked;
        Ok(revision)
    }

    fn swap(
        &self,
        sources: (&Config, &Value),
        objects: &Objects,
        issued: &Arc<IssuedKeys>,
    ) -> Result<u64, LoadError> {
        let previous = self.live();
        let snapshot = self.compile(sources, objects, issued, &previous)?;
        Ok(self.activate(snapshot, &previous)?)
    }

    /// Compiles a configuration and its file as it is shown.
    fn compile(
        &self,
        (config, masked): (&Config, &Value),
        objects: &Objects,
        issued: &Arc<IssuedKeys>,
        previous: &Live,
    ) -> Result<Snapshot, LoadError> {
        let previous = Some(&previous.snapshot);
        self.loader
            .compile(config, masked, objects, issued, previous)
    }

    /// Binds a snapshot to the network and serves the next requests by it. Returns its revision.
    fn activate(&self, snapshot: Snapshot, previous: &Live) -> io::Result<u64> {
        let live = Live::bind(snapshot, Some(previous))?;
        let revision = live.snapshot.revision;
        self.metrics
            .rules_broken(broken(&live.snapshot.listed_rules).count());
        self.live.store(Arc::new(live));
        Ok(revision)
    }

    async fn reload_if_changed(&self) {
        let tried = self.in_force().tried;
        let fingerprint = || self.loader.fingerprint();
        if fingerprint() != tried && wait_until_still(fingerprint).await != tried {
            self.reload_from_file("file changed").await;
        }
    }

    async fn reload_from_file(&self, reason: &str) {
        systemd::reloading();
        // What is wrong with it has been logged and counted.
        let reloaded = self.reload_as(reason, "file").await;
        systemd::notify_reloaded(reloaded.is_err());
    }
}

/// Timeout of recording a changed configuration in the store.
const RECORDING: Duration = Duration::from_secs(2);

/// The time for which a file must stay unchanged before it is read: editors write in several steps.
const STILL: Duration = Duration::from_millis(100);

/// The most times that a changed file is waited for.
const MOST_WAITS: usize = 50;

/// Waits until the files' fingerprint stays the same for [`STILL`], and returns it. Files that keep
/// changing are waited for a few seconds.
async fn wait_until_still(fingerprint: impl Fn() -> u64) -> u64 {
    let mut last = fingerprint();
    for _ in 0..MOST_WAITS {
        tokio::time::sleep(STILL).await;
        let next = fingerprint();
        if next == last {
            break;
        }
        last = next;
    }
    last
}

/// Returns the names that keys of the file share with keys made by API.
pub(crate) fn shared_names<'c>(config: &'c Config, issued: &IssuedKeys) -> Vec<&'c str> {
    let names = config.keys.iter().map(|key| key.name.as_str()).collect();
    issued.names_among(&names)
}

/// Refuses a configuration that gives a key the name of one made by API: both would have the same
/// limits, budget and id. Names that were shared before are the business of the start's warning.
fn check_names(
    before: &Config,
    after: &Config,
    issued: &IssuedKeys,
    file: &str,
) -> Result<(), Report> {
    let shared = shared_names(after, issued).into_iter();
    let new = shared.filter(|name| before.keys.iter().all(|key| key.name != **name));
    let problems = new.map(|name| {
        let position = after.keys.iter().position(|key| key.name == name);
        Problem {
            severity: Severity::Error,
            file: file.into(),
            mark: None,
            path: format!("keys[{}].name", position.unwrap_or_default()),
            message: format!("`{name}` is the name of a key made by API"),
            remedy: "choose another name, or delete that key".to_owned(),
        }
    });
    let problems: Vec<_> = problems.collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Report::new(problems))
}

/// The amounts by which a configuration is compared with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contents {
    /// Sections of the file.
    sections: usize,
    /// Providers that are enabled, of the file and made by API.
    providers: usize,
    /// Keys of the file and made by API, and the bootstrap admin key.
    keys: usize,
}

impl Contents {
    fn new(file: &Value, snapshot: &Snapshot) -> Self {
        Self {
            sections: file.as_object().map_or(0, Map::len),
            providers: snapshot.providers.len(),
            keys: snapshot.keys.len(),
        }
    }

    /// Refuses a configuration that has lost everything of a kind: its file was probably emptied or
    /// cut off by mistake. Whoever means it restarts the router.
    fn check_loss(&self, after: &Self, file: &str) -> Result<(), Report> {
        let problem = |path: &str, message: &str| Problem {
            severity: Severity::Error,
            file: file.into(),
            mark: None,
            path: path.to_owned(),
            message: message.to_owned(),
            remedy: "restore it, or restart the router to apply the change".to_owned(),
        };
        let is_lost = |before: usize, after: usize| before > 0 && after == 0;
        let problems = if is_lost(self.sections, after.sections) {
            vec![problem("(root)", "the file has become empty")]
        } else {
            let providers = is_lost(self.providers, after.providers).then(|| {
                problem(
                    "providers",
                    "no provider is left, so every request would fail",
                )
            });
            let keys = is_lost(self.keys, after.keys)
                .then(|| problem("keys", "no key is left, so every request would be refused"));
            providers.into_iter().chain(keys).collect()
        };
        if problems.is_empty() {
            return Ok(());
        }
        Err(Report::new(problems))
    }
}

/// The net under the file system's notices, which some file systems don't give.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// SIGHUP, listened for since [`SighupListener::listen`].
pub(crate) struct SighupListener(tokio::sync::Mutex<Signal>);

impl SighupListener {
    /// Begins to listen. Until then the signal ends the process, so this comes before anything
    /// that shows that the process is up. `runtime` must live as long as they are waited for.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen(runtime: &Runtime) -> io::Result<Arc<Self>> {
        let _entered = runtime.enter();
        let signal = signal(SignalKind::hangup())?;
        Ok(Arc::new(Self(tokio::sync::Mutex::new(signal))))
    }

    async fn next(&self) {
        self.0.lock().await.recv().await;
    }
}

/// Reloads on SIGHUP and when the file changes, until the task is dropped.
pub(crate) async fn watch(reloader: Arc<Reloader>, sighups: Arc<SighupListener>) {
    let (changes, mut changed) = tokio::sync::mpsc::channel(1);
    // The watcher works as long as it lives.
    let _watcher = reloader
        .loader
        .file
        .as_deref()
        .and_then(|file| watcher(file, changes));
    loop {
        tokio::select! {
            () = sighups.next() => reloader.reload_from_file("SIGHUP").await,
            Some(()) = changed.recv() => reloader.reload_if_changed().await,
            () = tokio::time::sleep(LOOK_AGAIN) => reloader.reload_if_changed().await,
        }
    }
}

/// Watches the file's folder: the file itself may be replaced, also by a symbolic link that is
/// swapped, as Kubernetes does with a ConfigMap.
fn watcher(
    file: &Path,
    changes: tokio::sync::mpsc::Sender<()>,
) -> Option<notify::RecommendedWatcher> {
    use notify::{RecursiveMode, Watcher as _};

    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let notice = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel already holds a notice.
            let _ = changes.try_send(());
        }
    };
    let watching = notify::recommended_watcher(notice).and_then(|mut watcher| {
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map(|()| watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "failed to watch the configuration's folder; polling it every 5 s");
            None
        }
    }
}

/// Converts the errors of a configuration to those of the API.
pub(crate) fn to_config_errors(error: &LoadError) -> Vec<ConfigError> {
    match error {
        LoadError::Config(report) => report.errors().map(to_config_error).collect(),
        other => vec![ConfigError {
            file: String::new(),
            line: None,
            field: String::new(),
            message: other.to_string(),
        }],
    }
}

fn to_config_error(problem: &Problem) -> ConfigError {
    let remedy = if problem.remedy.is_empty() {
        String::new()
    } else {
        format!("; {}", problem.remedy)
    };
    ConfigError {
        file: problem.file.to_string(),
        line: problem.mark.map(|mark| mark.line),
        field: problem.path.clone(),
        message: format!("{}{remedy}", problem.message),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changing_files_are_waited_for() {
        let reads = Cell::new(0);
        let changes_until = |last: u64| {
            reads.set(0);
            let reads = &reads;
            move || {
                reads.set(reads.get() + 1);
                last.min(reads.get())
            }
        };
        assert_eq!(wait_until_still(changes_until(1)).await, 1);
        assert_eq!(reads.get(), 2);
        assert_eq!(wait_until_still(changes_until(7)).await, 7);
        assert_eq!(reads.get(), 8);
        let began = tokio::time::Instant::now();
        wait_until_still(changes_until(u64::MAX)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[test]
    fn a_configuration_that_lost_everything_of_a_kind_is_refused() {
        let contents = |(sections, providers, keys)| Contents {
            sections,
            providers,
            keys,
        };
        for (before, after, expected) in [
            ((3, 2, 2), (3, 1, 1), &[][..]),
            ((3, 2, 2), (1, 2, 2), &[]),
            ((3, 2, 2), (0, 1, 1), &["(root)"]),
            ((3, 2, 2), (0, 0, 0), &["(root)"]),
            ((3, 2, 2), (3, 0, 1), &["providers"]),
            ((3, 2, 2), (3, 2, 0), &["keys"]),
            ((3, 2, 2), (1, 0, 0), &["providers", "keys"]),
            // What was not there before can't be lost.
            ((1, 0, 2), (1, 0, 2), &[]),
            ((1, 1, 0), (1, 1, 0), &[]),
            ((0, 1, 1), (0, 1, 1), &[]),
        ] {
            let report = contents(before).check_loss(&contents(after), "a.yaml");
            let report = report.err().unwrap_or_default();
            let paths: Vec<&str> = report.errors().map(|one| one.path.as_str()).collect();
            assert_eq!(paths, expected, "{before:?} {after:?}");
        }
    }
}

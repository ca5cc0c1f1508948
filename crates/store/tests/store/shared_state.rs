//! One suite for every store of shared state: objects made by API, their audit, and the toggle.
//! Nothing is lost or overwritten unnoticed, and every change can be detected.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::StorePlace;
use crate::support::postgres::Postgres;
use jiff::Timestamp;
use llm_router_domain::toggle::{
    Toggle, ToggleAnswer, ToggleChange, ToggleOutcome, ToggleSettings,
};
use llm_router_store::objects::{
    AuditDraft, AuditQuery, ChangeError, ChangedBy, Handle, KeyUse, ObjectChange, ObjectDraft,
    ObjectKind, Objects, StoredObject,
};
use llm_router_store::toggle::ToggleStep;
use llm_router_store::{Store, StoreUrl, open};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

async fn open_store(place: &StorePlace, name: &str) -> Arc<dyn Store> {
    open(&StoreUrl::parse(&place.url(name)).unwrap())
        .await
        .unwrap()
}

async fn conforms(place: StorePlace) {
    objects_live(open_store(&place, "objects").await.as_ref()).await;
    stale_changes_are_refused(open_store(&place, "stale").await.as_ref()).await;
    changes_are_told(open_store(&place, "changes").await.as_ref()).await;
    uses_are_kept(open_store(&place, "uses").await.as_ref()).await;
    every_change_is_audited(open_store(&place, "audit").await.as_ref()).await;
    replicas_start_together(&place).await;
    writers_take_turns(&place).await;
    the_toggle_keeps_its_first_state(open_store(&place, "first").await.as_ref()).await;
    one_step_wins(&place).await;
    history_tells_what_became_of_it(open_store(&place, "history").await.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_conforms() {
    conforms(StorePlace::Sqlite(tempfile::tempdir().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_conforms() {
    if let Some(server) = Postgres::start() {
        conforms(StorePlace::Postgres(server)).await;
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_772_366_400 + second).unwrap()
}

fn by(second: i64) -> ChangedBy {
    ChangedBy {
        actor: "ann".to_owned(),
        at: at(second),
    }
}

fn draft(kind: ObjectKind, id: &str, name: &str, body: Value) -> ObjectDraft {
    ObjectDraft {
        kind,
        id: id.to_owned(),
        name: name.to_owned(),
        body,
        sealed: None,
    }
}

async fn create(store: &dyn Store, draft: ObjectDraft, second: i64) -> StoredObject {
    let created = store.change(ObjectChange::Create(draft), by(second)).await;
    created.unwrap().unwrap()
}

async fn objects_live(store: &dyn Store) {
    let marks = store.marks().await.unwrap();
    assert_eq!((marks.change_number, marks.toggle_revision), (0, 0));
    // What text can hold: JSON's escapes, other planes, and digits no float has.
    let body = json!({ "when": { "regex": "a\u{0}b \"q\" 👍" }, "priority": i64::MIN });
    let rule = create(store, draft(ObjectKind::Rule, "r1", "one", body.clone()), 1).await;
    let mut key = draft(ObjectKind::Key, "k1", "one", json!({}));
    key.sealed = Some("hash".into());
    create(store, key.clone(), 2).await;
    create(store, draft(ObjectKind::Rule, "r0", "two", json!({})), 3).await;
    assert_eq!(store.marks().await.unwrap().change_number, 3);

    let all = store.objects().await.unwrap();
    let ids = |kind| {
        all.by_kind(kind)
            .map(|object| object.id.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(ObjectKind::Rule), ids(ObjectKind::Key)),
        (vec!["r1", "r0"], Vec::new())
    );
    assert_eq!(all.change_number, 3);
    let found = all.by_kind(ObjectKind::Rule).next().unwrap();
    assert_eq!(
        (
            &found.body,
            found.version,
            found.created_at,
            found.updated_at
        ),
        (&body, rule.version, at(1), at(1))
    );

    key.body = json!({ "role": "admin" });
    key.sealed = None;
    let change = ObjectChange::Replace {
        draft: key,
        expected: Some(2),
    };
    let changed = store.change(change, by(9)).await.unwrap().unwrap();
    assert_eq!(
        (changed.created_at, changed.updated_at, changed.version),
        (at(2), at(9), 4)
    );
    let kept = changed.sealed.as_ref().map(|sealed| sealed.expose_secret());
    assert_eq!(kept, Some("hash"), "a replacement keeps what is sealed");
    assert!(!format!("{changed:?}").contains("hash"), "{changed:?}");

    ends_are_final(store, &rule).await;
    steps_lead_to_the_same(store, &all).await;
}

async fn ends_are_final(store: &dyn Store, rule: &StoredObject) {
    let delete = || ObjectChange::Delete {
        kind: ObjectKind::Rule,
        id: "r1".to_owned(),
        expected: None,
    };
    assert!(store.change(delete(), by(10)).await.unwrap().is_none());
    let again = store.change(delete(), by(11)).await;
    assert!(matches!(again, Err(ChangeError::Missing)), "{again:?}");
    // A reused id has another version than before.
    let anew = create(store, draft(ObjectKind::Rule, "r1", "one", json!({})), 12).await;
    assert!(anew.version > rule.version);
    assert_eq!(store.objects().await.unwrap().items.len(), 2);
}

/// Checks that following changes step by step gives the same as reading all objects.
async fn steps_lead_to_the_same(store: &dyn Store, before: &Objects) {
    let changes = store
        .changes(before.change_number, 100)
        .await
        .unwrap()
        .unwrap();
    let followed = before.with(&changes).unwrap();
    let ids = |objects: &Objects| -> Vec<_> {
        let items = objects.items.iter();
        items.map(|one| (one.id.clone(), one.version)).collect()
    };
    assert_eq!(ids(&followed), ids(&store.objects().await.unwrap()));
}

async fn stale_changes_are_refused(store: &dyn Store) {
    let rule = create(store, draft(ObjectKind::Rule, "r1", "one", json!({})), 1).await;
    create(store, draft(ObjectKind::Rule, "r2", "two", json!({})), 1).await;
    let marks = store.marks().await.unwrap();
    let replace = |id: &str, name: &str, expected| ObjectChange::Replace {
        draft: draft(ObjectKind::Rule, id, name, json!({ "x": 1 })),
        expected,
    };
    let delete = |expected| ObjectChange::Delete {
        kind: ObjectKind::Rule,
        id: "r1".to_owned(),
        expected,
    };
    let create =
        |id: &str, name: &str| ObjectChange::Create(draft(ObjectKind::Rule, id, name, json!({})));
    for (change, error) in [
        (
            create("r1", "three"),
            "an object with that id or name already exists",
        ),
        (
            create("r3", "one"),
            "an object with that id or name already exists",
        ),
        (
            replace("r1", "two", None),
            "an object with that id or name already exists",
        ),
        (replace("r4", "four", None), "no object with that id"),
        (
            replace("r1", "one", Some(77)),
            "the object was changed in the meantime; its version is now 1",
        ),
        (
            delete(Some(77)),
            "the object was changed in the meantime; its version is now 1",
        ),
    ] {
        let refused = store.change(change.clone(), by(2)).await;
        assert_eq!(refused.unwrap_err().to_string(), error, "{change:?}");
    }
    assert_eq!(
        store.marks().await.unwrap().change_number,
        marks.change_number,
        "what was refused changed nothing"
    );
    let renamed = store
        .change(replace("r1", "uno", Some(rule.version)), by(3))
        .await;
    assert_eq!(renamed.unwrap().unwrap().name, "uno");
}

async fn changes_are_told(store: &dyn Store) {
    let keys = ["k3", "k1", "k2"];
    for (second, id) in (1..).zip(keys) {
        create(
            store,
            draft(ObjectKind::Key, id, &format!("name-{id}"), json!({})),
            second,
        )
        .await;
    }
    create(store, draft(ObjectKind::Rule, "r1", "one", json!({})), 4).await;
    let delete = |id: &str| ObjectChange::Delete {
        kind: ObjectKind::Key,
        id: id.to_owned(),
        expected: None,
    };
    store.change(delete("k1"), by(5)).await.unwrap();
    let replace = ObjectChange::Replace {
        draft: draft(ObjectKind::Key, "k3", "name-k3", json!({ "x": 1 })),
        expected: None,
    };
    store.change(replace, by(6)).await.unwrap();
    store.change(delete("k2"), by(7)).await.unwrap();
    create(store, draft(ObjectKind::Key, "k2", "again", json!({})), 8).await;

    let told = async |since, limit| {
        let changes = store.changes(since, limit).await.unwrap()?;
        let items: Vec<_> = changes.items.iter().map(|one| one.id.clone()).collect();
        let removed = changes.removed.into_iter().map(|one| (one.id, one.version));
        Some((
            items.join(" "),
            removed.collect::<Vec<_>>(),
            changes.change_number,
        ))
    };
    let removed = |found: &[(&str, u64)]| -> Vec<_> {
        found
            .iter()
            .map(|(id, version)| ((*id).to_owned(), *version))
            .collect()
    };
    for (since, limit, items, removals, number) in [
        (0, 100, "r1 k3 k2", &[("k1", 5), ("k2", 7)][..], 8),
        (0, 2, "r1 k3", &[("k1", 5)], 6),
        (6, 2, "k2", &[("k2", 7)], 8),
        (7, 100, "k2", &[], 8),
        (8, 100, "", &[], 8),
    ] {
        let expected = (items.to_owned(), removed(removals), number);
        assert_eq!(told(since, limit).await, Some(expected), "{since} {limit}");
    }
    assert_eq!(told(9, 100).await, None, "it hasn't been yet");

    let ids = async |after, limit| {
        let page = store.page(ObjectKind::Key, after, limit).await.unwrap();
        let ids: Vec<_> = page.into_iter().map(|one| one.id).collect();
        ids.join(" ")
    };
    assert_eq!(ids(None, 100).await, "k2 k3");
    assert_eq!(ids(None, 1).await, "k2");
    assert_eq!(ids(Some("k2"), 100).await, "k3");
    for (handle, found) in [
        (Handle::Id("k3"), Some("k3")),
        (Handle::Id("k1"), None),
        (Handle::Name("again"), Some("k2")),
        (Handle::Name("k2"), None),
    ] {
        let object = store.find(ObjectKind::Key, handle).await.unwrap();
        assert_eq!(
            object.as_ref().map(|one| one.id.as_str()),
            found,
            "{handle:?}"
        );
    }
}

async fn uses_are_kept(store: &dyn Store) {
    create(store, draft(ObjectKind::Key, "k1", "one", json!({})), 1).await;
    let used = |key: &str, second| KeyUse {
        key: key.to_owned(),
        at: at(second),
    };
    let known = async || {
        let keys = ["k1", "k2", "k3"].map(str::to_owned);
        let mut uses = store.uses(keys.into()).await.unwrap();
        uses.sort_by(|one, two| one.key.cmp(&two.key));
        uses
    };
    store
        .note_uses(vec![used("k1", 5), used("k2", 6)])
        .await
        .unwrap();
    // A late report doesn't undo a later one.
    store
        .note_uses(vec![used("k1", 9), used("k2", 3)])
        .await
        .unwrap();
    store.note_uses(Vec::new()).await.unwrap();
    assert_eq!(known().await, [used("k1", 9), used("k2", 6)]);
    let change = store.marks().await.unwrap().change_number;
    assert_eq!(change, 1, "a use is no change");
    let delete = ObjectChange::Delete {
        kind: ObjectKind::Key,
        id: "k1".to_owned(),
        expected: None,
    };
    store.change(delete, by(10)).await.unwrap();
    assert_eq!(known().await, [used("k2", 6)]);
}

async fn every_change_is_audited(store: &dyn Store) {
    create(
        store,
        draft(ObjectKind::Rule, "r1", "one", json!({ "a": 1 })),
        1,
    )
    .await;
    let mut second = draft(ObjectKind::Rule, "r1", "one", json!({ "a": 2 }));
    second.sealed = Some("secret".into());
    let replace = ObjectChange::Replace {
        draft: second,
        expected: None,
    };
    store.change(replace, by(2)).await.unwrap();
    let delete = ObjectChange::Delete {
        kind: ObjectKind::Rule,
        id: "r1".to_owned(),
        expected: None,
    };
    store.change(delete.clone(), by(3)).await.unwrap();
    store.change(delete, by(4)).await.unwrap_err();
    let reload = AuditDraft {
        at: at(5),
        actor: "bob".to_owned(),
        action: "reload".to_owned(),
        kind: "config".to_owned(),
        object: String::new(),
        before: None,
        after: None,
    };
    store.record(reload.clone()).await.unwrap();

    the_audit_is_listed(store, &reload).await;
}

async fn the_audit_is_listed(store: &dyn Store, reload: &AuditDraft) {
    let query = AuditQuery {
        limit: 3,
        ..AuditQuery::default()
    };
    let page = store.audit(&query).await.unwrap();
    assert_eq!(&page.items[0].what, reload);
    let seen = |index: usize| {
        let what = &page.items[index].what;
        (
            what.at,
            what.actor.as_str(),
            what.action.as_str(),
            what.before.clone(),
            what.after.clone(),
        )
    };
    assert_eq!(
        seen(1),
        (at(3), "ann", "delete", Some(json!({ "a": 2 })), None)
    );
    assert_eq!(
        seen(2),
        (
            at(2),
            "ann",
            "replace",
            Some(json!({ "a": 1 })),
            Some(json!({ "a": 2 }))
        )
    );
    let rest = AuditQuery {
        cursor: page.next,
        ..query.clone()
    };
    let rest = store.audit(&rest).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    assert_eq!(rest.items[0].what.action, "create");
    for (query, found) in [
        (
            AuditQuery {
                actor: Some("bob".to_owned()),
                ..query.clone()
            },
            1,
        ),
        (
            AuditQuery {
                kind: Some("rule".to_owned()),
                ..query.clone()
            },
            3,
        ),
        (
            AuditQuery {
                object: Some("r1".to_owned()),
                kind: Some("key".to_owned()),
                ..query
            },
            0,
        ),
    ] {
        assert_eq!(
            store.audit(&query).await.unwrap().items.len(),
            found,
            "{query:?}"
        );
    }
}

/// On an empty database, all at once: each finds or makes the tables, and one first state counts.
async fn replicas_start_together(place: &StorePlace) {
    let url = Arc::new(StoreUrl::parse(&place.url("together")).unwrap());
    let mut replicas = tokio::task::JoinSet::new();
    for number in 0..8 {
        let url = Arc::clone(&url);
        replicas.spawn(async move {
            let store = open(&url).await.unwrap();
            let first = Toggle::new(number % 2 == 0);
            store.begin_toggle(&first).await.unwrap()
        });
    }
    let states = replicas.join_all().await;
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
}

/// As two replicas do: two handles on one database, many changes at once.
async fn writers_take_turns(place: &StorePlace) {
    let one = open_store(place, "turns").await;
    let url = match place {
        StorePlace::Sqlite(_) => place.url("turns"),
        StorePlace::Postgres(server) => server.url("turns"),
    };
    let two = open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = Arc::clone(if number % 2 == 0 { &one } else { &two });
        // Names repeat: of each four one wins.
        let (id, name) = (format!("id-{number}"), format!("name-{}", number / 4));
        writers.spawn(async move {
            let change = ObjectChange::Create(draft(ObjectKind::Rule, &id, &name, json!({})));
            store.change(change, by(0)).await
        });
    }
    let (mut versions, mut taken) = (BTreeSet::new(), 0);
    while let Some(done) = writers.join_next().await {
        match done.unwrap() {
            Ok(object) => assert!(versions.insert(object.unwrap().version)),
            Err(error) => {
                assert!(matches!(error, ChangeError::Taken), "{error}");
                taken += 1;
            }
        }
    }
    assert_eq!((versions.len(), taken), (10, 30));
    assert_eq!(one.marks().await.unwrap().change_number, 10);
    assert_eq!(two.objects().await.unwrap().items.len(), 10);
}

const SETTINGS: ToggleSettings = ToggleSettings {
    delay: Duration::from_secs(10),
    cooldown: Duration::from_secs(60),
};

fn ask(value: bool, actor: &str) -> ToggleChange {
    ToggleChange {
        value,
        reason: "drill".to_owned(),
        actor: actor.to_owned(),
        delay: None,
        force: false,
    }
}

/// The step that a request leads to from a state.
fn step(toggle: &Toggle, request: ToggleChange, second: i64) -> (ToggleAnswer, ToggleStep) {
    let mut to = toggle.clone();
    let (answer, items) = to.request(request, &SETTINGS, at(second));
    let from = toggle.revision();
    (
        answer,
        ToggleStep {
            from,
            to,
            items,
            audit: None,
        },
    )
}

async fn the_toggle_keeps_its_first_state(store: &dyn Store) {
    assert_eq!(store.toggle().await.unwrap(), None);
    let first = store.begin_toggle(&Toggle::new(false)).await.unwrap();
    assert_eq!(first, Toggle::new(false));
    let later = store.begin_toggle(&Toggle::new(true)).await.unwrap();
    assert_eq!(later, first, "what a restart brings along doesn't count");
    assert_eq!(store.toggle().await.unwrap(), Some(first));
}

/// Two handles and many requests from one state: one is taken, and each of the others sees that it
/// was not.
async fn one_step_wins(place: &StorePlace) {
    let one = open_store(place, "race").await;
    let url = match place {
        StorePlace::Sqlite(_) => place.url("race"),
        StorePlace::Postgres(server) => server.url("race"),
    };
    let two = open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
    let mut toggle = one.begin_toggle(&Toggle::new(true)).await.unwrap();
    for round in 1..=5 {
        let mut racers = tokio::task::JoinSet::new();
        for number in 0..8 {
            let store = Arc::clone(if number % 2 == 0 { &one } else { &two });
            let (_, step) = step(&toggle, ask(false, &format!("actor-{number}")), 0);
            racers.spawn(async move { store.step_toggle(step).await.unwrap() });
        }
        let won = racers
            .join_all()
            .await
            .into_iter()
            .filter(|won| *won)
            .count();
        assert_eq!(won, 1);
        toggle = two.toggle().await.unwrap().unwrap();
        assert_eq!(toggle.revision(), round);
        assert_eq!(one.marks().await.unwrap().toggle_revision, round);
    }
    // Each of the five but the last was superseded by the next.
    let history = one.toggle_history(None, 100).await.unwrap().items;
    let outcomes: Vec<_> = history.iter().map(|item| (item.id, item.outcome)).collect();
    let expected = [
        (5, ToggleOutcome::Pending),
        (4, ToggleOutcome::Superseded),
        (3, ToggleOutcome::Superseded),
        (2, ToggleOutcome::Superseded),
        (1, ToggleOutcome::Superseded),
    ];
    assert_eq!(outcomes, expected);
}

async fn history_tells_what_became_of_it(store: &dyn Store) {
    let toggle = store.begin_toggle(&Toggle::new(true)).await.unwrap();
    let (answer, mut first) = step(&toggle, ask(false, "ann"), 0);
    assert_eq!(answer, ToggleAnswer::Pending);
    first.audit = Some(AuditDraft {
        at: at(0),
        actor: "ann".to_owned(),
        action: "request".to_owned(),
        kind: "toggle".to_owned(),
        object: "1".to_owned(),
        before: None,
        after: None,
    });
    assert!(store.step_toggle(first.clone()).await.unwrap());
    assert!(!store.step_toggle(first.clone()).await.unwrap(), "once");
    let stored = store.toggle().await.unwrap().unwrap();
    assert_eq!(stored, first.to);
    assert!(!stored.is_enabled(at(10)), "it waits in the store");
    let query = AuditQuery {
        limit: 9,
        ..AuditQuery::default()
    };
    let audit = store.audit(&query).await.unwrap();
    assert_eq!(audit.items.len(), 1, "the audit goes with the step");

    settled_and_refused(store, &stored).await;
}

async fn settled_and_refused(store: &dyn Store, toggle: &Toggle) {
    let mut settled = toggle.clone();
    let item = settled.settle(&SETTINGS, at(11)).unwrap();
    let settle = ToggleStep {
        from: toggle.revision(),
        to: settled.clone(),
        items: vec![item],
        audit: None,
    };
    assert!(store.step_toggle(settle.clone()).await.unwrap());
    assert!(
        !store.step_toggle(settle).await.unwrap(),
        "by the other replica too"
    );
    let (answer, refused) = step(&settled, ask(true, "bob"), 20);
    assert!(matches!(answer, ToggleAnswer::Refused(_)));
    assert!(store.step_toggle(refused).await.unwrap());

    let page = store.toggle_history(None, 1).await.unwrap();
    let newest = &page.items[0];
    assert_eq!(
        (newest.id, newest.outcome, newest.effective_at),
        (2, ToggleOutcome::Refused, None)
    );
    assert_eq!(
        (newest.actor.as_str(), newest.requested_at),
        ("bob", at(20))
    );
    let rest = store.toggle_history(page.next, 9).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    let oldest = &rest.items[0];
    assert_eq!((oldest.id, oldest.outcome), (1, ToggleOutcome::Applied));
    assert_eq!(
        (oldest.effective_at, oldest.reason.as_str()),
        (Some(at(10)), "drill")
    );
}

//! Counts words of the code: doc comments that open with a question word, functions named by a bare
//! participle, types that share a name, files directly in `src/`. The counts are held to
//! `house.txt` and may only fall. It must not judge meaning.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that open a question. A doc comment begins with a verb or a noun instead.
const QUESTION_WORDS: [&str; 7] = ["What", "How", "Whether", "Why", "Who", "Where", "When"];

/// Past participles that don't end in "ed". Words that are a noun or a present as well (`bound`,
/// `cost`, `cut`, `put`, `read`, `run`, `set`) are not among them.
const IRREGULAR: &str = "become begun bent bitten blown borne bought broken brought built caught \
    chosen come dealt done drawn driven eaten fallen fed felt fought found forgotten forgiven \
    frozen given gone got gotten grown heard held hidden hung kept known laid led left lent lit \
    lost made meant met mistaken overridden paid proven ridden risen said seen sent shown slept \
    sold sought spent spoken spun stood stolen struck stuck sung sunk swept sworn taken taught \
    thrown told torn undone understood withdrawn withheld woken won worn woven written";

/// Words that end in "ed" and are no participles.
const NO_PARTICIPLE: &str = "bed bleed breed embed exceed feed heed need proceed red seed shed \
    speed succeed weed";

/// Most files that may lie directly in `src/`.
const FILES_IN_SRC: usize = 6;

#[derive(Debug, Default, PartialEq, Eq)]
struct WordCounts {
    docs: usize,
    questions: usize,
    functions: usize,
    participles: usize,
}

#[test]
fn counts_are_at_their_ceilings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ceilings = read_ceilings(&root.join("tests/it/house.txt"));
    let mut found = BTreeMap::new();
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for (name, folder) in source_folders(root) {
        let mut counts = WordCounts::default();
        for file in rust_files(&folder) {
            let text = fs::read_to_string(&file).unwrap();
            count_words(&text, &mut counts);
            for name in type_names(&text) {
                *types.entry(name.to_owned()).or_default() += 1;
            }
        }
        println!("{name}: {counts:?}");
        found.insert(format!("{name} questions"), counts.questions);
        found.insert(format!("{name} participles"), counts.participles);
    }
    let all: usize = types.values().sum();
    let shared: usize = types.values().filter(|count| **count > 1).sum();
    println!("types: {all}, of which {shared} share their name");
    found.insert(
        "workspace shared_type_names_percent".into(),
        shared * 100 / all,
    );
    let in_src = files_directly_in(&root.join("src")).max(FILES_IN_SRC);
    found.insert("src files_directly".into(), in_src);

    let wrong = compare(&found, &ceilings);
    if std::env::var_os("UPDATE_HOUSE").is_some() {
        lower_ceilings(&root.join("tests/it/house.txt"), &found);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Compares what was counted with the ceilings: one sentence for each difference.
fn compare(found: &BTreeMap<String, usize>, ceilings: &BTreeMap<String, usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, count) in found {
        match ceilings.get(name) {
            None => wrong.push(format!("{name}: {count}, and house.txt has no line for it")),
            Some(ceiling) if count > ceiling => {
                wrong.push(format!(
                    "{name}: {count}, but at most {ceiling} are allowed"
                ));
            }
            Some(ceiling) if count < ceiling => wrong.push(format!(
                "{name}: {count}, fewer than the ceiling of {ceiling}: lower it in house.txt"
            )),
            Some(_) => {}
        }
    }
    for name in ceilings.keys().filter(|name| !found.contains_key(*name)) {
        wrong.push(format!(
            "{name}: nothing to count: delete its line in house.txt"
        ));
    }
    wrong
}

/// Reads the table of ceilings: `NAME COLUMN=CEILING …` a line, `#` opens a comment.
fn read_ceilings(path: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(path).unwrap();
    let mut ceilings = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        for word in words {
            let (column, ceiling) = word.split_once('=').unwrap();
            ceilings.insert(format!("{name} {column}"), ceiling.parse().unwrap());
        }
    }
    ceilings
}

/// Writes numbers that have fallen into the table of ceilings. A number that has risen stays.
fn lower_ceilings(path: &Path, found: &BTreeMap<String, usize>) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = Vec::new();
    for line in text.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let mut line = line.to_owned();
        for (column, count) in found.iter().filter_map(|(key, count)| {
            let (row, column) = key.split_once(' ')?;
            (row == name).then_some((column, *count))
        }) {
            let Some((before, after)) = line.split_once(&format!("{column}=")) else {
                continue;
            };
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let ceiling: usize = after[..digits].parse().unwrap();
            let number = count.min(ceiling);
            line = format!("{before}{column}={number:<digits$}{}", &after[digits..]);
        }
        lines.push(line.trim_end().to_owned());
    }
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

/// Folders whose words are counted, by the name of their line in the table.
fn source_folders(root: &Path) -> Vec<(String, PathBuf)> {
    let mut folders = vec![
        ("src".to_owned(), root.join("src")),
        ("tests".to_owned(), root.join("tests")),
        ("admin".to_owned(), root.join("admin/src")),
        ("load".to_owned(), root.join("benches/load/src")),
    ];
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        folders.push((name, entry.path().join("src")));
    }
    folders
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn files_directly_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().path().is_file())
        .count()
}

/// Adds what a file has to `counts`. A doc comment is a run of `///` or of `//!` lines.
fn count_words(text: &str, counts: &mut WordCounts) {
    let mut block = None;
    for line in text.lines().map(str::trim_start) {
        let doc = match line.get(..3) {
            Some("///") if !line.starts_with("////") => Some("///"),
            Some("//!") => Some("//!"),
            _ => None,
        };
        if let Some(mark) = doc
            && block != doc
        {
            counts.docs += 1;
            let first = line[mark.len()..]
                .split(|c: char| !c.is_alphabetic())
                .find(|w| !w.is_empty());
            counts.questions +=
                usize::from(first.is_some_and(|word| QUESTION_WORDS.contains(&word)));
        }
        block = doc;
        if doc.is_none()
            && let Some(name) = function_name(line)
        {
            counts.functions += 1;
            counts.participles += usize::from(is_bare_participle(name));
        }
    }
}

/// Returns the name of the function that a line declares, unless the line is text.
fn function_name(line: &str) -> Option<&str> {
    if line.starts_with('"') {
        return None;
    }
    let code = line.split("//").next()?;
    let after = match code.strip_prefix("fn ") {
        Some(after) => after,
        None => code.split_once(" fn ")?.1,
    };
    let name = after.strip_prefix("r#").unwrap_or(after);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    (end > 0 && name[end..].starts_with(['(', '<'])).then(|| &name[..end])
}

/// Returns the names of the types that a file declares, private ones included. Associated types
/// are indented aliases and left out: their name is the trait's.
fn type_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let indented = line.starts_with(' ');
        let mut words = line.split_whitespace().peekable();
        if words.peek()?.starts_with("pub") {
            words.next();
        }
        match words.next()? {
            "struct" | "enum" | "trait" | "union" => {}
            "type" if !indented => {}
            _ => return None,
        }
        let name = words.next()?;
        let name = name.split(|c: char| !c.is_alphanumeric()).next()?;
        name.starts_with(|c: char| c.is_ascii_uppercase())
            .then_some(name)
    })
}

/// Returns true for a name that is a single past participle: `told`, `counted`, but not `is_open`.
fn is_bare_participle(name: &str) -> bool {
    let in_list = |list: &str| list.split_whitespace().any(|word| word == name);
    let regular = name.ends_with("ed") && !name.contains('_') && !in_list(NO_PARTICIPLE);
    regular || in_list(IRREGULAR)
}

#[test]
fn counts_see_docs_functions_and_types() {
    // One string a line: a line that begins with a quote is not counted.
    let text = [
        "//! Where it lives.",
        "//! How it ends.",
        "",
        "/// Returns it.",
        "/// When asked.",
        "fn told() {}",
        "    /// `What` it costs.",
        "    pub(crate) async fn counted<T>(t: T) {}",
        "/// Whatever.",
        "fn is_found() -> bool {}",
        "const fn seed() {}",
        "// fn made() {}",
        "//// Why not.",
        "let f: fn(u8) = g;",
    ];
    let mut counts = WordCounts::default();
    count_words(&text.join("\n"), &mut counts);
    let expected = WordCounts {
        docs: 4,
        questions: 2,
        functions: 4,
        participles: 2,
    };
    assert_eq!(counts, expected);

    let types = [
        "pub struct A;",
        "enum B<T> {}",
        "    type Output = u8;",
        "type C = u8;",
        "pub(crate) trait D: Send {}",
        "let e = 1;",
        "// struct F;",
        "struct G(u8);",
    ];
    let types = types.join("\n");
    assert_eq!(
        type_names(&types).collect::<Vec<_>>(),
        ["A", "B", "C", "D", "G"]
    );
}

#[test]
fn a_count_that_rises_or_falls_is_reported() {
    let table = |rows: &[(&str, usize)]| {
        let rows = rows
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        rows.collect::<BTreeMap<_, _>>()
    };
    let ceilings = table(&[("a", 2), ("b", 2), ("c", 2), ("gone", 2)]);
    let wrong = compare(
        &table(&[("a", 2), ("b", 3), ("c", 1), ("new", 0)]),
        &ceilings,
    );
    let about = wrong
        .iter()
        .map(|line| line.split(':').next().unwrap_or_default());
    assert_eq!(about.collect::<Vec<_>>(), ["b", "c", "new", "gone"]);
}

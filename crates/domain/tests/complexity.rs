//! The scorer on labelled prompts: the share of pairs in which it ranks the harder one higher.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use llm_router_domain::complexity::{Lexical, ScoreInput, Scorer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Labelled {
    label: Label,
    prompt: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Label {
    Easy,
    Medium,
    Hard,
}

/// The labels and scores of a file of the corpus.
fn score_file(file: &str) -> Vec<(Label, f64)> {
    let path = format!("{}/tests/corpus/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let score = |line: &str| {
        let Labelled { label, prompt } = serde_json::from_str(line).unwrap();
        let tokens = prompt.len() as u64 / 4;
        let input = ScoreInput {
            text: &prompt,
            tokens,
            turns: 1,
            ..ScoreInput::default()
        };
        (label, Lexical.score(&input))
    };
    text.lines().map(score).collect()
}

/// The share of pairs with these labels that the scores put in the right order.
fn auc(scored: &[(Label, f64)], lower: Label, higher: Label) -> f64 {
    let of = |wanted: Label| scored.iter().filter(move |(label, _)| *label == wanted);
    let pairs = of(lower).flat_map(|low| of(higher).map(move |high| (low.1, high.1)));
    let right = |(low, high): (f64, f64)| match high.total_cmp(&low) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let (sum, count) = pairs.fold((0.0, 0), |(sum, count), pair| {
        (sum + right(pair), count + 1)
    });
    sum / f64::from(count.max(1))
}

#[test]
fn harder_prompts_score_higher() {
    let mut all = Vec::new();
    // The weights were fitted to `tuning` and every second of `tricky`; `unseen` was written after
    // they and the words were fixed.
    for (file, least) in [
        ("tuning", 0.97),
        ("held_out", 0.97),
        ("tricky", 0.95),
        ("unseen", 0.90),
    ] {
        let scored = score_file(file);
        let ranked = auc(&scored, Label::Easy, Label::Hard);
        println!(
            "{file}: {} prompts, AUC easy against hard {ranked:.3}",
            scored.len()
        );
        assert!(ranked >= least, "{file}: {ranked}");
        all.extend(scored);
    }
    let ranked = auc(&all, Label::Easy, Label::Hard);
    println!(
        "all: {} prompts, AUC easy against hard {ranked:.3}",
        all.len()
    );
    assert!(all.len() >= 200 && ranked >= 0.97);
}

#[test]
fn medium_prompts_lie_between() {
    for file in ["tuning", "held_out"] {
        let scored = score_file(file);
        let low = auc(&scored, Label::Easy, Label::Medium);
        let high = auc(&scored, Label::Medium, Label::Hard);
        println!("{file}: AUC easy against medium {low:.3}, medium against hard {high:.3}");
        assert!(low >= 0.9 && high >= 0.95);
    }
}

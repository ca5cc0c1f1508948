//! Long texts, the same in every run.

use crate::many::Words;

/// Prose of about so many bytes.
pub(crate) fn text(bytes: usize) -> String {
    let mut words = Words(123_456_789);
    let vocabulary: Vec<String> = (0..2_000).map(|_| words.word()).collect();
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(&vocabulary[words.next(2_000) as usize]);
        text.push_str(if words.next(15) == 0 {
            ". In 2024, item 12-34:\n"
        } else {
            " "
        });
    }
    text
}

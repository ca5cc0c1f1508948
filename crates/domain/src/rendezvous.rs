//! Weighted rendezvous hashing: which member a value belongs to, so that a member that comes, goes
//! or changes its weight moves only the values it must.
//!
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); weights by
//! the logarithmic method of Schindelhauer and Schomaker (2005).

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A hash that is the same in every process, on every machine and in every version.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The stable hash of several parts; their boundaries count.
#[must_use]
pub fn stable_hash_of(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}

/// Returns the score of a member for a value: the highest score wins. Over many values each member
/// wins in proportion to its weight; a weight of zero never wins against another.
#[must_use]
pub fn attraction(value: u64, member: u64, weight: f64) -> f64 {
    let unit = fraction(mix(value ^ mix(member)));
    weight / -unit.ln()
}

/// A number in the open interval from 0 to 1 made of a hash.
#[must_use]
pub fn fraction(hash: u64) -> f64 {
    // 52 bits: with one more, the half could round up to 1.
    const STEPS: f64 = (1_u64 << 52) as f64;
    ((hash >> 12) as f64 + 0.5) / STEPS
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(value: u64, members: &[(u64, f64)]) -> u64 {
        let score = |member: &(u64, f64)| attraction(value, member.0, member.1);
        members
            .iter()
            .max_by(|a, b| score(a).total_cmp(&score(b)))
            .unwrap()
            .0
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(stable_hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(
            stable_hash_of(&[b"a", b"bc"]),
            stable_hash_of(&[b"a", b"bc"])
        );
        assert_ne!(
            stable_hash_of(&[b"a", b"bc"]),
            stable_hash_of(&[b"ab", b"c"])
        );
    }

    #[test]
    fn shares_follow_weights() {
        let members = [(1, 1.0), (2, 2.0), (3, 7.0)];
        let mut wins = [0_u32; 4];
        for value in 0..100_000 {
            wins[winner(value, &members) as usize] += 1;
        }
        for (member, weight) in members {
            let share = f64::from(wins[member as usize]) / 100_000.0;
            assert!((share - weight / 10.0).abs() < 0.01, "{member}: {share}");
        }
    }

    #[test]
    fn a_grown_weight_only_draws_values_to_itself() {
        let before = [(1, 95.0), (2, 5.0)];
        let after = [(1, 90.0), (2, 10.0)];
        for value in 0..20_000 {
            if winner(value, &before) == 2 {
                assert_eq!(winner(value, &after), 2);
            }
        }
    }

    #[test]
    fn zero_never_wins() {
        assert!((0..10_000).all(|value| winner(value, &[(1, 0.0), (2, 1.0)]) == 2));
    }
}

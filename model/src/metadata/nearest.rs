//! Which known key somebody meant who wrote another one.

use super::keys::{KEYS, fixed_part};

/// A known key that looks like a slip of this one.
pub(super) fn nearest(key: &str) -> Option<String> {
    // Longer ones are no slip of any of ours, and would cost time.
    if key.len() > 64 {
        return None;
    }
    let plain = KEYS
        .iter()
        .filter(|doc| fixed_part(doc).is_none())
        .map(|doc| (distance(key, doc.key), doc.key.to_owned()));
    let named = KEYS.iter().filter_map(fixed_part).filter_map(|start| {
        // A slip in the fixed part: look at what is before the first separator.
        let at = key.find(['-', '_', '.'])?;
        let name = key.get(at + 1..).filter(|name| !name.is_empty())?;
        let slips = distance(key.get(..=at)?, start);
        Some((slips, format!("{start}{name}")))
    });
    // Two slips: one more turns `app` into almost anything.
    let near = plain.chain(named).filter(|(slips, known)| *slips <= 2 && *slips * 2 < known.len());
    near.min().map(|(_, known)| known)
}

/// How many characters must be put in, taken out or replaced to make one text the other; case is no difference.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    // The row of the usual table for the characters of `a` so far.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, of_a) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (of_b, pair) in b.iter().zip(row.windows(2)) {
            let (diagonal, above) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            left = (diagonal + usize::from(of_a != *of_b)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

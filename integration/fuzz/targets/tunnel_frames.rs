//! The frames of a tunnel, or of any HTTP/2 connection. The first byte says who opened it, the second where the bytes are
//! cut.
//!
//! However the bytes come, the verdict and the place where they are cut off are the same; nothing is handed on after a
//! verdict but the rest of the frame; what a connection costs us is bounded by its frames.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use weft_http::http2::{Bounds, Passed, Side, Watch};

fuzz_target!(|bytes: &[u8]| {
    let [side, cut, bytes @ ..] = bytes else { return };
    let side = if side % 2 == 0 { Side::Accepted } else { Side::Dialled };
    let step = usize::from(*cut).max(1);
    let now = Instant::now();
    let whole = passed(side, std::iter::once(bytes), now);
    assert_eq!(whole, passed(side, bytes.chunks(step), now), "pieces are judged otherwise than the whole");
    assert_eq!(whole, passed(side, bytes.chunks(1), now), "single bytes are judged otherwise than the whole");
    // What we say ourselves is looked at too.
    let mut watch = Watch::new(side, Bounds::new(65_536), now);
    watch.sent(bytes, drop);
    bytes.chunks(step).for_each(|piece| watch.sent(piece, drop));
});

/// How many bytes are handed on, and what the verdict is.
fn passed<'a>(
    side: Side,
    pieces: impl Iterator<Item = &'a [u8]>,
    now: Instant,
) -> (usize, Option<weft_http::Malformed>, u32) {
    let mut watch = Watch::new(side, Bounds::new(65_536), now);
    let mut handed_on = 0;
    for piece in pieces {
        match watch.received(piece, || now) {
            Passed::All => handed_on += piece.len(),
            Passed::Until(length) => {
                assert!(length <= piece.len() && watch.is_over() && watch.verdict().is_some());
                handed_on += length;
                break;
            }
        }
    }
    (handed_on, watch.verdict(), watch.last_stream())
}

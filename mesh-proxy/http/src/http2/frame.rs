//! Finds the frames in a stream of bytes (RFC 9113 4.1), however it is cut into pieces.
//!
//! Payloads are skipped, not copied; only the first bytes of those few kinds whose meaning stands there are held. No
//! length is judged: that is the HTTP/2 implementation's work.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const PADDED: u8 = 0x8;

pub(super) const NO_ERROR: u8 = 0;
pub(super) const PROTOCOL_ERROR: u8 = 1;
pub(super) const REFUSED_STREAM: u8 = 7;
pub(super) const ENHANCE_YOUR_CALM: u8 = 0xb;

/// The highest bit of a stream's number is reserved.
pub(super) const STREAM_MASK: u32 = 0x7fff_ffff;

/// The bytes before a client's first frame (RFC 9113 3.4).
pub(super) const PREFACE: u32 = 24;

const HEAD: usize = 9;
/// Code and stream of a GOAWAY, and enough of the words after them to tell them apart.
const START: usize = 8 + 10;

/// One frame's head, and the first bytes of its payload where they mean something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) start: &'a [u8],
}

impl Frame<'_> {
    /// The error code of a RST_STREAM or GOAWAY. Codes that do not fit are none that anybody uses.
    pub(super) fn code(&self) -> u8 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        match self.start.get(at..at + 4) {
            Some([0, 0, 0, code]) => *code,
            _ => u8::MAX,
        }
    }

    /// Whether a DATA frame has no byte for the application.
    pub(super) fn is_empty_data(&self) -> bool {
        let padding = match self.flags & PADDED {
            0 => 0,
            _ => 1 + self.start.first().copied().map_or(0, u32::from),
        };
        self.length <= padding && self.flags & END_STREAM == 0
    }
}

/// Where in the stream of bytes we are.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The head that is being gathered, and what belongs to it.
    held: [u8; HEAD + START],
    have: usize,
    /// Bytes that are no head.
    skip: u32,
}

impl Splitter {
    /// The first `skip` bytes are no frame.
    pub(super) fn after(skip: u32) -> Self {
        Self { held: [0; HEAD + START], have: 0, skip }
    }

    /// Whether the bytes so far end with a frame.
    pub(super) fn at_border(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Passes over what is left of a frame; returns how many bytes of it there were.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> usize {
        let skipped = bytes.len().min(self.skip as usize);
        self.skip -= skipped as u32;
        skipped
    }

    /// Takes the bytes up to and with the next head (and what is held of its payload). Returns how many those are, and
    /// the frame if it has come so far.
    pub(super) fn next(&mut self, bytes: &[u8]) -> (usize, Option<Frame<'_>>) {
        let mut at = self.skip(bytes);
        loop {
            let wanted = self.wanted();
            let rest = bytes.get(at..).unwrap_or_default();
            let taken = rest.len().min(wanted - self.have);
            if let (Some(place), Some(part)) =
                (self.held.get_mut(self.have..self.have + taken), rest.get(..taken))
            {
                place.copy_from_slice(part);
            }
            self.have += taken;
            at += taken;
            if self.have < wanted {
                return (at, None);
            }
            // With the head, what is wanted may have become more.
            if self.have == self.wanted() {
                return (at, Some(self.whole()));
            }
        }
    }

    fn wanted(&self) -> usize {
        if self.have < HEAD {
            return HEAD;
        }
        let [a, b, c, kind, flags, ..] = self.held;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let start = match kind {
            RST_STREAM => 4,
            GOAWAY => START,
            DATA if flags & PADDED != 0 => 1,
            HEADERS if flags & END_STREAM != 0 => 5,
            _ => 0,
        };
        HEAD + start.min(length)
    }

    fn whole(&mut self) -> Frame<'_> {
        let [a, b, c, kind, flags, d, e, f, g, ..] = self.held;
        let length = u32::from_be_bytes([0, a, b, c]);
        let start = self.held.get(HEAD..self.have).unwrap_or_default();
        self.skip = length - start.len() as u32;
        self.have = 0;
        let stream = u32::from_be_bytes([d, e, f, g]) & STREAM_MASK;
        Frame { length, kind, flags, stream, start }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Length, kind, flags, stream and start of every frame, and whether the bytes end at a border.
    type Seen = (Vec<(u32, u8, u8, u32, Vec<u8>)>, bool);

    fn split(pieces: &[&[u8]], preface: u32) -> Seen {
        let mut splitter = Splitter::after(preface);
        let mut frames = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (taken, frame) = splitter.next(rest);
                let Some(frame) = frame else { break };
                frames.push((frame.length, frame.kind, frame.flags, frame.stream, frame.start.to_vec()));
                rest = &rest[taken..];
            }
        }
        (frames, splitter.at_border())
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_their_bytes_are_cut(
            frames in prop::collection::vec((0u8..12, any::<u8>(), any::<u32>(), 0usize..60), 0..8),
            cuts in prop::collection::vec(0usize..500, 0..10),
        ) {
            let mut bytes = vec![b'P'; PREFACE as usize];
            for (kind, flags, stream, length) in &frames {
                bytes.extend(frame(*kind, *flags, *stream, &vec![7; *length]));
            }
            let whole = split(&[&bytes], PREFACE);
            prop_assert_eq!(whole.0.len(), frames.len());
            prop_assert!(whole.1, "the bytes end with a frame");
            for (seen, (kind, flags, stream, length)) in whole.0.iter().zip(&frames) {
                prop_assert_eq!((seen.0, seen.1, seen.2), (*length as u32, *kind, *flags));
                prop_assert_eq!(seen.3, stream & STREAM_MASK);
            }
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(&split(&pieces, PREFACE), &whole);
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&split(&each, PREFACE), &whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            split(&[&bytes], 0);
        }
    }

    #[test]
    fn the_code_and_the_words_of_a_goaway_are_held() {
        let mut payload = vec![0, 0, 0, 5, 0, 0, 0, ENHANCE_YOUR_CALM];
        payload.extend(b"too_many_resets");
        let mut splitter = Splitter::after(0);
        let bytes = frame(GOAWAY, 0, 0, &payload);
        let (_, seen) = splitter.next(&bytes);
        let seen = seen.unwrap();
        assert_eq!((seen.code(), &seen.start[8..]), (ENHANCE_YOUR_CALM, &b"too_many_r"[..]));
    }

    #[test]
    fn a_data_frame_is_empty_when_all_of_it_is_padding() {
        for (flags, payload, empty) in [
            (0, &b""[..], true),
            (0, b"x", false),
            (END_STREAM, b"", false),
            (PADDED, b"\x02\0\0", true),
            (PADDED, b"\x01\0\0", false),
        ] {
            let mut splitter = Splitter::after(0);
            let bytes = frame(DATA, flags, 1, payload);
            assert_eq!(splitter.next(&bytes).1.unwrap().is_empty_data(), empty, "{flags} {payload:?}");
        }
    }
}

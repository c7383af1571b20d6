//! Floods of each kind are cut, in pieces of every size, and what real peers send is not.

use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::http2::frame::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A watch with a clock of its own.
struct World {
    watch: Watch,
    now: Cell<Instant>,
    looks: Cell<u32>,
}

impl World {
    fn new(side: Side) -> Self {
        let now = Instant::now();
        let mut watch = Watch::new(side, Bounds::new(65_536), now);
        let preface = [0; frame::PREFACE as usize];
        match side {
            Side::Accepted => assert_eq!(watch.received(&preface, || now), Passed::All),
            Side::Dialled => watch.sent(&preface, |kind| panic!("{kind:?}")),
        }
        Self { watch, now: Cell::new(now), looks: Cell::new(0) }
    }

    fn read(&mut self, bytes: &[u8]) -> Passed {
        self.watch.received(bytes, || {
            self.looks.set(self.looks.get() + 1);
            self.now.get()
        })
    }

    fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    /// How many of these frames pass at once.
    fn flood(&mut self, frame: &[u8]) -> usize {
        (0..100_000).find(|_| self.read(frame) != Passed::All).unwrap_or(usize::MAX)
    }
}

#[test]
fn each_flood_is_cut_at_its_bound_and_by_its_kind() {
    for (bytes, kind, at) in [
        (frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), Malformed::Http2Reset, 2_000),
        (frame(PING, 0, 0, &[0; 8]), Malformed::Http2Ping, 200),
        (frame(PING, 1, 0, &[0; 8]), Malformed::Http2Ping, 200),
        (frame(SETTINGS, 0, 0, &[]), Malformed::Http2Settings, 50),
        (frame(DATA, 0, 1, &[]), Malformed::Http2EmptyData, 80),
        (frame(DATA, 8, 1, &[3, 0, 0, 0]), Malformed::Http2EmptyData, 80),
        (frame(PRIORITY, 0, 1, &[0; 5]), Malformed::Http2Priority, 200),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), Malformed::Http2WindowUpdate, 2_000),
        (frame(0xfe, 0, 0, &[]), Malformed::Http2Unknown, 200),
        (frame(GOAWAY, 0, 0, &[0; 8]), Malformed::Http2GoAway, 20),
        (frame(CONTINUATION, 0, 1, &[0; 16]), Malformed::Http2Continuation, 5),
    ] {
        let mut world = World::new(Side::Accepted);
        assert_eq!(world.flood(&bytes), at, "{kind:?}");
        assert_eq!(world.watch.verdict(), Some(kind));
        assert_eq!(world.read(&bytes), Passed::Until(0), "nothing passes afterwards");
    }
}

#[test]
fn rapid_reset_is_cut_although_each_reset_has_a_stream() {
    let mut world = World::new(Side::Accepted);
    let pair = [frame(HEADERS, 5, 1, &[0x82]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    assert_eq!(world.flood(&pair), 4_000);
    assert_eq!(world.watch.verdict(), Some(Malformed::Http2Reset));
}

#[test]
fn an_endpoint_may_reset_every_request_and_no_more() {
    let mut world = World::new(Side::Dialled);
    let (request, reset) = (frame(HEADERS, 5, 1, &[0x82]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]));
    for _ in 0..50_000 {
        world.watch.sent(&request, |kind| panic!("{kind:?}"));
        assert_eq!(world.read(&reset), Passed::All);
    }
    // The window's own requests count, at most as many as pass between two looks at the clock.
    assert!(world.flood(&reset) <= 2_000);
    let mut world = World::new(Side::Dialled);
    assert_eq!(world.flood(&frame(HEADERS, 4, 1, &[0x88])), 1_000, "informational heads");
}

#[test]
fn half_of_the_requests_may_be_given_up_at_any_rate() {
    let mut world = World::new(Side::Accepted);
    let whole = frame(HEADERS, 5, 1, &[0x82]);
    let given_up = [&whole[..], &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    for _ in 0..100_000 {
        assert_eq!(world.read(&whole), Passed::All);
        assert_eq!(world.read(&given_up), Passed::All);
    }
}

#[test]
fn who_keeps_below_the_rate_goes_on_for_ever() {
    let mut world = World::new(Side::Accepted);
    for _ in 0..10_000 {
        for _ in 0..19 {
            assert_eq!(world.read(&frame(PING, 0, 0, &[0; 8])), Passed::All);
        }
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.watch.verdict(), None);
}

#[test]
fn a_peer_may_ping_and_open_windows_as_data_flows() {
    let mut world = World::new(Side::Accepted);
    let data = frame(DATA, 0, 1, &[7; 100]);
    for _ in 0..50_000 {
        world.watch.sent(&data, |kind| panic!("{kind:?}"));
        assert_eq!(world.read(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100])), Passed::All);
        assert_eq!(world.read(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 100])), Passed::All);
        assert_eq!(world.read(&frame(PING, 0, 0, &[0; 8])), Passed::All);
    }
}

#[test]
fn the_useful_traffic_of_an_hour_buys_no_flood() {
    let mut world = World::new(Side::Accepted);
    for _ in 0..3_600 {
        for _ in 0..1_000 {
            assert_eq!(world.read(&frame(DATA, 0, 1, &[7; 100])), Passed::All);
        }
        world.pass(Duration::from_secs(1));
    }
    assert!(world.flood(&frame(PING, 0, 0, &[0; 8])) < 200 + 2 * 1_024 + 200);
}

#[test]
fn a_head_may_fill_its_frames_and_more_of_them_are_cut() {
    let mut world = World::new(Side::Accepted);
    for _ in 0..1_000 {
        assert_eq!(world.read(&frame(HEADERS, 0, 1, &[0; 16_384])), Passed::All);
        for _ in 0..4 {
            assert_eq!(world.read(&frame(CONTINUATION, 0, 1, &[0; 16_384])), Passed::All);
        }
        assert_eq!(world.read(&frame(CONTINUATION, 4, 1, &[0; 10])), Passed::All);
    }
    for _ in 0..5 {
        world.read(&frame(CONTINUATION, 0, 1, &[0; 16_384]));
    }
    assert_eq!(world.watch.verdict(), Some(Malformed::Http2Continuation));
}

#[test]
fn heads_in_many_short_pieces_are_cut() {
    let mut world = World::new(Side::Accepted);
    let mut head = frame(HEADERS, 0, 1, &[0x82]);
    for _ in 0..5 {
        head.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    assert_eq!(world.flood(&head), 50);
}

#[test]
fn the_cut_is_at_the_end_of_the_frame_wherever_the_bytes_are_split() {
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]);
    let flood: Vec<u8> = settings.iter().copied().cycle().take(settings.len() * 60).collect();
    let cut = settings.len() * 51;
    for size in [1, 2, 7, 9, 15, 16, 64, flood.len()] {
        let mut world = World::new(Side::Accepted);
        let mut passed = 0;
        for piece in flood.chunks(size) {
            match world.read(piece) {
                Passed::All => passed += piece.len(),
                Passed::Until(at) => {
                    passed += at;
                    break;
                }
            }
        }
        assert_eq!(passed, cut, "in pieces of {size}");
    }
}

#[test]
fn ordinary_traffic_hardly_reads_the_clock() {
    let mut world = World::new(Side::Accepted);
    for _ in 0..10_240 {
        world.read(&frame(HEADERS, 5, 1, &[0x82]));
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(world.looks.get(), 10);
}

#[test]
fn what_the_implementation_refuses_is_read_off_what_it_sends() {
    let code = |code: u8| [0, 0, 0, code];
    let goaway = |reason: u8, words: &[u8]| frame(GOAWAY, 0, 0, &[&[0; 7][..], &[reason], words].concat());
    for (bytes, kinds) in [
        (frame(RST_STREAM, 0, 1, &code(1)), vec![Malformed::Http2Message]),
        (frame(RST_STREAM, 0, 1, &code(7)), vec![Malformed::Http2Streams]),
        (frame(RST_STREAM, 0, 1, &code(8)), vec![]),
        (
            [frame(HEADERS, 5, 3, &[0x88]), frame(RST_STREAM, 0, 3, &code(1))].concat(),
            vec![Malformed::HeadSize],
        ),
        (frame(HEADERS, 5, 3, b"\x48\x03431"), vec![Malformed::HeadSize]),
        (frame(HEADERS, 4, 3, b"\x48\x03431"), vec![]),
        (
            [frame(HEADERS, 5, 3, &[0x48, 0x83, 0x69, 0x90, 0xff]), frame(RST_STREAM, 0, 3, &code(1))]
                .concat(),
            vec![Malformed::HeadSize],
        ),
        (
            [frame(HEADERS, 5, 3, &[0x88]), frame(RST_STREAM, 0, 5, &code(1))].concat(),
            vec![Malformed::Http2Message],
        ),
        (goaway(0, b""), vec![]),
        (goaway(1, b""), vec![Malformed::Http2Framing]),
        (goaway(3, b""), vec![Malformed::Http2Framing]),
        (goaway(11, b"too_many_continuations"), vec![Malformed::Http2Continuation]),
        (goaway(11, b"too_many_data_frames"), vec![Malformed::Http2EmptyData]),
        (goaway(11, b"too_many_resets"), vec![Malformed::Http2Reset]),
        (goaway(11, b"too_many_internal_resets"), vec![Malformed::Http2Message]),
        (goaway(11, b"header_list_way_too_large"), vec![Malformed::HeadSize]),
        // It says goodbye twice when it has an error after it began to drain.
        ([goaway(0, b""), goaway(1, b""), goaway(1, b"")].concat(), vec![Malformed::Http2Framing]),
    ] {
        let mut world = World::new(Side::Accepted);
        let mut seen = Vec::new();
        for byte in &bytes {
            world.watch.sent(&[*byte], |kind| seen.push(kind));
        }
        assert_eq!(seen, kinds, "{bytes:?}");
    }
}

#[test]
fn our_own_last_word_is_a_goaway_that_is_not_counted_again() {
    let mut world = World::new(Side::Accepted);
    world.read(&frame(HEADERS, 5, 7, &[0x82]));
    world.flood(&frame(PING, 0, 0, &[0; 8]));
    let last = crate::http2::goaway(world.watch.last_stream());
    assert_eq!(last[..], frame(GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 11]));
    world.watch.sent(&last, |kind| panic!("{kind:?}"));
    assert!(world.watch.has_said_goaway());
}

//! When what is said: over hours, in floods, while the API server is down.

use weft_injector::{Owner, Reviewed, Skip, Verdict};
use weft_registry::Problem;

use super::*;

fn note(pod: usize) -> Note {
    Note::of_problem(&Problem::error(format!("pod shop/web-{pod}"), "bad")).unwrap()
}

fn skipped(n: usize) -> Note {
    let text = str::to_owned;
    let owner = Owner {
        api_version: text("apps/v1"),
        kind: text("DaemonSet"),
        name: format!("d-{n}"),
        uid: text("u"),
    };
    let reviewed = Reviewed {
        body: Vec::new(),
        namespace: text("shop"),
        pod: String::new(),
        is_named: false,
        owner: Some(owner),
        is_dry_run: false,
        verdict: Verdict::Skipped(Skip::HostNetwork),
    };
    Note::of_review(&reviewed).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

/// Says what may be said at this time; what it was.
fn say(telling: &mut Telling, now: Instant) -> Vec<Note> {
    let next = || {
        let note = telling.next(now)?;
        telling.on_outcome(note.clone(), Outcome::Done, now);
        Some(note)
    };
    std::iter::from_fn(next).collect()
}

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn a_problem_that_lasts_is_said_once() {
    let start = Instant::now();
    let mut telling = Telling::new(start);
    for hours in 0..5 {
        let now = at(start, hours * 3600);
        telling.on_problems([note(1)].into_iter(), now);
        assert_eq!(say(&mut telling, now).len(), usize::from(hours == 0), "after {hours} h");
    }
    telling.on_problems([note(1), note(2)].into_iter(), at(start, 5 * 3600));
    assert_eq!(say(&mut telling, at(start, 5 * 3600)), [note(2)]);
}

#[test]
fn one_that_comes_back_is_said_again_but_not_within_the_hour() {
    let start = Instant::now();
    let mut telling = Telling::new(start);
    let mut seen = |seconds: u64, is_there: bool| {
        let now = at(start, seconds);
        telling.on_problems(is_there.then(|| note(1)).into_iter(), now);
        say(&mut telling, now).len()
    };
    assert_eq!(seen(0, true), 1);
    assert_eq!(seen(10, false) + seen(20, true), 0, "it flaps");
    assert_eq!(seen(3000, false) + seen(3700, true), 1);
    assert_eq!(seen(3800, false) + seen(7200, true), 0, "an hour after the last time, not the first");
}

#[test]
fn one_that_is_over_before_its_turn_is_not_said() {
    let start = Instant::now();
    let mut telling = Telling::new(start);
    telling.on_problems([note(1), note(2)].into_iter(), start);
    telling.on_problems([note(2)].into_iter(), start);
    assert_eq!(say(&mut telling, start), [note(2)]);
    telling.on_problems([note(1), note(2)].into_iter(), start);
    assert_eq!(say(&mut telling, start), [note(1)], "it had not been said");
}

#[test]
fn fifty_are_said_at_once_and_then_five_a_second() {
    let start = Instant::now();
    let mut telling = Telling::new(start);
    telling.on_problems((0..200).map(note), start);
    assert_eq!(say(&mut telling, start).len(), 50);
    assert_eq!(telling.due(start), Some(start + LOOK_AGAIN));
    assert_eq!(say(&mut telling, start + SECOND).len(), 5);
    assert_eq!(say(&mut telling, at(start, 3)).len(), 10);
}

#[test]
fn what_finds_no_room_is_said_when_there_is_some() {
    let start = Instant::now();
    let (mut telling, all) = (Telling::new(start), 3 * MOST_WAITING + 7);
    let (mut said, mut now) = (HashSet::new(), start);
    telling.on_problems((0..all).map(note), now);
    for _ in 0..2000 {
        for note in say(&mut telling, now) {
            assert!(said.insert(note.key()), "{note:?} is said twice");
        }
        assert!(telling.waiting.len() <= MOST_WAITING);
        if telling.wants_problems() {
            telling.on_problems((0..all).map(note), now);
        }
        now += SECOND;
    }
    assert_eq!(said.len(), all);
    assert_eq!(telling.due(now), None);
}

#[test]
fn an_api_server_that_is_down_is_asked_ever_less_often_and_nothing_is_lost() {
    let start = Instant::now();
    let (mut telling, mut now, mut tries) = (Telling::new(start), start, 0);
    telling.on_problems([note(1), note(2)].into_iter(), now);
    while now < at(start, 600) {
        while let Some(note) = telling.next(now) {
            tries += 1;
            telling.on_outcome(note, Outcome::NotNow, now);
        }
        now = telling.due(now).unwrap();
    }
    assert!((10..20).contains(&tries), "{tries} in ten minutes");
    assert_eq!(say(&mut telling, now).len(), 2);
    telling.on_problems([note(1), note(2), note(3)].into_iter(), now);
    let again = telling.next(now).unwrap();
    telling.on_outcome(again, Outcome::NotNow, now);
    assert_eq!(telling.due(now), Some(now + SHORTEST_PAUSE), "pauses begin anew");
}

#[test]
fn a_refusal_is_tried_again_every_ten_minutes() {
    let start = Instant::now();
    let (mut telling, mut now, mut tries) = (Telling::new(start), start, 0);
    telling.on_problems((0..500).map(note), now);
    while now < at(start, 3600) {
        while let Some(note) = telling.next(now) {
            tries += 1;
            telling.on_outcome(note, Outcome::Refused, now);
        }
        now = telling.due(now).unwrap();
    }
    assert_eq!(tries, 6);
}

#[test]
fn a_controllers_pods_are_one_note_an_hour_said_when_the_first_is_there() {
    let start = Instant::now();
    let mut telling = Telling::new(start);
    (0..100).for_each(|_| telling.on_skipped(skipped(1), start));
    assert_eq!(say(&mut telling, start), []);
    assert_eq!(telling.due(start), Some(start + UNTIL_MADE));
    assert_eq!(say(&mut telling, start + UNTIL_MADE), [skipped(1)]);
    telling.on_skipped(skipped(1), at(start, 3599));
    assert_eq!(telling.due(at(start, 3599)), None);
    telling.on_skipped(skipped(1), at(start, 3601));
    assert_eq!(say(&mut telling, at(start, 3603)), [skipped(1)]);
}

#[test]
fn who_makes_up_reviews_takes_no_turn_from_problems_and_no_memory() {
    let start = Instant::now();
    let mut telling = Telling::new(start);
    let mut said = 0;
    for second in 0..10_000 {
        let now = at(start, second);
        (0..3).for_each(|n| {
            telling.on_skipped(skipped(usize::try_from(second).unwrap() * 3 + n), now);
        });
        said += say(&mut telling, now).len();
        assert!(telling.skipped.len() <= MOST_SKIPPED && telling.reviewed.len() <= MOST_REVIEWED);
    }
    assert!(said <= 10_010, "{said}");
    let now = at(start, 10_000);
    telling.on_problems((0..5).map(note), now);
    let first: Vec<_> = say(&mut telling, now).into_iter().take(5).collect();
    assert_eq!(first, (0..5).map(note).collect::<Vec<_>>());
}

//! Many seeds, each a history of its own. `WEFT_SIM_SEEDS` says how many (`cargo xtask test` says 10,000), `WEFT_SIM_FIRST`
//! from which on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is asked for by variables"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use weft_simulation::{Plan, Trace, run, shrink};

#[test]
fn whatever_goes_wrong_the_invariants_hold() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
    };
    let (first, count) = (number("WEFT_SIM_FIRST", 0), number("WEFT_SIM_SEEDS", 1_000));
    let (next, start) = (AtomicU64::new(first), Instant::now());
    let failed = std::thread::scope(|scope| {
        let shard = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return None;
                }
                if let Err(violation) = run(&Plan::of(seed), Trace::Off) {
                    next.store(first + count, Ordering::Relaxed);
                    return Some((seed, violation));
                }
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards: Vec<_> = (0..cores).map(|_| scope.spawn(shard)).collect();
        shards.into_iter().filter_map(|shard| shard.join().unwrap()).min_by_key(|(seed, _)| *seed)
    });
    println!("{count} seeds from {first} on in {:.1} s", start.elapsed().as_secs_f64());
    if let Some((seed, violation)) = failed {
        let smaller = shrink(&Plan::of(seed), 100);
        panic!(
            "seed {seed}: {violation}\n  cargo xtask simulate --seed {seed}\n  smaller: cargo xtask simulate {smaller}"
        );
    }
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let figures = [(); 2].map(|()| format!("{:?}", run(&Plan::of(seed), Trace::Off)));
        assert_eq!(figures[0], figures[1], "seed {seed}");
    }
}

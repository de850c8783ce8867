//! The concurrent parts, run under schedules that an explorer chooses.
//!
//! A scenario is one small run of the whole: a cache over a scripted origin, and clients, each a task. Wherever a task
//! takes a lock, wakes another or waits, [shuttle] chooses who goes on. After every schedule the same is asked:
//! no task waits for ever (shuttle sees that), every answer is right and whole or says that it is not, the origin was
//! called no more often than the scenario allows, and nothing is left over ([`World::settle`]).
//!
//! How to run more schedules, or one again: docs/ARCHITECTURE.md, "How the concurrent parts are explored".

mod changing;
mod collapsing;
mod desk;
mod leases;
mod nodes;
mod origin;
mod passing;
mod purging;
mod remote;
mod slices;
mod stores;
mod streaming;
mod tiers;
mod world;

use std::cell::Cell;
use std::sync::Once;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::runtime;

/// How many schedules a scenario is run under, when `LARDER_SCHEDULES` does not say; about half of them over a slow store.
const SCHEDULES: usize = 20_000;
/// A schedule that is longer than this does not end.
const MOST_STEPS: usize = 100_000;
/// How often the other half of the schedules (PCT) lets a task overtake. Most faults need one or two.
const DEPTH: usize = 3;

/// Runs a scenario under many schedules, or under the one in `LARDER_SCHEDULE`.
fn explore<F>(scenario: impl Fn() -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = ()>,
{
    if let Ok(schedule) = std::env::var("LARDER_SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), scenario);
    }
    let schedules = std::env::var("LARDER_SCHEDULES").map_or(SCHEDULES, |count| {
        count.parse().expect("LARDER_SCHEDULES is the number of schedules for each scenario")
    });
    run(RandomScheduler::new(schedules.div_ceil(2)), scenario.clone());
    run(PctScheduler::new(DEPTH, schedules / 2), scenario);
}

fn run<F>(scheduler: impl Scheduler + 'static, scenario: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = ()>,
{
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    watch_for_panics();
    Runner::new(scheduler, config).run(move || {
        runtime::begin();
        HAS_PANICKED.set(false);
        shuttle::future::block_on(scenario());
    });
}

std::thread_local! {
    /// Whether there was a panic in this schedule that nobody scripted: the code under test catches some.
    static HAS_PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// The script's own faults unwind without a call of the hook.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            HAS_PANICKED.set(true);
            before(panic);
        }));
    });
}

/// A number that the schedule chooses.
fn below(end: usize) -> usize {
    thread_rng().gen_range(0..end)
}

/// One of several that the schedule chooses.
fn one_of<T: Copy>(choices: &[T]) -> T {
    choices[below(choices.len())]
}

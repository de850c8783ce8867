//! What goes wrong, in which calls, and when.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::call::StoreCall;
use crate::error::StoreError;
use crate::runtime::{self, Mutex};

/// Something that goes wrong in calls of a store: in all of them, unless it says otherwise.
///
/// ```
/// use larder::store::chaos::{Fault, StoreCall};
/// use std::time::Duration;
/// // Every tenth look-up takes a second.
/// let slow = Fault::delay(Duration::from_secs(1)).in_calls([StoreCall::Get]).every(10);
/// // The first two purges have their effect, and nobody learns of it.
/// let lost = Fault::error().in_calls([StoreCall::Invalidate]).after_effect().times(2);
/// # let _ = (slow, lost);
/// ```
#[derive(Clone)]
pub struct Fault {
    calls: Option<Vec<StoreCall>>,
    effect: Effect,
    every: u64,
    is_after: bool,
    probability: f64,
    skip: u64,
    times: u64,
    when: Option<Arc<dyn Fn(StoreCall, u64) -> bool + Send + Sync>>,
}

#[derive(Clone)]
enum Effect {
    Delay(Duration),
    Error,
    Gate(Gate),
    Hang,
    Turns(RangeInclusive<u64>),
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self {
            calls: None,
            effect,
            every: 1,
            is_after: false,
            probability: 1.0,
            skip: 0,
            times: u64::MAX,
            when: None,
        }
    }

    /// A call takes longer, by tokio's clock: a test that stops that (`start_paused`) waits for nothing. In a runtime without timers,
    /// the call fails.
    pub fn delay(time: Duration) -> Self {
        Self::new(Effect::Delay(time))
    }

    /// A call fails.
    pub fn error() -> Self {
        Self::new(Effect::Error)
    }

    /// A call waits until the gate lets it go on.
    pub fn gate(gate: &Gate) -> Self {
        Self::new(Effect::Gate(gate.clone()))
    }

    /// A call never returns.
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// A call lets the other tasks take so many turns, by the script's seed.
    pub fn turns(turns: RangeInclusive<u64>) -> Self {
        Self::new(Effect::Turns(turns))
    }

    /// It comes when the call has had its effect in the store, which the caller does not know yet, or never learns of. By default, it
    /// comes before, and an error replaces the call.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.is_after = true;
        self
    }

    /// It comes in each `nth` call of those that it concerns, the first one included.
    #[must_use]
    pub fn every(mut self, nth: u64) -> Self {
        self.every = nth.max(1);
        self
    }

    /// It concerns these calls.
    #[must_use]
    pub fn in_calls(mut self, calls: impl IntoIterator<Item = StoreCall>) -> Self {
        self.calls = Some(calls.into_iter().collect());
        self
    }

    /// It leaves out the first of the calls that it concerns.
    #[must_use]
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// It comes no more often than that.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// It concerns the calls of which this is true: it is asked with the call, and with how many calls of its kind there were before.
    #[must_use]
    pub fn when(mut self, concerns: impl Fn(StoreCall, u64) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(concerns));
        self
    }

    /// It comes in this share of the calls (0.0 to 1.0), by the script's seed: the same calls in each run.
    #[must_use]
    pub fn with_probability(mut self, share: f64) -> Self {
        self.probability = share;
        self
    }

    fn concerns(&self, call: StoreCall, number: u64) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(&call))
            && self.when.as_ref().is_none_or(|concerns| concerns(call, number))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match &self.effect {
            Effect::Delay(time) => format!("delay {time:?}"),
            Effect::Error => "error".to_owned(),
            Effect::Gate(_) => "gate".to_owned(),
            Effect::Hang => "hang".to_owned(),
            Effect::Turns(turns) => format!("turns {turns:?}"),
        };
        f.debug_struct("Fault").field("effect", &effect).field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Where calls wait until a test lets them go on. Clones are the same gate. A new one is closed.
#[derive(Clone, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Default)]
struct GateState {
    arrived: AtomicUsize,
    has_moved: Notify,
    passes: Mutex<Passes>,
}

#[derive(Default)]
struct Passes {
    is_open: bool,
    left: usize,
}

impl Gate {
    /// A closed one.
    pub fn closed() -> Self {
        Self::default()
    }

    /// Lets all calls pass from now on.
    pub fn open(&self) {
        self.change(|passes| passes.is_open = true);
    }

    /// Lets no more calls pass.
    pub fn close(&self) {
        self.change(|passes| *passes = Passes::default());
    }

    /// Lets so many calls pass: those that wait first.
    pub fn pass(&self, calls: usize) {
        self.change(|passes| passes.left += calls);
    }

    /// How many calls have come to the gate so far.
    pub fn arrived(&self) -> usize {
        self.0.arrived.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Passes)) {
        change(&mut runtime::lock(&self.0.passes));
        self.0.has_moved.notify_waiters();
    }

    async fn wait(&self) {
        self.0.arrived.fetch_add(1, Ordering::SeqCst);
        loop {
            let moves = self.0.has_moved.notified();
            {
                let mut passes = runtime::lock(&self.0.passes);
                if passes.is_open {
                    return;
                }
                if passes.left > 0 {
                    passes.left -= 1;
                    return;
                }
            }
            moves.await;
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("arrived", &self.arrived()).finish_non_exhaustive()
    }
}

/// The script of a [`ChaosStore`](super::ChaosStore), and what has been called so far. Clones are the same script.
#[derive(Clone, Default)]
pub struct Chaos(Arc<State>);

#[derive(Default)]
struct State {
    faults: Mutex<Vec<Active>>,
    calls: Mutex<HashMap<StoreCall, u64>>,
    seed: u64,
    under_way: AtomicUsize,
}

/// A fault, and how often it could have come and has come.
struct Active {
    concerned: u64,
    fault: Fault,
    struck: u64,
}

/// What comes in one call.
pub(super) struct Strikes {
    call: StoreCall,
    effects: Vec<(Effect, bool, u64)>,
}

impl Chaos {
    /// A script in which nothing goes wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another seed, which decides where a script leaves something to chance. The default is 0.
    pub fn with_seed(seed: u64) -> Self {
        Self(Arc::new(State { seed, ..State::default() }))
    }

    /// Adds a fault. Faults of one call come one after another, in the order in which they were added.
    pub fn add(&self, fault: Fault) {
        runtime::lock(&self.0.faults).push(Active { concerned: 0, fault, struck: 0 });
    }

    /// Ends all faults, for calls that begin from now on.
    pub fn clear(&self) {
        runtime::lock(&self.0.faults).clear();
    }

    /// How often the store was asked to do this.
    pub fn calls(&self, call: StoreCall) -> u64 {
        runtime::lock(&self.0.calls).get(&call).copied().unwrap_or_default()
    }

    /// How many calls have begun and not returned; a call whose future is dropped has ended.
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::SeqCst)
    }

    /// What comes in a call that begins now.
    fn strikes(&self, call: StoreCall) -> Strikes {
        let number = {
            let mut calls = runtime::lock(&self.0.calls);
            let number = calls.entry(call).or_default();
            *number += 1;
            *number - 1
        };
        let mut effects = Vec::new();
        for (place, active) in runtime::lock(&self.0.faults).iter_mut().enumerate() {
            let Active { concerned, fault, struck } = active;
            if !fault.concerns(call, number) {
                continue;
            }
            *concerned += 1;
            let Some(after) = (*concerned - 1).checked_sub(fault.skip) else {
                continue;
            };
            let chance = chance(self.0.seed, place as u64, *concerned);
            #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
            let is_hit = (chance >> 11) as f64 / ((1_u64 << 53) as f64) < fault.probability;
            if is_hit && after.is_multiple_of(fault.every) && *struck < fault.times {
                *struck += 1;
                effects.push((fault.effect.clone(), fault.is_after, chance));
            }
        }
        Strikes { call, effects }
    }

    /// Makes a call, in which what the script says goes wrong.
    pub(super) async fn during<T>(
        &self,
        call: StoreCall,
        of_store: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _under_way = UnderWay::new(self);
        let strikes = self.strikes(call);
        strikes.come(false).await?;
        let output = of_store.await;
        strikes.come(true).await?;
        output
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").field("seed", &self.0.seed).finish_non_exhaustive()
    }
}

impl Strikes {
    async fn come(&self, after: bool) -> Result<(), StoreError> {
        for (effect, _, chance) in self.effects.iter().filter(|(_, is_after, _)| *is_after == after) {
            match effect {
                Effect::Delay(time) => {
                    if !runtime::pause(*time).await {
                        let error = "its script has it wait, and there are no timers";
                        return Err(StoreError::new(self.call.action(), error));
                    }
                }
                Effect::Error => {
                    return Err(StoreError::new(self.call.action(), "its script says so"));
                }
                Effect::Gate(gate) => gate.wait().await,
                Effect::Hang => std::future::pending().await,
                Effect::Turns(turns) => {
                    let most = turns.end().saturating_sub(*turns.start()).saturating_add(1);
                    for _ in 0..turns.start() + chance % most {
                        runtime::yield_now().await;
                    }
                }
            }
        }
        Ok(())
    }
}

struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(chaos: &'a Chaos) -> Self {
        chaos.0.under_way.fetch_add(1, Ordering::SeqCst);
        Self(&chaos.0.under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A number that these three decide (SplitMix64).
fn chance(seed: u64, place: u64, turn: u64) -> u64 {
    let mixed = [seed, place, turn].into_iter().fold(0_u64, |mixed, number| {
        let mixed = (mixed ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    });
    mixed ^ (mixed >> 31)
}

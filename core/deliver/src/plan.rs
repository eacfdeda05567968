//! From a next hop to hosts: asked of the resolver, kept for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use waypost_resolve::{Plan, Resolver};
use waypost_route::NextHop;
use waypost_types::{Reply, Task};

/// Whoever knows which hosts take the mail of a next hop. An error is the reply to settle with.
pub trait Planner: Send + Sync + 'static {
    /// The hosts, best first.
    fn plan<'a>(&'a self, next_hop: &'a NextHop) -> Task<'a, Result<Plan, Reply>>;
}

impl Planner for Resolver {
    fn plan<'a>(&'a self, next_hop: &'a NextHop) -> Task<'a, Result<Plan, Reply>> {
        Box::pin(Resolver::plan(self, next_hop))
    }
}

/// How long a plan is used again without asking. The resolver keeps answers as long as DNS allows; this only spares busy next hops the way
/// there, and is short enough that hosts of equal preference still share the load.
const KEEP: Duration = Duration::from_secs(5);
/// Plans kept at once.
const PLANS_MAX: usize = 4096;

/// Plans of the next hops in use.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    kept: Mutex<HashMap<NextHop, (Instant, Arc<Plan>), ahash::RandomState>>,
}

impl Plans {
    /// The plan, if it was asked for a moment ago.
    pub(crate) fn recent(&self, next_hop: &NextHop, now: Instant) -> Option<Arc<Plan>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(next_hop).filter(|(until, _)| now < *until).map(|(_, plan)| plan.clone())
    }

    /// Keeps a plan.
    pub(crate) fn keep(&self, next_hop: NextHop, plan: Arc<Plan>, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PLANS_MAX {
            kept.retain(|_, (until, _)| now < *until);
        }
        if kept.len() >= PLANS_MAX {
            kept.clear();
        }
        kept.insert(next_hop, (now + KEEP, plan));
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

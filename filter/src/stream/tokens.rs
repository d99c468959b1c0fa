//! The tokens of a pick: some that this worker has taken in advance, else some of the bucket that all
//! workers share, and with them those for the requests that follow.

use std::rc::Rc;

use super::arrival::{Record, Replace};
use crate::balance::route::{Decision, Facts, Plan};
use crate::cluster::quota::Quota;

/// Whether a decision that was made of buckets as they were seen a while ago holds: nobody was passed by,
/// and the tokens are there. Where somebody was, the buckets are read at once from then on.
pub(super) fn suffice(decision: &Decision, facts: &Facts<'_>) -> bool {
    match decision {
        Decision::Forward(plan) if !plan.deferred => {
            let is_there = |quota: &Quota| quota.missing(facts.buckets.cost()) == 0;
            plan.quota(facts).is_none_or(is_there)
        }
        _ => {
            facts.cluster.buckets_seen.replace(None);
            false
        }
    }
}

/// Takes the tokens. `Some`: another worker was faster, and what stands in the record now.
pub(super) fn take(
    plan: &Plan,
    facts: &Facts<'_>,
    workers: u32,
    replace: &mut Replace<'_>,
) -> Option<Vec<u8>> {
    let quota = plan.quota(facts)?;
    let missing = quota.missing(facts.buckets.cost());
    if missing == 0 {
        quota.spend(facts.buckets.cost());
        return None;
    }
    let buckets = facts.buckets.at_cost(missing);
    let ahead = buckets.ahead(quota, workers);
    let record = buckets.at_cost(missing.saturating_add(ahead)).take(quota);
    let newer = replace(Record::Buckets, &record);
    if newer.is_none() {
        quota.ahead.set(ahead);
        if ahead > 0 {
            facts.cluster.buckets_seen.replace(Some(Rc::new(record)));
        }
    }
    newer
}

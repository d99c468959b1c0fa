//! Stories that judge how long something takes, or use a machine whole: `make test-e2e` runs them
//! after all others, one at a time. One whose times are mere deadlines belongs elsewhere.

mod endurance;
mod exchange;
mod failing;
mod flips;
mod rates;
mod renewals;
mod restarts;
mod roles;
mod route_policies;
mod slow_backends;
mod traps;

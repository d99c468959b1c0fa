//! No host makes the module trap, loop for ever or break the host's rules: random sequences of
//! callbacks around a host that answers oddly. `HOSTILE_SEED=<n>` replays one of them.

mod chance;
mod documents;
mod meddler;
mod records;
mod script;

use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use anyhow::{Context, Result, ensure};
use harness::artefacts;
use harness::vm::Program;

/// Seeds from 0 on.
const SEQUENCES: u64 = 10_000;
/// Least often that the sequences must get to each part of the code.
const REACHED_MIN: u64 = 50;
const VARIABLE: &str = "HOSTILE_SEED";

#[test]
fn no_host_makes_the_module_trap() -> Result<()> {
    let program = Program::load(&artefacts::module()?)?;
    if let Ok(seed) = env::var(VARIABLE) {
        let seed = seed.parse().with_context(|| format!("{VARIABLE}={seed}"))?;
        return script::run(&program, seed, true).map(drop);
    }
    let next = AtomicU64::new(0);
    let work = || -> Result<script::Reached> {
        let mut reached = script::Reached::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEQUENCES {
                return Ok(reached);
            }
            let one = script::run(&program, seed, false).inspect_err(|_| {
                next.store(SEQUENCES, Ordering::Relaxed);
                eprintln!("replay it with {VARIABLE}={seed}");
            });
            reached.add(&one?);
        }
    };
    let mut reached = script::Reached::default();
    thread::scope(|scope| -> Result<()> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let ended = worker.join().map_err(|_| anyhow::anyhow!("a panic"))?;
            reached.add(&ended?);
        }
        Ok(())
    })?;
    println!("{reached:?}");
    // Hostility that turns everything away at the door would prove nothing of what lies behind.
    ensure!(
        reached.least() >= REACHED_MIN,
        "the sequences hardly reach some of the module's code: {reached:?}"
    );
    Ok(())
}

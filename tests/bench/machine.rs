//! Cores and CPU time, as Linux tells them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The cores that are used: one is Envoy's alone, one the picker's of `ext_proc` where there are three,
/// everything else shares the other.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Envoy's.
    pub envoy: usize,
    /// The load's, the backends', the sidecar's and this process's.
    pub others: usize,
    /// That of `ext_proc`'s picker alone; where there is none it shares the others', and takes time from
    /// the load: its latencies say nothing.
    pub picker: Option<usize>,
}

impl Cores {
    /// The last two that this process may use; fails where there is only one.
    pub fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let is_allowed = |core: &usize| allowed.is_set(*core).unwrap_or(false);
        let cores: Vec<usize> = (0..CpuSet::count()).filter(is_allowed).collect();
        ensure!(
            cores.len() >= 2,
            "two cores are needed, one for Envoy alone"
        );
        Ok(Cores {
            envoy: cores[cores.len() - 2],
            others: cores[cores.len() - 1],
            picker: cores.len().checked_sub(3).map(|place| cores[place]),
        })
    }
}

/// Keeps every thread of a process, and those that they start later, on one core.
pub fn pin(pid: i32, core: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = task?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(thread), &only)
            .with_context(|| format!("cannot pin process {pid} to core {core}"))?;
    }
    Ok(())
}

/// Lets this thread, and what it starts from now on, run on both cores.
pub fn spread(cores: Cores) -> Result<()> {
    let mut both = CpuSet::new();
    both.set(cores.envoy)?;
    both.set(cores.others)?;
    sched_setaffinity(Pid::from_raw(0), &both).context("cannot leave the core")
}

/// CPU time of a process, user and system, all threads, to the nanosecond.
pub fn cpu_of(pid: i32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid))?;
    Ok(clock_gettime(clock)?.into())
}

/// CPU time of the threads of a process whose names begin so.
pub fn cpu_of_threads(pid: i32, prefix: &str) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !fs::read_to_string(task.join("comm"))?.starts_with(prefix) {
            continue;
        }
        let stat = fs::read_to_string(task.join("schedstat"))?;
        let nanos = stat.split_whitespace().next().context("empty schedstat")?;
        total += Duration::from_nanos(nanos.parse()?);
    }
    Ok(total)
}

/// Time in which one core was busy, stolen time included; counted in ticks of 10 ms.
pub fn busy(core: usize) -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let prefix = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&prefix));
    let fields: Vec<u64> = line
        .context("the core is not in /proc/stat")?
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // user nice system idle iowait irq softirq steal
    let ticks: u64 = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|i| fields.get(*i))
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// What the figures were measured on, for the report.
pub fn describe(cores: Cores) -> serde_json::Value {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    serde_json::json!({
        "cpu": model,
        // The machine's: this process has left all but one.
        "cores": info.lines().filter(|line| line.starts_with("processor")).count(),
        "envoyCore": cores.envoy,
        "otherCore": cores.others,
        "pickerCore": cores.picker,
        "kernel": kernel.trim(),
    })
}

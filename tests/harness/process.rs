//! One child process: its log, its signals, its end.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::{eventually, slowness};

/// How much of a log an error message quotes.
const LOG_TAIL_LINES: usize = 15;
const FREEZE_DEADLINE: Duration = Duration::from_secs(5);

/// A running child; dropping it kills it (SIGKILL) and waits for its end.
///
/// The kernel kills it too when this process dies without a word.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    /// The signal by which this harness has asked it to end.
    asked: Mutex<Option<Signal>>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, both its outputs appended to the file `log`.
    pub fn start(command: Command, log: &Path) -> Result<Self> {
        Self::start_with(command, Stdio::null(), log, log)
    }

    /// The same with an input, and with outputs of their own; `errors` is the log.
    pub fn start_with(
        mut command: Command,
        input: Stdio,
        output: &Path,
        errors: &Path,
    ) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        command
            .stdin(input)
            .stdout(open(output)?)
            .stderr(open(errors)?);
        let child = spawn(command).with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Process {
            name,
            pid,
            child: Mutex::new(child),
            asked: Mutex::new(None),
            log: errors.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The lines of its log that tell of a panic in Rust code.
    pub fn panics(&self) -> Vec<String> {
        let log = self.log();
        let told = log.lines().filter(|line| line.contains("panicked at"));
        told.map(str::to_owned).collect()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of its log, for error messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Sends a signal; SIGCONT ends a [`Process::freeze`], SIGTERM asks for the end.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if signal == Signal::SIGTERM {
            self.ask(signal);
        }
        signal::kill(self.pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// SIGSTOP, and waits until none of its threads runs any more.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        eventually(FREEZE_DEADLINE, "every thread to stop", async || {
            for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
                let stat = fs::read_to_string(task?.path().join("stat"))?;
                let (_, state) = stat
                    .rsplit_once(") ")
                    .context("no name in the task's stat")?;
                ensure!(state.starts_with('T'), "a thread is in state {:.1}", state);
            }
            Ok(())
        })
        .await
    }

    /// Whether a [`Process::freeze`] holds it.
    pub fn is_frozen(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('T'))
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        // An error means that somebody else has waited for it: it is gone.
        self.child()
            .try_wait()
            .unwrap_or_else(|_| Some(ExitStatus::from_raw(0)))
    }

    /// Fails, with the end of the log, when it no longer runs.
    pub fn ensure_running(&self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}):\n{}", self.name, self.log_tail()),
        }
    }

    /// Waits until it has ended by itself.
    pub async fn exit(&self, deadline: Duration) -> Result<ExitStatus> {
        eventually(deadline, &format!("the end of {}", self.name), async || {
            self.ended()
                .ok_or_else(|| anyhow!("it runs; its log ends:\n{}", self.log_tail()))
        })
        .await
    }

    /// Fails, with the end of the log, when it has ended unasked, or by a crash or with an error
    /// when it was asked.
    pub fn ensure_good_end(&self) -> Result<()> {
        let Some(status) = self.ended() else {
            return Ok(());
        };
        let asked = *self.asked();
        let how = match asked {
            Some(_) if status.success() => return Ok(()),
            Some(Signal::SIGKILL) if status.signal() == Some(Signal::SIGKILL as i32) => {
                return Ok(());
            }
            Some(_) => "badly",
            None => "by itself",
        };
        bail!(
            "{} has ended {how} ({status}):\n{}",
            self.name,
            self.log_tail()
        )
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.ask(Signal::SIGKILL);
        let mut child = self.child();
        // Both fail only when it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// CPU time it has used, user and system; in the kernel's ticks of 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in brackets may hold blanks; fields 14 and 15 count from before it.
        let (_, rest) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let ticks = |field: usize| -> Result<u64> {
            let text = rest
                .split_whitespace()
                .nth(field - 3)
                .context("short /proc/PID/stat")?;
            Ok(text.parse()?)
        };
        Ok(Duration::from_millis(10 * (ticks(14)? + ticks(15)?)))
    }

    /// CPU time it uses from now on for this long.
    pub async fn cpu_during(&self, period: Duration) -> Result<Duration> {
        let before = self.cpu()?;
        slowness(period).await;
        Ok(self.cpu()?.saturating_sub(before))
    }

    /// Its resident memory, bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// Notes what its end is to be; one that has ended already was not asked.
    fn ask(&self, signal: Signal) {
        if self.ended().is_none() {
            *self.asked() = Some(signal);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Option<Signal>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Spawns from one thread that lives as long as this process: the kernel's death signal comes
/// when the spawning *thread* ends, and the threads of tests and runtimes end early.
fn spawn(command: Command) -> Result<Child> {
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (command, answer) in received {
                // Nobody waits for the answer only when the test has just been aborted.
                let _ = answer.send(spawn_here(command));
            }
        });
        orders
    });
    let (answer, answered) = mpsc::sync_channel(1);
    orders
        .send((command, answer))
        .map_err(|_| anyhow!("the spawning thread has ended"))?;
    Ok(answered.recv()??)
}

fn spawn_here(mut command: Command) -> io::Result<Child> {
    // A group of its own: Ctrl-C is for whoever started it, who then ends it in good order.
    command.process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    command.spawn()
}

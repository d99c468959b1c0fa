//! `pointsman serve`: every setting as a flag.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::report::{Report, wrong_usage};
use crate::app;
use crate::settings::{BOOL, LogFormat, SETTINGS, Setting, Settings};
use crate::telemetry::counts::EventCounts;
use crate::telemetry::lines;

const VALIDATE: &str = "validate-config";
/// The Kubernetes library reports each attempt to connect; we say once that the store is away.
const LOGGED: &str = "info,kube_client=off,kube_runtime=off";

/// Every setting as a flag; a flag wins over its variables, and an empty value counts as none.
pub struct ServeFlags {
    validate_config: bool,
    /// By flag.
    values: BTreeMap<&'static str, OsString>,
}

/// A flag's name without the dashes.
fn id(flag: &'static str) -> &'static str {
    flag.trim_start_matches('-')
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = format!("{} [env: {}=]", setting.help, setting.variables.join("=, "));
    if !setting.default.is_empty() {
        help = format!("{help} [default: {}]", setting.default);
    }
    let argument = Arg::new(id(setting.flag))
        .long(id(setting.flag))
        .value_name(setting.value)
        .value_parser(value_parser!(OsString))
        .help(help);
    match setting.value {
        BOOL => argument.num_args(0..=1).default_missing_value("true"),
        _ => argument,
    }
}

impl Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        let validate = Arg::new(VALIDATE)
            .long(VALIDATE)
            .action(ArgAction::SetTrue)
            .help("Check the settings and the registry, and end: 0 when all is well, else 1");
        command
            .arg(validate)
            .args(SETTINGS.iter().map(|setting| argument(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = SETTINGS.iter().filter_map(|setting| {
            let value = matches.get_one::<OsString>(id(setting.flag))?;
            Some((setting.flag, value.clone()))
        });
        Ok(ServeFlags {
            validate_config: matches.get_flag(VALIDATE),
            values: values.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs the sidecar, or only checks what it would start with.
pub fn run(flags: &ServeFlags) -> ExitCode {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("pointsman.wasm")));
    let settings = match Settings::parse(
        |flag| flags.values.get(flag).cloned(),
        |name| std::env::var_os(name),
        beside,
    ) {
        Ok(settings) => settings,
        Err(errors) if flags.validate_config => return Report::failed(errors).finish(),
        Err(errors) => return wrong_usage(&format!("{errors}\n")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Report::failed(format!("cannot start the runtime: {error}")).finish();
        }
    };
    if flags.validate_config {
        return match runtime.block_on(app::validate(&settings)) {
            Ok(line) => Report::done(line).finish(),
            Err(error) => Report::failed(format!("{error:#}")).finish(),
        };
    }
    let counts = EventCounts::default();
    start_logging(settings.log_format, counts.clone());
    let stop = CancellationToken::new();
    let outcome = runtime.block_on(app::serve(settings, counts, stop));
    // What a stage left behind on a blocking thread must not hold the exit up.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "sidecar_failed", "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr: unless a setting says how, lines for people where it is a terminal, JSON elsewhere.
/// What is not written for its level is counted all the same.
fn start_logging(format: Option<LogFormat>, counts: EventCounts) {
    let format = format.unwrap_or_else(|| match std::io::stderr().is_terminal() {
        true => LogFormat::Text,
        false => LogFormat::Json,
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    // A closed stderr must not end the process, so the layer may not report its own trouble.
    let text = fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let lines_of = match format {
        LogFormat::Text => text.boxed(),
        LogFormat::Json => text.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(lines_of.with_filter(filter))
        .with(lines::counted(counts));
    subscriber.init();
}

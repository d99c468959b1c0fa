//! What is promised, case by case.

mod registry;

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn parse(given: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
    let of = |wanted: &str| {
        let found = given.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| OsString::from(value))
    };
    Settings::parse(of, of, Some("beside.wasm".into()))
}

/// The settings that a demo needs, and more.
fn demo<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [
        &[("DEMO_MODE", "true"), ("POINTSMAN_DEMO_FILE", "c.yaml")],
        more,
    ]
    .concat()
}

fn demo_file(settings: &Settings) -> PathBuf {
    match &settings.registry {
        RegistrySettings::Demo(file) => file.clone(),
        _ => panic!("not a demo"),
    }
}

fn errors(given: &[(&str, &str)]) -> Vec<String> {
    parse(given).err().map_or_else(Vec::new, |errors| errors.0)
}

#[test]
fn defaults() {
    let settings = parse(&demo(&[])).ok().unwrap();
    assert_eq!(demo_file(&settings), PathBuf::from("c.yaml"));
    assert_eq!(settings.environment, "development");
    assert_eq!(
        settings.xds_listen,
        Listen::Tcp("127.0.0.1:18000".parse().unwrap())
    );
    assert_eq!(settings.admin_listen, "127.0.0.1:18080".parse().unwrap());
    assert_eq!(settings.module, Module::Inline("beside.wasm".into()));
    assert_eq!(settings.verdict_ttl, Duration::from_secs(30));
    assert_eq!(settings.shutdown_grace, Duration::from_secs(30));
    assert!(settings.xds_token.is_none() && settings.admin_token.is_none());
    assert!(settings.ports_file.is_none());
}

#[test]
fn flags_win_and_empty_is_unset() {
    let given = demo(&[
        ("--demo-file", "flag.toml"),
        ("--demo-mode", ""),
        ("POINTSMAN_XDS_LISTEN", "unix:/run/x.sock"),
        ("POINTSMAN_WASM", "/etc/envoy/f.wasm"),
        ("POINTSMAN_XDS_TOKEN", ""),
        ("--admin-token", "word"),
        ("--admin-listen", "0.0.0.0:0"),
        ("POINTSMAN_METRICS_LISTEN", "0.0.0.0:9"),
        ("POINTSMAN_VERDICT_TTL", "2m"),
        ("POINTSMAN_CHANGE_INTERVAL", "2s"),
        ("--shutdown-grace", "0s"),
    ]);
    let settings = parse(&given).ok().unwrap();
    assert_eq!(demo_file(&settings), PathBuf::from("flag.toml"));
    assert_eq!(settings.xds_listen, Listen::Unix("/run/x.sock".into()));
    assert_eq!(
        settings.module,
        Module::Path("/etc/envoy/f.wasm".to_owned())
    );
    assert!(settings.xds_token.is_none());
    assert_eq!(settings.admin_token.unwrap().reveal(), "word");
    // Scrapers need no token, wherever they are.
    assert_eq!(settings.metrics_listen, "0.0.0.0:9".parse().ok());
    assert_eq!(settings.verdict_ttl, Duration::from_secs(120));
    assert_eq!(settings.change_interval, Duration::from_secs(2));
    assert_eq!(settings.shutdown_grace, Duration::ZERO);
}

#[test]
fn each_error_names_who_what_and_the_choices() {
    let long = "x".repeat(257);
    let cases: &[(&str, &str, &str)] = &[
        (
            "DEMO_MODE",
            "yes",
            r#"DEMO_MODE: must be true or false, not "yes""#,
        ),
        (
            "--demo-mode",
            "1",
            r#"--demo-mode: must be true or false, not "1""#,
        ),
        (
            "ENVIRONMENT",
            "a\nb",
            r#"ENVIRONMENT: must be at most 64 bytes without control characters, not "a\nb""#,
        ),
        (
            "POINTSMAN_XDS_LISTEN",
            "localhost:1",
            r#"POINTSMAN_XDS_LISTEN: must be ip:port or unix:/path, not "localhost:1""#,
        ),
        (
            "--xds-listen",
            "unix:rel",
            r#"--xds-listen: must be ip:port or unix:/path, not "unix:rel""#,
        ),
        (
            "--xds-listen",
            "0.0.0.0:18000",
            "--xds-listen: must be a loopback address unless POINTSMAN_XDS_TOKEN is set, not \
             \"0.0.0.0:18000\"",
        ),
        (
            "POINTSMAN_ADMIN_LISTEN",
            "[::]:1",
            "POINTSMAN_ADMIN_LISTEN: must be a loopback address unless POINTSMAN_ADMIN_TOKEN is \
             set, not \"[::]:1\"",
        ),
        (
            "POINTSMAN_ADMIN_LISTEN",
            "unix:/a",
            r#"POINTSMAN_ADMIN_LISTEN: must be ip:port, not "unix:/a""#,
        ),
        (
            "POINTSMAN_XDS_TOKEN",
            "two words",
            "POINTSMAN_XDS_TOKEN: must be printable ASCII without spaces, at most 256 bytes",
        ),
        (
            "--admin-token",
            &long,
            "--admin-token: must be printable ASCII without spaces, at most 256 bytes",
        ),
        (
            "RELOAD_ALLOWED_IP",
            "localhost",
            r#"RELOAD_ALLOWED_IP: must be an IP address, not "localhost""#,
        ),
        (
            "POINTSMAN_WASM",
            "inline:",
            r#"POINTSMAN_WASM: must name a file after inline:, not "inline:""#,
        ),
        (
            "POINTSMAN_VERDICT_TTL",
            "10",
            "POINTSMAN_VERDICT_TTL: must be a duration such as 500ms or 30s, 1s to 86400s, not \
             \"10\"",
        ),
        (
            "--verdict-ttl",
            "500ms",
            "--verdict-ttl: must be a duration such as 500ms or 30s, 1s to 86400s, not \"500ms\"",
        ),
        (
            "--change-interval",
            "0s",
            "--change-interval: must be a duration such as 500ms or 30s, 10ms to 86400s, not \"0s\"",
        ),
        (
            "POINTSMAN_SHUTDOWN_GRACE",
            "25h",
            "POINTSMAN_SHUTDOWN_GRACE: must be a duration such as 500ms or 30s, 0s to 86400s, not \
             \"25h\"",
        ),
    ];
    for (name, value, error) in cases {
        let mut given = vec![(*name, *value)];
        given.extend(demo(&[]));
        assert_eq!(errors(&given), [*error], "{name}={value}");
    }
}

#[test]
fn all_errors_at_once() {
    let given = [
        ("POINTSMAN_XDS_LISTEN", "x"),
        ("--verdict-ttl", "x"),
        ("ENVIRONMENT", ""),
    ];
    let errors = errors(&given);
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors[0].starts_with("POINTSMAN_REGISTRY:"));

    let no_module = Settings::parse(|_| None, |_| None, None).err().unwrap().0;
    assert!(
        no_module[2].starts_with("POINTSMAN_WASM or --wasm: is required"),
        "{no_module:?}"
    );
    let no_file = self::errors(&[("DEMO_MODE", "TRUE")]);
    assert!(no_file[0].starts_with("POINTSMAN_DEMO_FILE or --demo-file: is required"));
}

#[test]
fn what_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bad = |name: &str| match name {
        "POINTSMAN_DEMO_FILE" => Some(OsString::from_vec(vec![0xff])),
        "DEMO_MODE" => Some("true".into()),
        _ => None,
    };
    let errors = Settings::parse(|_| None, bad, Some("w".into()))
        .err()
        .unwrap()
        .0;
    assert_eq!(errors[0], "POINTSMAN_DEMO_FILE: must be UTF-8");
}

fn of_the_project(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(path).unwrap()
}

fn is_variable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Read by libraries: the log's filter, the authorities of Redis' certificate.
const OF_LIBRARIES: [&str; 2] = ["RUST_LOG", "SSL_CERT_FILE"];

fn variables() -> BTreeSet<&'static str> {
    let ours = SETTINGS.iter().flat_map(|setting| setting.variables);
    ours.copied().chain(OF_LIBRARIES).collect()
}

#[test]
fn the_readme_names_every_setting_with_its_default_and_no_other() {
    let readme = of_the_project("sidecar/README.md");
    let (_, section) = readme.split_once("\n## Settings of the sidecar\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut named = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let known: Vec<&str> = row.split('`').filter(|text| is_variable(text)).collect();
        for setting in SETTINGS
            .iter()
            .filter(|it| cells[1].contains(&format!("`{}`", it.variable())))
        {
            assert_eq!(cells[2].replace('`', ""), setting.default, "{row}");
        }
        named.extend(known);
    }
    assert_eq!(named, variables());
}

#[test]
fn the_example_names_every_variable_and_no_other() {
    let example = of_the_project(".env.example");
    let lines = example.lines().filter_map(|line| {
        let (name, _) = line.trim_start_matches('#').split_once('=')?;
        is_variable(name).then_some(name)
    });
    let mut known = variables();
    // The other commands' own.
    known.insert("POINTSMAN_ADMIN_ADDRESS");
    assert_eq!(lines.collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_default_that_is_a_value_is_one_that_may_be_given() {
    for setting in SETTINGS.iter().filter(|it| it.value == "DURATION") {
        let first = setting.default.split(',').next().unwrap();
        assert!(duration::parse(first).is_some(), "{setting:?}");
    }
    let given: Vec<(&str, &str)> = SETTINGS
        .iter()
        .filter(|it| !it.default.is_empty() && !it.default.contains(' '))
        .map(|it| (it.flag, it.default))
        .chain([("DEMO_MODE", "true"), ("POINTSMAN_DEMO_FILE", "c.yaml")])
        .filter(|(flag, _)| *flag != "--demo-mode")
        .collect();
    let (said, unsaid) = (parse(&given).ok().unwrap(), parse(&demo(&[])).ok().unwrap());
    assert_eq!(said.environment, unsaid.environment);
    assert_eq!(said.xds_listen, unsaid.xds_listen);
    assert_eq!(said.admin_listen, unsaid.admin_listen);
    assert_eq!(said.reload_allowed_ip, unsaid.reload_allowed_ip);
    assert_eq!(said.verdict_ttl, unsaid.verdict_ttl);
    assert_eq!(said.change_interval, unsaid.change_interval);
    assert_eq!(said.shutdown_grace, unsaid.shutdown_grace);
}

#[test]
fn logs_are_text_or_json() {
    let format = |given: &str| {
        let settings = parse(&demo(&[("POINTSMAN_LOG_FORMAT", given)]));
        settings.map(|settings| settings.log_format)
    };
    assert_eq!(format("").ok().unwrap(), None);
    assert_eq!(format("text").ok().unwrap(), Some(LogFormat::Text));
    assert_eq!(format("json").ok().unwrap(), Some(LogFormat::Json));
    let wrong = format("xml").err().unwrap().0;
    assert_eq!(
        wrong,
        [r#"POINTSMAN_LOG_FORMAT: must be text or json, not "xml""#]
    );
}

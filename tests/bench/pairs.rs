//! What a field of a document costs a request: two clusters of one Envoy, alike but for that field, asked in
//! turns.
//!
//! One worker of one process serves both, so whatever a process happens to get both have. What disturbs a
//! machine lasts for longer than a turn and so meets both of a pair.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Bootstrap, Envoy, eventually};
use pointsman_filter::config::UPSTREAM_ROLE;
use serde_json::{Map, Value, json};

use crate::contender::CONNECTIONS;
use crate::figures::{Spread, rounded};
use crate::load::{self, Load};
use crate::machine::{self, Cores};
use crate::profile::Profile;
use crate::responder::Responder;

/// The clusters, and their routes.
const PLAIN: &str = "plain";
const WITH: &str = "with";
/// Until V8 has optimised what is hot.
const TIER_UP: Duration = Duration::from_millis(500);
/// Until all connections to a backend of each cluster are there.
const FIRST_TOUCH: Duration = Duration::from_micros(600);
/// Bytes of a JSON-RPC request.
const BODY: usize = 1024;

/// One field.
struct Case {
    name: String,
    backends: u32,
    /// The field and its value.
    field: (&'static str, Value),
    /// What both clusters have besides.
    both: Value,
    /// What is posted as JSON; otherwise it is a GET.
    body: Option<String>,
    /// Of the starts one in so many is made: of what costs far less than it may, or so much that a small
    /// error does not matter, fewer.
    starts_share: usize,
}

impl Case {
    /// Every backend has a rate limit, and more tokens than the bench needs; none comes while it lasts, so
    /// that every bucket stands in the record.
    fn limits(backends: u32) -> Self {
        Case {
            name: format!("limits.{backends}"),
            backends,
            field: ("rateLimit", json!({"perSecond": 1, "burst": 1_000_000})),
            both: json!({}),
            body: None,
            starts_share: 2,
        }
    }

    /// The module stands upstream as well, and looks at answers. Of all that asks for it this adds no header
    /// to a request, but a word to one that is sent anyway.
    fn role() -> Self {
        let on = [
            "ConnectFailure",
            "RefusedStream",
            "ResetBeforeRequest",
            "GatewayError",
        ];
        Case {
            name: "role".to_owned(),
            backends: 3,
            field: ("retry", json!({"on": on})),
            both: json!({"passive": {"cooldown": {}}}),
            body: None,
            starts_share: 1,
        }
    }

    /// A JSON-RPC request is read until its method.
    fn json_rpc(name: &str, body: String) -> Self {
        Case {
            name: format!("jsonRpc.{name}"),
            backends: 3,
            field: ("jsonRpc", json!({})),
            both: json!({}),
            body: Some(body),
            starts_share: 1,
        }
    }

    fn request(&self, cluster: &str) -> Vec<u8> {
        let fields = self.body.as_ref().map(|body| {
            let length = body.len();
            format!("content-type: application/json\r\ncontent-length: {length}\r\n")
        });
        let (method, body) = match &self.body {
            Some(body) => ("POST", body.as_str()),
            None => ("GET", ""),
        };
        let fields = fields.unwrap_or_default();
        format!("{method} /{cluster} HTTP/1.1\r\nhost: bench\r\n{fields}\r\n{body}").into_bytes()
    }
}

fn cases() -> Vec<Case> {
    let (start, end) = (r#"{"jsonrpc":"2.0","id":1"#, r#","method":"a"}"#);
    let params = |room: usize| format!(r#","params":["{}"]"#, "x".repeat(room));
    let params = params(BODY - start.len() - end.len() - params(0).len());
    let first = format!("{start}{}{params}}}", end.trim_end_matches('}'));
    let last = format!("{start}{params}{end}");
    let limits = [10, 100, 2000].map(Case::limits);
    let bodies = [("first", first), ("last", last)];
    let bodies = bodies.map(|(name, body)| Case::json_rpc(name, body));
    let all = limits.into_iter().chain(bodies);
    all.chain([Case::role()]).collect()
}

/// CPU of the worker, microseconds per request.
struct Pair {
    plain: f64,
    with: f64,
}

/// Every field's cost.
pub async fn run(profile: &Profile, cores: Cores) -> Result<Map<String, Value>> {
    let mut figures = Map::new();
    for case in cases() {
        println!("  {}", case.name);
        let mut pairs = Vec::new();
        // Two, for the order of the clusters.
        let starts = (profile.pair_starts / case.starts_share).max(2);
        for start in 0..starts {
            pairs.extend(measure(&case, start, profile, cores).await?);
        }
        let figure = figure(&pairs);
        println!("    {figure}");
        figures.insert(case.name, figure);
    }
    Ok(figures)
}

/// The pairs of one Envoy. Of two the second begins with the other's turn, and of two Envoys the second has
/// its clusters in the other order.
async fn measure(case: &Case, start: usize, profile: &Profile, cores: Cores) -> Result<Vec<Pair>> {
    let responder = Responder::start(cores.others).await?;
    let addresses = responder.addresses(case.backends);
    let document = |name: &str| {
        let backends = addresses
            .iter()
            .map(|it| json!({"address": it.to_string()}));
        let mut document = case.both.clone();
        document["name"] = name.into();
        document["backends"] = backends.collect();
        document
    };
    let (plain, mut with) = (document(PLAIN), document(WITH));
    with[case.field.0] = case.field.1.clone();
    let mut clusters = [(PLAIN, plain), (WITH, with)];
    clusters.rotate_left(start % 2);
    let documents = clusters.each_ref().map(|(_, document)| document);
    let mut bootstrap = Bootstrap::fixed(&json!({"schema": 1, "clusters": documents}))?;
    for (name, _) in &clusters {
        bootstrap = bootstrap.endpoints(name, &addresses)?;
        bootstrap = bootstrap.route(&format!("/{name}"), name)?;
    }
    let envoy = Envoy::start(bootstrap.concurrency(1)).await?;
    let pid = envoy.process().pid();
    machine::pin(pid, cores.envoy)?;
    eventually(Duration::from_secs(20), "the configuration", async || {
        let name = "wasmcustom.pointsman_configs_total;r=applied";
        ensure!(envoy.stat(name).await? > 0, "not yet");
        Ok(())
    })
    .await?;
    let has_role = roles(&envoy).await?;
    let is_as_wanted = has_role == [false, case.name == "role"];
    ensure!(is_as_wanted, "{}: upstream {has_role:?}", case.name);
    let mut loads = Vec::new();
    for name in [PLAIN, WITH] {
        let requests = vec![case.request(name)];
        let mut load = Load::open_with(envoy.address(), CONNECTIONS, &requests)?;
        let warm = TIER_UP + FIRST_TOUCH * case.backends;
        load.flat(Duration::ZERO, warm, || Ok(()))?;
        loads.push(load);
    }
    let mut pairs = Vec::new();
    for round in 0..profile.pairs {
        let mut micros = [0.0; 2];
        for turn in [round % 2, 1 - round % 2] {
            micros[turn] = cost(&mut loads[turn], pid, profile)?;
        }
        let [plain, with] = micros;
        pairs.push(Pair { plain, with });
    }
    let errors: u64 = loads.iter().map(|load| load.errors).sum();
    ensure!(errors == 0, "{}: {errors} requests failed", case.name);
    Ok(pairs)
}

/// Of which of the two clusters the module sees the attempts, as Envoy says.
async fn roles(envoy: &Envoy) -> Result<[bool; 2]> {
    let dump = envoy.config_dump().await?;
    let configs = dump["configs"].as_array().into_iter().flatten();
    let clusters = configs.filter_map(|it| it["static_clusters"].as_array());
    let clusters: Vec<&Value> = clusters.flatten().map(|it| &it["cluster"]).collect();
    let has_role = |name: &str| -> Result<bool> {
        let cluster = clusters.iter().find(|cluster| cluster["name"] == name);
        let cluster = cluster.with_context(|| format!("no cluster {name}"))?;
        Ok(cluster.to_string().contains(UPSTREAM_ROLE))
    };
    Ok([has_role(PLAIN)?, has_role(WITH)?])
}

fn cost(load: &mut Load, pid: i32, profile: &Profile) -> Result<f64> {
    let look = || machine::cpu_of_threads(pid, "wrk:");
    let load::Flat {
        before,
        after,
        answers,
        ..
    } = load.flat(profile.pair_warm_up, profile.pair_turn, look)?;
    Ok((after - before).as_secs_f64() * 1e6 / answers.max(1) as f64)
}

/// The median of the differences, with where it lies 19 times out of 20.
fn figure(pairs: &[Pair]) -> Value {
    let mut more: Vec<f64> = pairs.iter().map(|pair| pair.with - pair.plain).collect();
    let plain = Spread::of(pairs.iter().map(|pair| pair.plain));
    let more = median_with_its_error(&mut more);
    json!({
        "moreUs": more.map(|spread| spread.json()),
        "plainUs": plain.map(|spread| rounded(spread.median)),
        "pairs": pairs.len(),
    })
}

/// Of n figures the median's own spread reaches from one rank to another: whatever they are spread like, it
/// is left of each with probability 1/2.
fn median_with_its_error(figures: &mut [f64]) -> Option<Spread> {
    const NINETEEN_OF_TWENTY: f64 = 1.96;
    let mut spread = Spread::of(figures.iter().copied())?;
    figures.sort_by(f64::total_cmp);
    let (count, last) = (figures.len() as f64, figures.len() - 1);
    let (half, reach) = (count / 2.0, NINETEEN_OF_TWENTY * count.sqrt() / 2.0);
    spread.min = figures[((half - reach).floor().max(1.0) as usize - 1).min(last)];
    spread.max = figures[((half + 1.0 + reach).ceil() as usize - 1).min(last)];
    Some(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_many_is_known_better_than_that_of_few() {
        let mut many: Vec<f64> = (1..=100).map(f64::from).collect();
        let spread = median_with_its_error(&mut many).unwrap();
        // As tables of order statistics have it.
        assert_eq!((spread.min, spread.median, spread.max), (40.0, 50.5, 61.0));
        let spread = median_with_its_error(&mut [3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(median_with_its_error(&mut []), None);
    }

    #[test]
    fn what_a_field_costs_is_a_difference_within_a_pair() {
        // The second pair was slow for both.
        let pairs = [(30.0, 32.0), (60.0, 62.5), (31.0, 33.0)];
        let pairs = pairs.map(|(plain, with)| Pair { plain, with });
        let figure = figure(&pairs);
        assert_eq!(figure["moreUs"]["median"], 2.0);
        assert_eq!(
            (&figure["plainUs"], &figure["pairs"]),
            (&json!(31.0), &json!(3))
        );
    }

    #[test]
    fn both_bodies_are_of_one_size_and_json() {
        let bodies: Vec<String> = cases().into_iter().filter_map(|case| case.body).collect();
        assert_eq!(bodies.len(), 2);
        for body in bodies {
            assert_eq!(body.len(), BODY);
            let parsed: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(parsed["method"], "a");
        }
    }
}

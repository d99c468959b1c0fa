//! What a registry takes, and may yet be wrong.

use std::collections::BTreeSet;

use pointsman_filter::config::ClusterConfig;
use tracing::warn;

use super::{bodies, cookies};

/// Each warning, with its cluster's name; a cluster may have several.
pub fn of(clusters: &[ClusterConfig]) -> Vec<(&str, String)> {
    let cookies = cookies::warnings(clusters).into_iter();
    let large = clusters
        .iter()
        .filter_map(|it| Some((it.name.as_str(), bodies::warning(it)?)));
    cookies.chain(large).collect()
}

/// One line per warning that is news.
pub fn log(before: &[ClusterConfig], now: &[ClusterConfig]) {
    for (cluster, why) in news(before, now) {
        warn!(event = "record_warned", cluster, "{why}");
    }
}

fn news<'a>(before: &[ClusterConfig], now: &'a [ClusterConfig]) -> Vec<(&'a str, String)> {
    let before: BTreeSet<(&str, String)> = of(before).into_iter().collect();
    let mut now = of(now);
    now.retain(|warning| !before.contains(warning));
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cluster(document: &Value) -> ClusterConfig {
        ClusterConfig::parse(document).unwrap()
    }

    /// The clusters with news, and what their warnings are about.
    fn told(before: &[ClusterConfig], now: &[ClusterConfig]) -> Vec<String> {
        let about = |(cluster, why): (&str, String)| {
            let part = why.split([':', ' ']).next().unwrap_or("");
            assert!(part.starts_with(&format!("clusters.{cluster}.")), "{why}");
            part.to_owned()
        };
        news(before, now).into_iter().map(about).collect()
    }

    #[test]
    fn rl_5_and_st_1_a_warning_is_news_once() {
        let of = |name: &str, most: u32| {
            let rules = json!({"maxBodyBytes": most});
            cluster(&json!({"name": name, "jsonRpc": rules, "sticky": {"cookie": "C"}}))
        };
        let (good, large) = (of("a", 1_048_576), of("a", 2_000_000));
        let body = "clusters.a.jsonRpc.maxBodyBytes";
        let cookies = ["clusters.a.sticky", "clusters.b.sticky"];
        let alone = std::slice::from_ref(&large);
        assert_eq!(told(&[], std::slice::from_ref(&good)), [""; 0]);
        assert_eq!(told(&[], alone), [body]);
        assert_eq!(told(alone, alone), [""; 0]);
        assert_eq!(told(alone, &[of("a", 3_000_000)]), [body], "another number");
        let both = [large.clone(), of("b", 1)];
        assert_eq!(told(alone, &both), cookies);
        assert_eq!(told(&[], &both), [cookies[0], cookies[1], body]);
    }
}

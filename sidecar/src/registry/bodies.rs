//! How large the bodies are that clusters have held, and what a listener lets be held.

use pointsman_filter::config::ClusterConfig;

/// What Envoy holds of a body over HTTP/1 where nobody says otherwise, bytes.
pub const HELD_DEFAULT: u32 = 1_048_576;

/// A warning for a cluster that reads larger bodies than a listener holds by itself. The listeners are
/// not seen from here; beyond its limit Envoy stops reading, and the request waits for ever.
pub fn warning(cluster: &ClusterConfig) -> Option<String> {
    let most = cluster.json_rpc.as_ref()?.max_body_bytes;
    (most > HELD_DEFAULT).then(|| {
        let name = &cluster.name;
        format!(
            "clusters.{name}.jsonRpc.maxBodyBytes: {most} is more than Envoy holds by itself, \
             {HELD_DEFAULT}: per_connection_buffer_limit_bytes, and for HTTP/2 \
             initial_stream_window_size, or the route's request_body_buffer_limit must be as high"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rl_5_bodies_that_no_listener_holds_by_itself_are_warned_of() {
        let warned = |rules| {
            let document = json!({"name": "a", "jsonRpc": rules});
            warning(&ClusterConfig::parse(&document).unwrap())
        };
        assert_eq!(warned(json!(null)), None);
        assert_eq!(warned(json!({"maxBodyBytes": HELD_DEFAULT})), None);
        let warning = warned(json!({"maxBodyBytes": HELD_DEFAULT + 1})).unwrap();
        let start = "clusters.a.jsonRpc.maxBodyBytes: 1048577 is more than Envoy holds";
        assert!(warning.starts_with(start), "{warning}");
    }
}

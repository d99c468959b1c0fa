//! A backend's words in a drawing, as its document.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::{BackendConfig, RateLimit, State};

/// The backend that a word draws; what is held against it is not the document's.
pub fn backend_of(word: &str) -> BackendConfig {
    let (name, marks) = word.split_once(':').unwrap_or((word, ""));
    let (id, host) = name.split_once('@').unwrap_or((name, name));
    let mut backend = BackendConfig {
        id: id.to_owned(),
        id_given: true,
        address: SocketAddr::from((Ipv4Addr::new(10, 0, 0, host.as_bytes()[0]), 80)),
        weight: 100,
        backup: false,
        sticky_id: None,
        state: State::Normal,
        max_in_flight: 0,
        rate_limit: None,
    };
    for mark in marks.split(',').filter(|mark| !mark.is_empty()) {
        match mark {
            "backup" => backend.backup = true,
            "draining" => backend.state = State::Draining,
            "cordoned" => backend.state = State::Cordoned,
            "unhealthy" | "waited" | "trial" | "down" | "limited" | "spent" => {}
            _ if ["cooling", "busy", "back"]
                .iter()
                .any(|it| mark.starts_with(it)) => {}
            _ if mark.starts_with("max") => backend.max_in_flight = mark[3..].parse().unwrap(),
            _ if mark.starts_with("rate") => {
                let (per_second, burst) = mark[4..].split_once('/').unwrap();
                backend.rate_limit = Some(RateLimit {
                    per_second: per_second.parse().unwrap(),
                    burst: burst.parse().unwrap(),
                });
            }
            _ => {
                let weight = mark.strip_prefix('w').and_then(|n| n.parse().ok());
                let says = mark.strip_prefix("says=");
                backend.weight = weight.unwrap_or(backend.weight);
                backend.sticky_id = says.map(str::to_owned).or(backend.sticky_id);
                assert!(weight.is_some() || says.is_some(), "{mark}: no such mark");
            }
        }
    }
    backend
}

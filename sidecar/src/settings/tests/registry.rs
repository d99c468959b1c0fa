//! The registry's settings, one table.

use super::*;

/// What a set of variables leads to: the store in words, or the errors.
fn outcome(given: &[(&str, &str)]) -> String {
    match parse(given) {
        Err(errors) => errors.to_string(),
        Ok(settings) => match settings.registry {
            RegistrySettings::Demo(file) => format!("demo {}", file.display()),
            RegistrySettings::Redis(redis) => format!(
                "{} {} {:?} {:?}",
                redis.url, redis.root, redis.reconcile_interval, redis.guard_delay
            ),
            RegistrySettings::Kubernetes(it) => format!(
                "{} {:?} {:?} {:?} {:?}",
                it.namespace,
                it.kubeconfig,
                it.reconcile_interval,
                it.guard_delay,
                it.lease_duration
            ),
        },
    }
}

const NO_CHOICE: &str = "POINTSMAN_REGISTRY: must be redis or kubernetes (also k8s, crd), not ''; \
                         or DEMO_MODE=true keeps the registry in memory";
const NO_URL: &str = "Redis validation failed: REDIS_URL environment variable is required; or \
                      MX_REDIS_HOST (REDIS_HOST) together with MX_REDIS_PORT (REDIS_PORT)";

#[test]
fn every_combination_is_one_store_or_its_errors() {
    let both = format!("{NO_CHOICE}\n{NO_URL}");
    let bad = |place: &str, value: &str| {
        format!("{place}: must be redis or kubernetes (also k8s, crd), not '{value}'")
    };
    let cases: &[(&[(&str, &str)], &str)] = &[
        // RM-1, RM-4, RM-9: nothing said, and demo mode as the one door past a store.
        (&[], &both),
        (&[("DEMO_MODE", "false")], &both),
        (&[("POINTSMAN_REGISTRY", ""), ("REDIS_URL", "")], &both),
        (
            &[
                ("DEMO_MODE", "TRUE"),
                ("POINTSMAN_DEMO_FILE", "f"),
                ("POINTSMAN_REGISTRY", "x"),
            ],
            "demo f",
        ),
        // RG-1: the choice.
        (&[("REDIS_URL", "redis://h:1")], NO_CHOICE),
        (
            &[("POINTSMAN_REGISTRY", "memory")],
            &bad("POINTSMAN_REGISTRY", "memory"),
        ),
        (
            &[("MX_METADATA_BACKEND", " redis")],
            &bad("MX_METADATA_BACKEND", " redis"),
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "etcd"),
                ("MX_METADATA_BACKEND", "redis"),
            ],
            &bad("POINTSMAN_REGISTRY", "etcd"),
        ),
        (&[("--registry", "x\ny")], &bad("--registry", "x\\ny")),
        (
            &[
                ("MX_METADATA_BACKEND", "Redis"),
                ("REDIS_URL", "redis://h:1"),
            ],
            "redis://h:1 pointsman 30s 5s",
        ),
        // RG-2, RG-3: the URL wins; host and port mix; no default.
        (&[("POINTSMAN_REGISTRY", "redis")], NO_URL),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_URL", "rediss://pm:geheim@h:1/2"),
                ("MX_REDIS_HOST", "other"),
                ("MX_REDIS_PORT", "9"),
            ],
            "rediss://pm:***@h:1/2 pointsman 30s 5s",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_HOST", "plain"),
                ("MX_REDIS_HOST", "ours"),
                ("REDIS_PORT", "7"),
            ],
            "redis://ours:7 pointsman 30s 5s",
        ),
        (
            &[("POINTSMAN_REGISTRY", "redis"), ("REDIS_HOST", "h")],
            "REDIS_URL, MX_REDIS_PORT or REDIS_PORT: one is required beside REDIS_HOST",
        ),
        (
            &[("POINTSMAN_REGISTRY", "redis"), ("MX_REDIS_PORT", "7")],
            "REDIS_URL, MX_REDIS_HOST or REDIS_HOST: one is required beside MX_REDIS_PORT",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_HOST", "a/b"),
                ("REDIS_PORT", "0"),
            ],
            "REDIS_PORT: must be a port from 1 to 65535, not \"0\"\n\
             REDIS_HOST: must be a host name or an address",
        ),
        // The rest.
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_URL", "redis://h:1"),
                ("POINTSMAN_REDIS_ROOT", "{pm}"),
                ("POINTSMAN_RECONCILE_INTERVAL", "2s"),
                ("POINTSMAN_GUARD_DELAY", "0s"),
            ],
            "redis://h:1 {pm} 2s 0ns",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_URL", "redis+cluster://h:1,i:2"),
            ],
            "redis+cluster://h:1,i:2 {pointsman} 30s 5s",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_URL", "redis+cluster://h:1"),
                ("POINTSMAN_REDIS_ROOT", "a{}"),
                ("POINTSMAN_SENTINEL_PASSWORD", "geheim"),
            ],
            "POINTSMAN_SENTINEL_PASSWORD: is for Sentinels, but REDIS_URL names none: it must be \
             redis+sentinel://…\n\
             POINTSMAN_REDIS_ROOT: must hold a hash tag such as {pointsman}, which keeps all keys \
             on one node of the cluster, not \"a{}\"",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_URL", "redis+sentinel://h/main"),
                ("POINTSMAN_SENTINEL_USER", "guard"),
                ("POINTSMAN_SENTINEL_PASSWORD", "geheim"),
            ],
            "redis+sentinel://h:26379/main pointsman 30s 5s",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "redis"),
                ("REDIS_URL", "redis://h:1"),
                ("POINTSMAN_REDIS_ROOT", "a*"),
                ("POINTSMAN_RECONCILE_INTERVAL", "1ms"),
            ],
            "POINTSMAN_REDIS_ROOT: must be at most 64 printable characters without spaces, none of \
             *?[]\\^, and must not end with a colon, not \"a*\"\n\
             POINTSMAN_RECONCILE_INTERVAL: must be a duration such as 500ms or 30s, 1s to 86400s, \
             not \"1ms\"",
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(outcome(given), *expected, "{given:?}");
    }
}

const NO_NAMESPACE: &str = "MX_METADATA_NAMESPACE or POD_NAMESPACE: one is required: the namespace \
                            that holds the BackendClusters";

#[test]
fn rg_4_rm_15_kubernetes_needs_a_namespace_and_no_redis() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("POINTSMAN_REGISTRY", "kubernetes")], NO_NAMESPACE),
        (&[("MX_METADATA_BACKEND", "K8S")], NO_NAMESPACE),
        (
            &[("POINTSMAN_REGISTRY", "crd"), ("POD_NAMESPACE", "shop")],
            "shop [] 300s 5s 15s",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "k8s"),
                ("POD_NAMESPACE", "pod"),
                ("MX_METADATA_NAMESPACE", "ours"),
                ("REDIS_URL", "not looked at"),
                ("KUBECONFIG", "/a:/b"),
                ("POINTSMAN_RECONCILE_INTERVAL", "1m"),
                ("POINTSMAN_GUARD_DELAY", "0s"),
                ("POINTSMAN_LEASE_DURATION", "2s"),
            ],
            "ours [\"/a\", \"/b\"] 60s 0ns 2s",
        ),
        (
            &[
                ("POINTSMAN_REGISTRY", "k8s"),
                ("POD_NAMESPACE", "-x"),
                ("POINTSMAN_GUARD_DELAY", "soon"),
            ],
            "POD_NAMESPACE: must be a namespace: at most 63 of a-z, 0-9 and -, with no - at either \
             end, not \"-x\"\nPOINTSMAN_GUARD_DELAY: must be a duration such as 500ms or 30s, 0s \
             to 86400s, not \"soon\"",
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(outcome(given), *expected, "{given:?}");
    }
}

#[test]
fn a_bad_url_is_not_repeated() {
    let given = [
        ("POINTSMAN_REGISTRY", "redis"),
        ("REDIS_URL", "http://user:geheim@host"),
    ];
    let error = outcome(&given);
    assert!(error.starts_with("REDIS_URL: must be redis://"), "{error}");
    assert!(!error.contains("geheim"), "{error}");
}

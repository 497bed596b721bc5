//! Which crate may use which, as data: the DAG of ARCHITECTURE.md. Must never list an edge that the page does not have.

/// What one crate of ours may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edges {
    /// The package's name.
    pub(crate) name: &'static str,
    /// Our packages that it may depend on.
    pub(crate) uses: &'static [&'static str],
    /// Our packages that only its tests may depend on.
    pub(crate) tests_use: &'static [&'static str],
    /// No runtime, no socket, no clock, no log line: the same inputs give the same outputs.
    pub(crate) pure: bool,
}

const CONTRACTS: &str = "custody-contracts";
const LEDGER: &str = "custody-ledger";
const STREAMS: &str = "custody-streams";
const TRUST: &str = "custody-trust";
const PORTS: &str = "custody-ports";
const DOMAIN: &str = "custody-domain";
const PROJECTIONS: &str = "custody-projections";
const ENGINE: &str = "custody-engine";
const NATS: &str = "custody-nats";
const DOCKER: &str = "custody-docker";
const KUBE: &str = "custody-kube";
const OIDC: &str = "custody-oidc";
const OUTBOUND: &str = "custody-outbound";
const OUTSIDE: &str = "custody-outside";
const STORE: &str = "custody-store";
const TELEMETRY: &str = "custody-telemetry";
const WORKSPACES: &str = "custody-workspaces";
const POLICY: &str = "custody-policy";
const IDENTITY: &str = "custody-identity";
const SECRETS: &str = "custody-secrets";
const TESTKIT: &str = "custody-testkit";
const HTTP: &str = "custody-http";
const AUTHZ: &str = "custody-authz";
const EVALS: &str = "custody-evals";
const CLI: &str = "custody-cli";

/// What a driven adapter may use: never a loop, never a rule.
const DRIVEN: &[&str] = &[CONTRACTS, LEDGER, TRUST, STREAMS, PORTS];

/// What one may use that asks others over HTTP.
const ASKING: &[&str] = &[CONTRACTS, LEDGER, TRUST, STREAMS, PORTS, OUTBOUND];

const fn pure(name: &'static str, uses: &'static [&'static str]) -> Edges {
    Edges { name, uses, tests_use: &[], pure: true }
}

const fn acts(name: &'static str, uses: &'static [&'static str], tests_use: &'static [&'static str]) -> Edges {
    Edges { name, uses, tests_use, pure: false }
}

/// Every crate of the workspace.
pub(crate) const CRATES: &[Edges] = &[
    pure(CONTRACTS, &[]),
    pure(LEDGER, &[CONTRACTS]),
    pure(STREAMS, &[CONTRACTS, LEDGER]),
    pure(TRUST, &[CONTRACTS, LEDGER]),
    pure(PORTS, &[CONTRACTS, LEDGER]),
    pure(DOMAIN, &[CONTRACTS, LEDGER, TRUST, STREAMS]),
    pure(PROJECTIONS, &[CONTRACTS, LEDGER]),
    pure(POLICY, &[CONTRACTS, DOMAIN]),
    acts(OUTBOUND, &[], &[]),
    acts(ENGINE, &[CONTRACTS, LEDGER, TRUST, DOMAIN, PORTS, STREAMS, PROJECTIONS, OUTBOUND], &[TESTKIT]),
    acts(NATS, DRIVEN, &[TESTKIT]),
    acts(DOCKER, DRIVEN, &[TESTKIT]),
    acts(KUBE, DRIVEN, &[TESTKIT]),
    acts(OIDC, ASKING, &[TESTKIT]),
    acts(OUTSIDE, ASKING, &[TESTKIT]),
    acts(STORE, DRIVEN, &[TESTKIT]),
    acts(TELEMETRY, &[CONTRACTS, LEDGER, PORTS, ENGINE, OUTBOUND], &[TRUST, TESTKIT]),
    acts(WORKSPACES, DRIVEN, &[TESTKIT]),
    acts(SECRETS, DRIVEN, &[]),
    acts(IDENTITY, DRIVEN, &[TESTKIT]),
    acts(TESTKIT, &[CONTRACTS, LEDGER, PORTS], &[]),
    acts(EVALS, &[CONTRACTS, LEDGER, DOMAIN, PROJECTIONS, TRUST, STREAMS], &[TESTKIT]),
    acts(HTTP, &[CONTRACTS, LEDGER, TRUST, DOMAIN, PORTS, STREAMS, PROJECTIONS, ENGINE], &[TESTKIT]),
    acts(AUTHZ, &[ENGINE], &[]),
    acts(
        CLI,
        &[
            CONTRACTS,
            LEDGER,
            STREAMS,
            TRUST,
            PORTS,
            DOMAIN,
            PROJECTIONS,
            ENGINE,
            NATS,
            DOCKER,
            KUBE,
            OIDC,
            OUTBOUND,
            OUTSIDE,
            STORE,
            WORKSPACES,
            POLICY,
            SECRETS,
            IDENTITY,
            EVALS,
            HTTP,
            AUTHZ,
            TELEMETRY,
        ],
        &[TESTKIT],
    ),
    acts("xtask", &[], &[]),
    acts("custody-worker", &[], &[]),
    acts("custody-agent", &[], &[]),
    acts("custody-misbehave", &[], &[]),
];

/// Packages of others that only the named crates may depend on, also in their tests.
pub(crate) const OWNED: &[(&str, &[&str])] = &[
    ("bollard", &[DOCKER]),
    ("kube", &[KUBE]),
    ("k8s-openapi", &[KUBE]),
    ("async-nats", &[NATS, CLI]),
    ("sled", &[STORE]),
    ("object_store", &[WORKSPACES]),
    ("age", &[WORKSPACES, SECRETS]),
    ("cedar-policy", &[POLICY]),
    ("envoy-types", &[AUTHZ]),
    ("spiffe", &[IDENTITY]),
];

/// Packages that a pure crate never names, also not in its tests: what needs a runtime to test is not pure.
pub(crate) const ACTING: &[&str] = &[
    "async-nats",
    "bollard",
    "getrandom",
    "hyper",
    "hyper-util",
    "mio",
    "rand",
    "reqwest",
    "rustls",
    "sled",
    "socket2",
    "tokio",
    "tokio-util",
    "tracing",
];

/// Packages that a pure crate never links, however deep below it.
pub(crate) const NETWORK: &[&str] =
    &["async-nats", "bollard", "hyper", "mio", "reqwest", "rustls", "sled", "socket2", "tokio"];

/// The entry of a crate.
pub(crate) fn find(name: &str) -> Option<&'static Edges> {
    CRATES.iter().find(|edges| edges.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_acyclic_and_names_only_its_own_crates() {
        // Strip crates whose uses are all stripped already; a cycle or an unknown name would be left over.
        let mut done: BTreeSet<&str> = BTreeSet::new();
        while let Some(next) =
            CRATES.iter().find(|e| !done.contains(e.name) && e.uses.iter().all(|used| done.contains(used)))
        {
            done.insert(next.name);
        }
        let left: Vec<&str> = CRATES.iter().map(|e| e.name).filter(|name| !done.contains(name)).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(done.len(), CRATES.len(), "a crate stands twice in the table");
        for edges in CRATES {
            assert!(edges.tests_use.iter().all(|used| done.contains(used)), "{}", edges.name);
        }
    }

    #[test]
    fn pure_crates_use_pure_crates_only_and_adapters_see_no_loop_and_no_rule() {
        for edges in CRATES.iter().filter(|edges| edges.pure) {
            assert!(edges.uses.iter().all(|used| find(used).is_some_and(|e| e.pure)), "{}", edges.name);
            assert!(edges.tests_use.is_empty(), "{}", edges.name);
        }
        for adapter in [NATS, DOCKER, KUBE, OIDC, OUTSIDE, STORE, WORKSPACES, SECRETS, IDENTITY] {
            let uses = find(adapter).unwrap().uses;
            assert!(!uses.contains(&ENGINE) && !uses.contains(&DOMAIN), "{adapter}");
        }
    }
}

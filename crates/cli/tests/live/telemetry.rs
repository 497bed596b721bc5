//! Metrics and traces of the real binary: what a scrape shows after a dispatch, what a collector gets, and that without
//! configuration nothing listens and nothing is sent.

use crate::stack::{LOOK, Options, Stack, fresh};
use custody_testkit::collector::Collector;
use custody_testkit::model::Turn;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long something may take to be seen on a busy machine.
const SEEN_MAX: Duration = Duration::from_secs(60);

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Scrapes until a line is there.
async fn scraped(address: &str, line: &str) -> String {
    let until = Instant::now() + SEEN_MAX;
    loop {
        let text = get(address, "/metrics").await;
        if text.lines().any(|l| l.starts_with(line)) {
            return text;
        }
        assert!(Instant::now() < until, "{line} is not in\n{text}");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_is_counted_and_traced_once() {
    let collector = Collector::start(0).await.unwrap();
    let config = format!("[telemetry]\nmetrics_listen = \"127.0.0.1:0\"\notlp_endpoint = {:?}\n", collector.url());
    let script = vec![Turn::Say("four".into())];
    let mut stack = Stack::with(Options { config: Some(config), script, ..Options::default() }).await;
    let address = std::fs::read_to_string(stack.state().join("run/metrics")).unwrap();
    assert_eq!(get(&address, "/healthz").await, "ok\n");

    let row = stack.run(&["what is two and two?"]).await;
    assert_eq!(row["status"], "completed", "{row}");
    let refused = stack.custody(&["run", "--runner", "nobody", "hello"]).await;
    assert_eq!(refused.code, Some(5), "{refused:?}");

    let text = scraped(&address, "custody_refusals_total{code=\"RUNNER_UNKNOWN\"} 1").await;
    for line in [
        "custody_dispatches_total{outcome=\"admitted\"} 1",
        "custody_dispatches_total{outcome=\"refused\"} 1",
        "custody_runs_total{reason=\"completed\"} 1",
        "custody_queue_depth 0",
        "custody_boxes_running 0",
        "custody_queue_wait_seconds_count 1",
        "custody_start_phase_seconds_count{phase=\"create\"} 1",
        "custody_model_calls_total{model=",
        "custody_model_tokens_total{direction=\"output\",model=",
        "custody_projection_lag{projection=\"dispatches\"} ",
        "custody_ledger_bytes ",
        "custody_append_seconds_count ",
        "custody_appends_total{outcome=\"stored\"} ",
        "custody_gateway_bytes_total{what=\"output\"} ",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line} is not in\n{text}");
    }
    let value = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("custody_ledger_bytes ") > 1_000.0 && value("custody_append_seconds_count ") >= 5.0);
    let subject = row["subject"].as_str().unwrap();
    assert!(!text.contains(subject), "a person is a label");

    let root = tokio::time::timeout(SEEN_MAX, collector.has("dispatch custody-agent")).await.unwrap();
    let dispatch = row["dispatch"].as_str().unwrap();
    assert_eq!(root.attributes["custody.dispatch"], dispatch);
    let spans = collector.spans();
    for name in ["admit", "queue", "claim", "create", "boot", "first_frame", "run", "finish"] {
        let span = spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} is not in {spans:#?}"));
        assert_eq!((&span.trace, &span.parent), (&root.trace, &root.id));
        assert!(span.start_ns <= span.end_ns && span.end_ns <= root.end_ns, "{span:?} {root:?}");
    }
    let call = spans.iter().find(|s| s.name.starts_with("chat ")).unwrap();
    assert_eq!(call.attributes["gen_ai.operation.name"], "chat");
    assert!(!format!("{spans:?}").contains(subject), "a person is in a trace");
    assert!(collector.bad().is_empty(), "{:?}", collector.bad());

    // The place is remembered: a restart sends nothing again, and counts on.
    let sent = collector.spans().len();
    stack.stop().await;
    stack.up(&[]).await;
    let address = std::fs::read_to_string(stack.state().join("run/metrics")).unwrap();
    scraped(&address, "custody_runs_total{reason=\"completed\"} 1").await;
    assert_eq!(stack.run(&["again"]).await["status"], "completed");
    let until = Instant::now() + SEEN_MAX;
    while collector.spans().iter().filter(|s| s.name.starts_with("dispatch ")).count() < 2 {
        assert!(Instant::now() < until, "{:?}", collector.spans());
        tokio::time::sleep(LOOK).await;
    }
    let first = collector.spans().into_iter().filter(|s| s.trace == root.trace).count();
    assert_eq!(first, sent, "the first trace was sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_launch_goes_on_through_the_dispatch() {
    let collector = Collector::start(0).await.unwrap();
    let config = format!("[telemetry]\notlp_endpoint = {:?}\n", collector.url());
    let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    let cli = stack.connect("cli").await;
    let mut event = cli.event(&fresh(), &crate::launcher::unit("cli", "hello"));
    event.insert("traceparent".into(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let bytes = cli.signed(event);
    cli.connection.client().request("launch.cli.dispatch", bytes.into()).await.unwrap();
    let root = tokio::time::timeout(SEEN_MAX, collector.has("dispatch custody-agent")).await.unwrap();
    assert_eq!(custody_contracts::canonical::hex(&root.trace), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(custody_contracts::canonical::hex(&root.parent), "b7ad6b7169203331");
}

/// Addresses that a process of this machine listens on or is connected to over TCP, by its sockets' inodes.
fn tcp_of(pid: u32) -> Vec<String> {
    let mut own = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        if let Ok(target) = std::fs::read_link(entry.path()) {
            own.insert(target.to_string_lossy().into_owned());
        }
    }
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| own.contains(&format!("socket:[{}]", row[9])));
    ours.map(|row| format!("{} -> {} {}", row[1], row[2], row[3])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_configuration_nothing_listens_and_nothing_is_sent() {
    let collector = Collector::start(0).await.unwrap();
    // The variables that other programs read: they are not ours.
    let env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url().to_owned())];
    let stack = Stack::with(Options { env, ..Options::default() }).await;
    assert_eq!(stack.run(&["hello"]).await["status"], "completed");
    let nats = stack.url().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let sockets = tcp_of(stack.pid());
    let nats = format!(":{nats:04X}");
    let elsewhere: Vec<_> = sockets.iter().filter(|s| s.ends_with(" 01") && !s.contains(&nats)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    // Whatever listens for another reason has no metrics.
    for listening in sockets.iter().filter(|s| s.ends_with(" 0A")) {
        let port = listening.split([':', ' ']).nth(1).and_then(|hex| u16::from_str_radix(hex, 16).ok()).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains("custody_build_info"), "port {port} shows metrics");
    }
    assert!(!stack.state().join("run/metrics").exists());
    assert_eq!(collector.requests(), 0);
}

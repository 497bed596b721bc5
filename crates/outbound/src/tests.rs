//! T37, T38: each forbidden address beside an honest one, and a name that leads somewhere else the second time.

use super::*;
use rstest::rstest;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The longest that one request may take.
const LONG: Duration = Duration::from_secs(30);

fn networks(all: &[&str]) -> Networks {
    serde_json::from_value(serde_json::json!(all)).unwrap()
}

#[rstest]
#[case::public("93.184.216.34", Reach::Public)]
#[case::public_v6("2606:2800:220:1:248:1893:25c8:1946", Reach::Public)]
#[case::ten("10.0.0.1", Reach::Private)]
#[case::before_172_16("172.15.255.255", Reach::Public)]
#[case::first_of_172_16("172.16.0.0", Reach::Private)]
#[case::last_of_172_16("172.31.255.255", Reach::Private)]
#[case::behind_172_16("172.32.0.0", Reach::Public)]
#[case::home("192.168.1.1", Reach::Private)]
#[case::carrier_grade_nat("100.64.0.1", Reach::Private)]
#[case::behind_carrier_grade_nat("100.128.0.1", Reach::Public)]
#[case::unique_local("fd12:3456::1", Reach::Private)]
#[case::loopback("127.0.0.1", Reach::Here)]
#[case::all_of_loopback("127.255.255.254", Reach::Here)]
#[case::loopback_v6("::1", Reach::Here)]
#[case::mapped_loopback("::ffff:127.0.0.1", Reach::Here)]
#[case::mapped_private("::ffff:10.0.0.1", Reach::Private)]
#[case::mapped_public("::ffff:93.184.216.34", Reach::Public)]
#[case::nat64_public("64:ff9b::5db8:d822", Reach::Public)]
#[case::nat64_private("64:ff9b::10.0.0.1", Reach::Private)]
#[case::metadata("169.254.169.254", Reach::Never)]
#[case::metadata_mapped("::ffff:169.254.169.254", Reach::Never)]
#[case::metadata_nat64("64:ff9b::169.254.169.254", Reach::Never)]
#[case::metadata_compatible("::169.254.169.254", Reach::Never)]
#[case::metadata_6to4("2002:a9fe:a9fe::1", Reach::Never)]
#[case::metadata_teredo("2001:0:a9fe:a9fe::1", Reach::Never)]
#[case::metadata_nat64_of_its_own("64:ff9b:1::a9fe:a9fe", Reach::Never)]
#[case::metadata_of_alibaba("100.100.100.200", Reach::Never)]
#[case::metadata_of_oracle("192.0.0.192", Reach::Never)]
#[case::metadata_of_amazon_v6("fd00:ec2::254", Reach::Never)]
#[case::metadata_of_google_v6("fd20:ce::254", Reach::Never)]
#[case::link_local_v6("fe80::1", Reach::Never)]
#[case::site_local("fec0::1", Reach::Never)]
#[case::unspecified("0.0.0.0", Reach::Never)]
#[case::this_network("0.1.2.3", Reach::Never)]
#[case::unspecified_v6("::", Reach::Never)]
#[case::multicast("224.0.0.1", Reach::Never)]
#[case::multicast_v6("ff02::1", Reach::Never)]
#[case::broadcast("255.255.255.255", Reach::Never)]
#[case::reserved("240.0.0.1", Reach::Never)]
#[case::documentation("203.0.113.7", Reach::Never)]
#[case::documentation_v6("2001:db8::1", Reach::Never)]
fn t37_an_address_leads_where_its_inner_one_does(#[case] ip: &str, #[case] wanted: Reach) {
    assert_eq!(reach(ip.parse().unwrap()), wanted);
}

/// Spellings of one address that an operator, or who writes for one, may hide it behind.
#[rstest]
#[case::decimal("http://2852039166/")]
#[case::hexadecimal("http://0xa9fea9fe/")]
#[case::octal("http://0251.0376.0251.0376/")]
#[case::short("http://169.254.43518/")]
#[case::full_width("http://１６９.254.169.254/")]
#[case::mapped("http://[::ffff:169.254.169.254]/")]
#[case::mapped_in_hex("https://[::ffff:a9fe:a9fe]/latest/meta-data")]
#[case::with_a_user("http://mail.example@169.254.169.254/")]
fn t37_an_address_is_one_however_it_is_spelled(#[case] url: &str) {
    assert!(matches!(written(url), Err(Forbidden::Never(_))), "{url}");
    let by = "https://id.example/";
    assert!(matches!(told(&Url::parse(url).unwrap(), by, &Networks::any()), Err(Forbidden::Never(_))), "{url}");
    // The honest ones beside it: an operator's own word, also for this machine and a house's own network.
    for honest in ["http://127.0.0.1:8080/mcp", "http://10.0.0.7/mcp", "https://mail.example/mcp", "http://[::1]/"] {
        assert_eq!(written(honest), Ok(()), "{honest}");
    }
}

/// T38: what a provider's own document names.
#[rstest]
#[case::public("https://93.184.216.34/jwks", "https://id.example/", &[], true)]
#[case::a_name("https://keys.example/jwks", "https://id.example/", &[], true)]
#[case::this_machine("https://127.0.0.1/jwks", "https://id.example/", &[], false)]
#[case::this_machine_as_a_number("https://2130706433/jwks", "https://id.example/", &[], false)]
#[case::from_this_machine("http://127.0.0.1:9/jwks", "http://localhost:8080/", &[], true)]
#[case::private("https://10.0.0.7/jwks", "https://id.example/", &[], false)]
#[case::private_from_this_machine("https://10.0.0.7/jwks", "http://localhost:8080/", &[], false)]
#[case::private_as_allowed("https://10.0.0.7/jwks", "https://id.example/", &["10.0.0.0/8"], true)]
#[case::another_private("https://192.168.0.7/jwks", "https://id.example/", &["10.0.0.0/8"], false)]
fn t38_what_a_document_names_is_public_or_allowed(
    #[case] url: &str,
    #[case] by: &str,
    #[case] inside: &[&str],
    #[case] good: bool,
) {
    assert_eq!(told(&Url::parse(url).unwrap(), by, &networks(inside)).is_ok(), good);
}

#[rstest]
#[case::public(&["93.184.216.34"], false, &[], &["93.184.216.34"])]
#[case::private(&["10.0.0.1"], false, &[], &[])]
#[case::private_as_allowed(&["10.0.0.1"], false, &["10.0.0.0/24"], &["10.0.0.1"])]
#[case::private_mapped_as_allowed(&["::ffff:10.0.0.1"], false, &["10.0.0.0/24"], &["::ffff:10.0.0.1"])]
#[case::both(&["10.0.0.1", "93.184.216.34"], false, &[], &["93.184.216.34"])]
#[case::this_machine(&["127.0.0.1", "::1"], false, &[], &[])]
#[case::this_machine_by_its_name(&["127.0.0.1", "::1"], true, &[], &["127.0.0.1", "::1"])]
#[case::metadata_though_all_is_allowed(&["169.254.169.254"], true, &["0.0.0.0/0", "::/0"], &[])]
#[case::nothing(&[], false, &[], &[])]
fn t37_of_what_a_name_leads_to_only_what_may_be_is_connected_to(
    #[case] found: &[&str],
    #[case] here: bool,
    #[case] inside: &[&str],
    #[case] wanted: &[&str],
) {
    let parsed = |all: &[&str]| all.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    let good = resolver::allowed("mail.example", parsed(found), here, &networks(inside));
    match wanted.is_empty() && !found.is_empty() {
        true => assert!(matches!(good, Err(Forbidden::Name { .. })), "{good:?}"),
        false => assert_eq!(good, Ok(parsed(wanted))),
    }
}

/// A server that counts who comes, and ends each connection.
async fn server() -> (u16, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count: Arc<Mutex<usize>> = Arc::default();
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
            // Who has gone needs no answer.
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    (port, count)
}

/// A name whose answers were written down, one for each lookup.
fn scripted(answers: &[&str]) -> (resolver::Lookup, Arc<Mutex<VecDeque<IpAddr>>>) {
    let left: VecDeque<IpAddr> = answers.iter().map(|ip| ip.parse().unwrap()).collect();
    let left = Arc::new(Mutex::new(left));
    let of = left.clone();
    let look_up: resolver::Lookup = Arc::new(move |_| {
        let next = of.lock().unwrap().pop_front();
        Box::pin(async move { next.map(|ip| vec![ip]).ok_or_else(|| io::Error::other("asked too often")) })
    });
    (look_up, left)
}

/// Rebinding: the first lookup leads to the server, the second one into this machine, the third to a cloud's metadata. Each
/// connection is judged by the lookup that it was made from, and there is one lookup for each.
#[tokio::test]
async fn t37_a_name_that_leads_somewhere_else_the_second_time_is_not_followed() {
    let (port, count) = server().await;
    let (look_up, left) = scripted(&["127.0.0.1", "127.0.0.2", "169.254.169.254", "127.0.0.1"]);
    // One address of this machine stands for the server's own network; the rest of it for what is behind the wall.
    let url = format!("http://mail.example:{port}/");
    let guard = resolver::Guard::looking(false, networks(&["127.0.0.1/32"]), look_up);
    let client = led_by(&url, guard).no_proxy().timeout(LONG).build().unwrap();
    let get = || client.get(&url).send();

    assert_eq!(get().await.unwrap().status(), 200);
    assert_eq!((*count.lock().unwrap(), left.lock().unwrap().len()), (1, 3), "one lookup is one connection");
    for _ in 0..2 {
        let error = get().await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        let all = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        assert!(all.map(ToString::to_string).any(|text| text.contains("private_networks")), "{error:?}");
    }
    assert_eq!(*count.lock().unwrap(), 1, "nothing was connected to");
    // And the honest name again.
    assert_eq!(get().await.unwrap().status(), 200);
    assert_eq!((*count.lock().unwrap(), left.lock().unwrap().len()), (2, 0));
}

/// A redirect is an answer, whoever it leads to.
#[tokio::test]
async fn t38_a_redirect_is_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let (port, count) = server().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:{port}/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            // Who has gone needs no answer.
            let _gone = stream.write_all(answer.as_bytes()).await;
        }
    });
    let client = builder(&url, &Networks::default()).timeout(LONG).build().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 307);
    assert_eq!(*count.lock().unwrap(), 0);
    // Where it leads would have answered.
    assert_eq!(client.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap().status(), 200);
}

#[test]
fn a_list_has_an_end() {
    let many = |n: usize| networks(&vec!["10.0.0.0/8"; n]);
    assert_eq!(many(64).check(), Ok(()));
    assert!(many(65).check().is_err());
    assert!(serde_json::from_str::<Networks>(r#"["10.0.0.0"]"#).is_err(), "a network has a length");
}

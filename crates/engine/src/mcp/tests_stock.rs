//! The door before a client that none of us wrote: the official Rust SDK, over the socket, in each version that is spoken.

use super::tests::{Stand, refusal};
use custody_contracts::events::{EffectEvent, ToolPhase};
use custody_contracts::unit::Mode;
use rmcp::ServiceError;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RoleClient, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, UnixSocketHttpClient};
use rstest::rstest;
use serde_json::{Value, json};

const URI: &str = "http://localhost/mcp";

async fn client(stand: &Stand, lifecycle: ClientLifecycleMode) -> RunningService<RoleClient, ()> {
    let socket = stand.socket();
    let http = UnixSocketHttpClient::new(socket.to_str().unwrap(), URI);
    let config = StreamableHttpClientTransportConfig::with_uri(URI);
    ().serve_with_lifecycle(StreamableHttpClientTransport::with_client(http, config), lifecycle).await.unwrap()
}

fn call(tool: &'static str, args: &Value) -> CallToolRequestParams {
    let mut params = CallToolRequestParams::new(tool);
    params.arguments = Some(args.as_object().unwrap().clone());
    params
}

fn auto() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_06_18),
    }
}

#[rstest]
#[case::greeted(ClientLifecycleMode::Initialize, ProtocolVersion::V_2025_11_25)]
#[case::alone(ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }, ProtocolVersion::V_2026_07_28)]
#[case::either(auto(), ProtocolVersion::V_2026_07_28)]
#[tokio::test]
async fn a_stock_client_lists_calls_and_reads_a_refusal(
    #[case] lifecycle: ClientLifecycleMode,
    #[case] version: ProtocolVersion,
) {
    let stand = Stand::new(Mode::Ro, None).await;
    let client = client(&stand, lifecycle).await;
    let server = client.peer_info().unwrap();
    assert_eq!(serde_json::to_value(&server.protocol_version).unwrap(), serde_json::to_value(&version).unwrap());
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names, ["workspace_list", "workspace_read", "workspace_write"]);

    let read = client.call_tool(call("workspace_read", &json!({ "path": "a/one.md" }))).await.unwrap();
    assert_eq!(read.is_error, Some(false), "{read:?}");
    let said = serde_json::to_value(&read.content).unwrap();
    assert_eq!(said[0]["text"], "first line\nsecond line\n");
    let effects = stand.effects();
    let [(_, EffectEvent::ToolIntended(_)), (_, EffectEvent::ToolFinished(finished))] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(finished.phase, ToolPhase::Succeeded);

    // What a rule forbids reaches the one who wrote the agent: by the rule's name, with the next step.
    let refused = client.call_tool(call("workspace_write", &json!({ "path": "x", "text": "x" }))).await;
    let Err(ServiceError::McpError(why)) = refused else { panic!("{refused:?}") };
    assert!(why.message.starts_with("WORKSPACE_READ_ONLY: "), "{why:?}");
    assert_eq!(why.data.unwrap()["code"], "WORKSPACE_READ_ONLY");
    assert_eq!(refusal(&stand.effects()).reason, "WORKSPACE_READ_ONLY");
    let missing = client.call_tool(call("shell", &json!({}))).await;
    let Err(ServiceError::McpError(why)) = missing else { panic!("{missing:?}") };
    assert_eq!(why.data.unwrap()["code"], "TOOL_NOT_LISTED");
    client.cancel().await.unwrap();
}

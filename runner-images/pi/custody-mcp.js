// Extension for pi: every tool of the dispatch's MCP door becomes a tool of the agent. Streamable HTTP, no dependency.
const url = process.env.CUSTODY_MCP_URL;
const PAGES_MAX = 16; // of tools/list
let next = 0;
let session;

async function rpc(method, params = {}, notify = false) {
  const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
  if (session) headers["mcp-session-id"] = session;
  const body = JSON.stringify({ jsonrpc: "2.0", ...(notify ? {} : { id: ++next }), method, params });
  const response = await fetch(url, { method: "POST", headers, body });
  session = response.headers.get("mcp-session-id") ?? session;
  const text = await response.text();
  if (notify) return undefined;
  if (!response.ok) throw new Error(`${method}: the tool door answered ${response.status}`);
  const json = text.trimStart().startsWith("{") ? text : text.split("\n").filter((line) => line.startsWith("data:")).pop()?.slice(5);
  const answer = JSON.parse(json ?? "{}");
  if (answer.error) throw new Error(answer.error.message);
  return answer.result;
}

export default async function (pi) {
  if (!url) return;
  // No tools are offered to this dispatch, or its door is away: the agent works without.
  try {
    await offer(pi);
  } catch (error) {
    console.error(`no tools by MCP: ${error.message}`);
  }
}

async function offer(pi) {
  await rpc("initialize", { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "pi", version: "1" } });
  await rpc("notifications/initialized", {}, true);
  let cursor;
  for (let page = 0; page < PAGES_MAX; page++) {
    const listed = await rpc("tools/list", cursor ? { cursor } : {});
    for (const tool of listed.tools) {
      pi.registerTool({
        name: tool.name,
        label: tool.name,
        description: tool.description ?? tool.name,
        parameters: tool.inputSchema,
        async execute(_id, args) {
          const result = await rpc("tools/call", { name: tool.name, arguments: args });
          if (result.isError) throw new Error(result.content?.[0]?.text ?? "the tool failed");
          return { content: result.content, details: {} };
        },
      });
    }
    cursor = listed.nextCursor;
    if (!cursor) return;
  }
}

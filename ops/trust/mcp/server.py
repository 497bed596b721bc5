"""A server of one tool, with Python's official MCP SDK, as a stranger would write it.

    server.py both|alone

`alone` knows no greeting: it takes requests of 2026-07-28 only. Prints its address once it listens on it.
"""

import json
import socket
import sys

import uvicorn
from mcp.server.mcpserver import MCPServer

VERSION = "2026-07-28"
server = MCPServer("stock")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two whole numbers."""
    return str(a + b)


def alone(app):
    """Answers whatever is not of 2026-07-28 as a server answers that has nothing else."""

    async def answer(scope, receive, send):
        version = dict(scope.get("headers", [])).get(b"mcp-protocol-version", b"").decode()
        if scope["type"] != "http" or version == VERSION:
            return await app(scope, receive, send)
        error = {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [VERSION], "requested": version}}
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    return answer


app = server.streamable_http_app(stateless_http=True)
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(alone(app) if sys.argv[1] == "alone" else app, log_level="warning")).run(sockets=[listener])

"""A client of Python's official MCP SDK at the socket of a dispatch, as a stranger would write it.

    client.py SOCKET MODE TOOL ARGUMENTS [TOOL ARGUMENTS ...]

MODE is `auto`, `legacy` or a version. Prints one JSON object a line: what it connected to, what is offered, and for each
call its result or its error.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError


def say(**what):
    print(json.dumps(what), flush=True)


async def main(socket, mode, calls):
    http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=socket), timeout=30)
    transport = streamable_http_client("http://localhost/mcp", http_client=http, terminate_on_close=False)
    async with http, Client(transport, mode=mode) as client:
        say(version=client.protocol_version)
        say(tools=[tool.name for tool in (await client.list_tools()).tools])
        for tool, arguments in zip(calls[::2], calls[1::2], strict=True):
            try:
                result = await client.call_tool(tool, json.loads(arguments))
                say(tool=tool, is_error=result.is_error, text=[part.text for part in result.content])
            except MCPError as error:
                say(tool=tool, code=error.error.code, message=error.error.message, data=error.error.data)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))

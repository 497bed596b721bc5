"""A server of two tools over stdio, with Python's official MCP SDK, as a stranger would write it. Its process id is in the
file `pid` of its working folder."""

import os
import time

from mcp.server.mcpserver import MCPServer

server = MCPServer("stock")


def write(name, text):
    with open(name + ".new", "w") as file:
        file.write(text)
    os.rename(name + ".new", name)


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two whole numbers."""
    return str(a + b)


@server.tool()
def wait(name: str) -> str:
    """Makes a file in its working folder, and does not come back."""
    write(name, "began")
    time.sleep(3600)
    return "awake"


write("pid", str(os.getpid()))
server.run("stdio")

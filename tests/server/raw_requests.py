"""Requests written to a socket, whose answers are read by hand."""

import asyncio
import json
import socket

from server.conftest import MODEL

BODY = json.dumps({"model": MODEL, "tokens": [255] * 900_000}).encode()
HEAD = b"POST /detokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


async def ask(url: str) -> socket.socket:
    """Ask for 5 MB; the connection, of which nothing has been read."""
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    asking.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(asking, ("127.0.0.1", int(url.rpartition(":")[2])))
    await loop.sock_sendall(asking, HEAD % len(BODY) + BODY)
    return asking

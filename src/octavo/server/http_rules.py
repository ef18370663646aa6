"""Which requests are refused before they are any: what is not HTTP/1.1, and what a proxy in front may read differently.

Who disagrees on where a request ends can be made to smuggle one (RFC 9112, section 11.2).
"""

import re

from octavo.server.errors import ApiError

Headers = list[tuple[bytes, bytes]]

_TARGET = re.compile(rb"[!-~]+")
_VERSIONS = ("1.0", "1.1")
_FAULTS = (
    ("can't be present", "Content-Length and Transfer-Encoding are both there; send one"),
    ("Duplicate Content-Length", "Content-Length is there twice; send one"),
    ("Content-Length", "Content-Length is not a number of bytes; send decimal digits"),
    ("Transfer-Encoding", "Transfer-Encoding is not chunked; send that, or Content-Length"),
    ("Unexpected whitespace after header value", "a header is folded over two lines; write it in one"),
    ("after header value", "a header's line does not end with CR and LF; write it in one that does"),
    ("header value", "a header's value has a character that is not visible; send visible ones in one line"),
    ("chunk|Chunk", "a chunk is not its size in hexadecimal, CR and LF, so many bytes, CR and LF; send such ones"),
    ("header|start line", "a line of the headers is not a name, a colon and a value; send such ones"),
    ("method", "the method is not one of HTTP's; use GET or POST"),
    ("url", "the path has characters that it may not have, or no / before them; percent-encode them"),
    ("version|HTTP/", "the request line does not end with HTTP/1.1, CR and LF; end it so"),
    ("Connection: close", "a request comes behind one with Connection: close; leave either out"),
)
"""What is wrong, by what llhttp says of it; the first that fits."""


def invalid_http(fault: str) -> ApiError:
    return ApiError(400, fault, code="invalid_http")


def worded(reason: str) -> ApiError:
    """The error for what llhttp refused for this reason."""
    fault = next(
        (fault for pattern, fault in _FAULTS if re.search(pattern, reason)),
        "the request is not HTTP/1.1; send one that is",
    )
    return invalid_http(fault)


def checked_length(version: str, target: bytes, headers: Headers) -> int | None:
    """The body's length, and None where it comes in chunks. Raises `ApiError` for what llhttp lets pass and this
    server does not: no or two Host, codings beside chunked, and other versions and targets than those of HTTP/1.1.
    """
    if version not in _VERSIONS:
        raise invalid_http(f"the request is of HTTP/{version}; send one of HTTP/1.1")
    if not _TARGET.fullmatch(target):
        raise worded("url")
    values: dict[bytes, list[bytes]] = {b"host": [], b"content-length": [], b"transfer-encoding": []}
    for name, value in headers:
        if name in values:
            values[name].append(value)
    hosts, lengths, codings = values.values()
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise invalid_http(f"Host is there {len(hosts)} times; send it once")
    if codings and ([coding.lower() for coding in codings] != [b"chunked"] or version == "1.0"):
        raise worded("Transfer-Encoding")
    if codings:
        return None
    return int(lengths[0]) if lengths else 0

"""Expensive requests for a web application firewall, which the edge must reject or inspect cheaply.

Each is an HTTP/1.1 request on a kept connection. Most are as large as the edge inspects, some larger.
"""

import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

# This is the number of values that are inspected.
MANY = 16


@dataclass(frozen=True)
class Request:
    """One request; `kind` describes what makes it expensive."""

    kind: str
    method: str = "POST"
    target: str = "/v1/orders"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunked: bool = False

    def wire(self, host: str) -> bytes:
        """Return the bytes to send."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        if not any(name == "User-Agent" for name, _ in self.headers):
            lines.append("User-Agent: expensive/1.0")
        lines += ["Accept: application/json", *(f"{name}: {value}" for name, value in self.headers)]
        body = self.body
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif body or self.method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


JSON = (("Content-Type", "application/json"),)
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
MULTIPART = (("Content-Type", "multipart/form-data; boundary=x"),)


@dataclass(frozen=True)
class Limits:
    """The limits of inspection, in bytes and in number."""

    body: int = 4 * 1024
    header: int = 2 * 1024
    headers: int = 8 * 1024
    values: int = MANY
    depth: int = 8


def filled(trap: str, size: int) -> str:
    """Return a text of that size."""
    return (trap * (size // len(trap) + 1))[:size]


def honest() -> Request:
    """Return an order, for comparison."""
    body = {"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1.5", "limit_price": "180.25"}
    return Request("an order", headers=(*JSON, ("Idempotency-Key", "what-it-costs")), body=json.dumps(body).encode())


def _multipart(parts: int, size: int, headers: int = 0) -> bytes:
    extra = b"".join(b"X-H%d: %s\r\n" % (n, b"a" * 40) for n in range(headers))
    part = b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n%s\r\n%s\r\n'
    return b"".join(part % (number, extra, b"a" * size) for number in range(parts)) + b"--x--\r\n"


def _within(size: int, piece: bytes, opening: bytes, closing: bytes) -> bytes:
    return opening + piece * ((size - len(opening) - len(closing)) // len(piece)) + closing


def shapes(limits: Limits) -> Iterator[Request]:
    """Yield requests that are expensive by form alone: deep, wide, long, many, malformed, compressed, multipart."""
    size = limits.body
    deep = b"[" * 9990 + b"0," * 980 + b"0" + b"]" * 9990
    yield Request("deep: nested lists with values", headers=JSON, body=deep)
    yield Request("deep: the same at an unknown path", target="/nowhere", headers=JSON, body=deep)
    yield Request("deep: nested lists within the size", headers=JSON, body=b"[" * (size // 2) + b"]" * (size // 2))
    yield Request("deep: nested objects", headers=JSON, body=b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6))
    nested = b"[" * limits.depth + b"0," * (size // 2 - 20) + b"0" + b"]" * limits.depth
    yield Request("deep: just not too deep, and wide", headers=JSON, body=nested)
    yield Request("deep: long names", headers=JSON, body=b'{"%s":' % (b"n" * 1000) * 8 + b'"x"' + b"}" * 8)
    yield Request("wide: numbers", headers=JSON, body=_within(size, b"1,", b"[", b"1]"))
    yield Request("wide: empty lists", headers=JSON, body=_within(size, b"[],", b"[", b"[]]"))
    yield Request("wide: far too large", headers=JSON, body=json.dumps([*range(150_000)]).encode())
    members = {f"m{number}": "1" for number in range(990)}
    yield Request("wide: 990 members", headers=JSON, body=json.dumps(members).encode())
    sql = {f"m{number}": "1' union select password from users where 1=1 -- " for number in range(900)}
    yield Request("wide: 900 values like SQL", headers=JSON, body=json.dumps(sql).encode())
    few = dict(itertools.islice(sql.items(), limits.values))
    yield Request("wide: as many values like SQL as are inspected", headers=JSON, body=json.dumps(few).encode())
    yield Request("wide: form", headers=FORM, body=b"a&" * (size // 2))
    yield Request("wide: query", "GET", "/v1/orders?" + "a&" * ((limits.header - 64) // 2))
    for number in (limits.values, 4 * limits.values):
        parameters = "&".join(f"p{n}=select+1" for n in range(number))
        yield Request(f"wide: {number} parameters", "GET", f"/?{parameters}")
    yield Request("long: one string", headers=JSON, body=_within(size, b"a", b'{"a":"', b'"}'))
    yield Request("long: one string, far too large", headers=JSON, body=_within(1 << 20, b"a", b'{"a":"', b'"}'))
    yield Request("long: one name", headers=JSON, body=_within(size, b"a", b'{"', b'":1}'))
    yield Request("long: escapes", headers=JSON, body=_within(size, b"\\u0041", b'{"a":"', b'"}'))
    yield Request("long: one number", headers=JSON, body=b"1" * size)
    yield Request("long: form", headers=FORM, body=b"a=" + b"%41" * (size // 3 - 1))
    yield Request("long: path", "GET", "/" + "a/" * ((limits.header - 64) // 2))
    yield Request("long: path, encoded", "GET", "/" + "%61" * ((limits.header - 64) // 3))
    yield Request("long: neither form nor JSON", headers=(("Content-Type", "text/plain"),), body=b"a" * size)
    yield Request("long: without a type", body=b"a" * size)
    yield Request("long: XML", headers=(("Content-Type", "text/xml"),), body=_within(size, b"<a>", b"<a>", b""))
    yield Request("long: chunks", headers=JSON, body=_within(size, b"1,", b"[", b"1]"), chunked=True)
    yield Request("long: a body where none belongs", "GET", "/", JSON, _within(size, b"a", b'{"a":"', b'"}'))
    few_bytes = 1024
    yield Request(
        "many: headers", "GET", "/", tuple((f"X-H{n}", "a") for n in range((limits.headers - few_bytes) // 10))
    )
    yield Request(
        "many: large headers",
        "GET",
        "/",
        tuple((f"X-H{n}", "a" * (limits.header - few_bytes)) for n in range(limits.headers // limits.header)),
    )
    yield Request("many: cookies", "GET", "/", (("Cookie", "; ".join(f"c{n}=1" for n in range(limits.values))),))
    cookies = "; ".join(f"c{n}=1" for n in range((limits.header - few_bytes) // 4))
    yield Request("many: far too many cookies", "GET", "/", (("Cookie", cookies),))
    yield Request("malformed: JSON that ends", headers=JSON, body=b'{"a":' + b'[{"a":' * 7)
    yield Request("malformed: JSON of NULs", headers=JSON, body=b"\0" * size)
    yield Request("malformed: not UTF-8", headers=JSON, body=_within(size, b"\xff\xfe", b'{"a":"', b'"}'))
    yield Request("malformed: broken percent signs", "GET", "/?a=" + "%" * (limits.header - 64))
    packed = gzip.compress(b'{"a":"' + b"a" * (10 << 20) + b'"}')
    yield Request("compressed: a bomb", headers=(*JSON, ("Content-Encoding", "gzip")), body=packed[:size])
    for parts, length in ((size // 100, 1), (limits.values, 100), (1, size - 100)):
        yield Request(f"multipart: {parts} parts", headers=MULTIPART, body=_multipart(parts, length)[:size])
    yield Request("multipart: part headers", headers=MULTIPART, body=_multipart(1, 1, headers=size // 60))
    yield Request("multipart: no end", headers=MULTIPART, body=_multipart(1, size - 200)[:-20])
    yield Request("multipart: boundaries", headers=MULTIPART, body=b"--x\r\n" * (size // 5))

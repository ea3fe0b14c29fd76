"""The report on a shadow: which routes it answers otherwise, and how fast."""

from shadow import table


def test_differences_come_first_and_all_load_balancers_count() -> None:
    """Two load balancers, two routes: the one that differs is told with the statuses, both with their times."""
    same = {"live_seconds": [0.010] * 99, "shadow_seconds": [0.020] * 99, "statuses": {"200 200": 99}}
    other = {"live_seconds": [0.010, 0.030], "shadow_seconds": [0.010, 0.5], "statuses": {"200 200": 1, "200 500": 1}}
    header, first, second = table([{"/v1/orders": same, "/v1/orders/{id}": other}, {"/v1/orders/{id}": other}])
    assert header.split()[:3] == ["route", "reads", "differ"]
    assert first.split() == ["/v1/orders/{id}", "4", "2", "30/30", "500/500", "200", "->", "500:", "2"]
    assert second.split() == ["/v1/orders", "99", "0", "10/10", "20/20"]


def test_without_reads_the_report_says_so() -> None:
    """A table without a line would read as "no differences"."""
    (said,) = table([{}, {}])
    assert said.startswith("Nothing was compared")

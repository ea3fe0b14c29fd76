"""The report on a shadow: routes with different responses, and their times."""

from shadow import table


def test_differences_come_first_and_samples_of_all_load_balancers_are_merged() -> None:
    """There are two load balancers and two routes: the one that differs has its statuses, and both have times."""
    same = {"live_seconds": [0.010] * 99, "shadow_seconds": [0.020] * 99, "statuses": {"200 200": 99}}
    other = {"live_seconds": [0.010, 0.030], "shadow_seconds": [0.010, 0.5], "statuses": {"200 200": 1, "200 500": 1}}
    header, first, second = table([{"/v1/orders": same, "/v1/orders/{id}": other}, {"/v1/orders/{id}": other}])
    assert header.split()[:3] == ["route", "reads", "differ"]
    assert first.split() == ["/v1/orders/{id}", "4", "2", "30/30", "500/500", "200", "->", "500:", "2"]
    assert second.split() == ["/v1/orders", "99", "0", "10/10", "20/20"]


def test_report_without_reads_says_so() -> None:
    """An empty table would read as "no differences"."""
    (message,) = table([{}, {}])
    assert message.startswith("Nothing was compared")

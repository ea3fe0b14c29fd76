"""TradeFleet's trading application: `flask --app tradefleet run`, or gunicorn with `tradefleet:create_app()`.

This module keeps the names that files on hosts use: gunicorn's configuration names both. These files outlive a
release, and start an older or a newer one. Both are imported on first use, because the metrics listener needs neither
and would have three times the size.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradefleet.entrypoints.wsgi import create_app
    from tradefleet.platform import logs

__all__ = ["create_app", "logs"]


def __getattr__(name: str) -> Any:
    """Return one of the names in __all__."""
    if name == "create_app":
        from tradefleet.entrypoints.wsgi import create_app

        return create_app
    if name == "logs":
        from tradefleet.platform import logs

        return logs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

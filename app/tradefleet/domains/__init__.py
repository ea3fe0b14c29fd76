"""The registry: a domain is a folder next to this file, and one line in it.

Each domain declares what it adds in `register(app)` of its `__init__.py`: views and which of them are public, models,
event handlers, commands and settings. A domain uses another one through its `services` only, which `make lint` checks.
"""

from importlib import import_module

from tradefleet.platform import system
from tradefleet.platform.application import Application

DOMAINS = (
    "identity",
    "instruments",
    "orders",
    "activity",
    "pages",
)


def registered() -> Application:
    """Return what the platform and all domains declare. Nothing is read from the environment."""
    app = Application()
    system.register(app)
    for name in DOMAINS:
        import_module(f"{__name__}.{name}").register(app)
    return app

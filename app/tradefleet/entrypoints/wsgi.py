"""The application for a WSGI server."""

from collections.abc import Mapping
from typing import Any

from flask import Flask

from tradefleet.domains import registered
from tradefleet.platform.http import factory


def create_app(test_config: Mapping[str, Any] | None = None) -> Flask:
    """Return the application with every domain; see `factory.build`."""
    return factory.build(registered(), test_config)

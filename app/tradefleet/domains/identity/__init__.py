"""Traders, their API keys, and the trader in whose name a request is made."""

from tradefleet.domains.identity import models
from tradefleet.domains.identity.commands import api_key
from tradefleet.domains.identity.requests import identify
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the tables, the authentication of requests, and the operator's commands."""
    app.add_models(models.Trader, models.ApiKey, models.RevokedKey)
    app.identify_by(identify)
    app.add_command(api_key)

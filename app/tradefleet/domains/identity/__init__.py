"""Who may trade: traders, their API keys, and which trader a request acts for."""

from tradefleet.domains.identity import models
from tradefleet.domains.identity.commands import api_key
from tradefleet.domains.identity.requests import identify
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the tables, how a request is authenticated, and the operator's commands."""
    app.add_models(models.Trader, models.ApiKey, models.RevokedKey)
    app.identify_by(identify)
    app.add_command(api_key)

"""A domain that exists only in tests: it uses everything that a domain may declare.

It imports itself relatively, because linters read it here and it runs below `tradefleet.domains` (test_recipe.py).
"""

from tradefleet.domains.orders.services import ACCEPTED
from tradefleet.platform.application import Application

from . import commands, models, services, settings, views


def register(app: Application) -> None:
    """Declare one item of each kind."""
    app.add_models(models.Quote)
    app.add_views(views.blueprint, public=["list_quotes"])
    app.add_handler(ACCEPTED, services.note)
    app.add_command(commands.quotes)
    app.add_settings(settings.QuoteSettings)

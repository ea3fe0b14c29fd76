"""The instruments that can be traded."""

from tradefleet.domains.instruments import models, views
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the table, and the view, which is the same for everybody."""
    app.add_models(models.Instrument)
    app.add_views(views.blueprint, public=["list_instruments"])

"""The web page and its static files."""

from tradefleet.domains.pages import views
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the views, which are public."""
    app.add_views(views.blueprint, public=["index", "asset"])

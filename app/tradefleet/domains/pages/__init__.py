"""The page for people, and the files that it names."""

from tradefleet.domains.pages import views
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the views, which need no key."""
    app.add_views(views.blueprint, public=["index", "asset"])

"""TradeFleet's trading application: `flask --app tradefleet run`, or gunicorn with `tradefleet.wsgi:app`."""

import logging.config
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from tradefleet import hooks, logs, openapi, outbox, problems, schema, settings
from tradefleet.activity import views as activity_views
from tradefleet.auth import guard
from tradefleet.extensions import cache, db, replicas, state
from tradefleet.orders import views as order_views
from tradefleet.pages import views as page_views
from tradefleet.settings import Settings
from tradefleet.system import views as system_views

MAX_BODY_BYTES = 64 * 1024


def create_app(test_config: Mapping[str, Any] | None = None) -> Flask:
    """Return the application, configured from the environment.

    `test_config` updates Flask's own configuration; a `SETTINGS` in it replaces the environment, and an
    `INSTANCE_PATH` the folder of the SQLite file.

    Raises:
        tradefleet.settings.SettingsError: the environment is not usable.

    """
    given = dict(test_config or {})
    chosen: Settings = given.pop("SETTINGS", None) or settings.load()
    # Static files have names of their own (pages/views.py): Flask's route to them would be a second one.
    app = Flask(__name__, instance_path=given.pop("INSTANCE_PATH", None), static_folder=None)
    # A redirect to the same path with fewer slashes would carry the client's Host. A path has one spelling.
    app.url_map.merge_slashes = False
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, **given)
    logging.config.dictConfig(logs.config(chosen.log_level))

    app.extensions["settings"] = chosen
    db.init_app(app, chosen.database)
    state.init_app(app, chosen.redis, chosen.redis.service, chosen.redis.password)
    cache.init_app(app, chosen.redis, chosen.redis.cache_service, chosen.redis.cache_password)
    replicas.init_app(app)
    app.extensions["backlog"] = outbox.Backlog()
    problems.init_app(app)
    hooks.init_app(app, chosen)
    guard.init_app(app)
    for views in (system_views, openapi, order_views, activity_views, page_views):
        app.register_blueprint(views.blueprint)
    if chosen.trusted_proxies:
        count = chosen.trusted_proxies
        # how Flask documents WSGI middleware
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]

    if not chosen.database.hosts:
        # A development database: it is this process's own, so nobody else migrates it, and no former release needs it.
        Path(app.instance_path).mkdir(parents=True, exist_ok=True)
        with app.app_context():
            schema.upgrade(db.engine, finalize=True)
    return app

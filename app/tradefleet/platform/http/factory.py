"""The Flask application, built from what the domains declare and from the settings."""

import logging.config
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from prometheus_client import Gauge
from werkzeug.middleware.proxy_fix import ProxyFix

from tradefleet.platform import logs, settings
from tradefleet.platform.application import Application
from tradefleet.platform.events.outbox import Backlog
from tradefleet.platform.extensions import cache, db, replicas, state
from tradefleet.platform.http import guard, hooks, problems
from tradefleet.platform.postgres import migrator
from tradefleet.platform.settings import Settings

MAX_BODY_BYTES = 64 * 1024

_BUILD = Gauge(
    "tradefleet_build_info",
    "1, with the color and the release of the process as labels.",
    ["color", "release", "commit"],
    multiprocess_mode="livemax",
)


def build(application: Application, config: Mapping[str, Any] | None = None) -> Flask:
    """Return the application, configured from the environment.

    `config` updates Flask's own configuration; a `SETTINGS` in it replaces the environment, and an `INSTANCE_PATH` the
    folder of the SQLite file.

    Raises:
        tradefleet.platform.settings.SettingsError: the environment is not usable.
        ValueError: the declarations of the domains contradict each other.

    """
    given = dict(config or {})
    chosen: Settings = given.pop("SETTINGS", None) or settings.load(application.settings)
    # The domain pages serves static files; Flask's own route would be a second one.
    app = Flask("tradefleet", instance_path=given.pop("INSTANCE_PATH", None), static_folder=None)
    # No redirect to the same path with fewer slashes: it would contain the client's Host. A path has one spelling.
    app.url_map.merge_slashes = False
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, **given)
    logging.config.dictConfig(logs.config(chosen.log_level))

    _BUILD.labels(chosen.color, chosen.release.release, chosen.release.commit).set(1)
    app.extensions["settings"] = chosen
    app.extensions["backlog"] = Backlog()
    app.extensions["handlers"] = application.handlers
    db.init_app(app, chosen.database)
    state.init_app(app, chosen.redis, chosen.redis.service, chosen.redis.password)
    cache.init_app(app, chosen.redis, chosen.redis.cache_service, chosen.redis.cache_password)
    replicas.init_app(app)
    problems.init_app(app)
    hooks.init_app(app, chosen)
    _serve(app, application)
    if chosen.trusted_proxies:
        count = chosen.trusted_proxies
        # how Flask documents WSGI middleware
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]

    if not chosen.database.hosts:
        # A development database belongs to this process: nothing else migrates it, and no former release needs it.
        Path(app.instance_path).mkdir(parents=True, exist_ok=True)
        with app.app_context():
            migrator.upgrade(db.engine, finalize=True)
    return app


def _serve(app: Flask, application: Application) -> None:
    if application.identify is None:
        raise ValueError("no domain identifies the caller, so no route can require a key")
    guard.init_app(app, application.public, application.identify)
    for blueprint in application.blueprints:
        app.register_blueprint(blueprint)
    if unknown := application.public - set(app.view_functions):
        raise ValueError(f"declared as public, and no view: {', '.join(sorted(unknown))}")

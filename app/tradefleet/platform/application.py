"""The declarations of an application. Each domain adds its own before anything is read from the environment."""

from collections.abc import Callable, Collection

import click
from flask import Blueprint
from sqlalchemy.orm import Session

from tradefleet.platform.events.outbox import Event
from tradefleet.platform.http.guard import Identify
from tradefleet.platform.postgres.database import Base
from tradefleet.platform.postgres.migrator import APPLIED

# Applies the effect of an event, in the transaction that deletes it from the outbox.
Handler = Callable[[Session, Event], None]


class Application:
    """Declarations. A domain's `register` adds to them; the API, the worker, the commands and the migrations use them.

    `public` are the endpoints that need no key; `tables` contains the owner of each table: a domain, or the platform.
    """

    def __init__(self) -> None:
        """Start empty, except for the table of the migrations."""
        self.blueprints: list[Blueprint] = []
        self.public: set[str] = set()
        self.handlers: dict[str, list[Handler]] = {}
        self.commands: list[click.Command] = []
        self.settings: list[type] = []
        self.tables: dict[str, str] = {APPLIED.name: "platform"}
        self.identify: Identify | None = None

    def add_views(self, blueprint: Blueprint, *, public: Collection[str] = ()) -> None:
        """Serve the views of a blueprint. All of them need a key, except those named as public."""
        self.blueprints.append(blueprint)
        self.public.update(f"{blueprint.name}.{view}" for view in public)

    def add_models(self, *models: type[Base]) -> None:
        """Own the tables of these models."""
        for model in models:
            # tradefleet.domains.orders.models belongs to orders, tradefleet.platform.events.outbox to platform.
            _, layer, name, *_ = model.__module__.split(".")
            self.tables[model.__tablename__] = name if layer == "domains" else layer

    def add_handler(self, kind: str, handler: Handler) -> None:
        """Make the worker apply `handler` to each event of this kind, after the handlers that were added before."""
        self.handlers.setdefault(kind, []).append(handler)

    def add_command(self, command: click.Command) -> None:
        """Add a command to `tradefleet`, the operator's program."""
        self.commands.append(command)

    def add_settings(self, group: type) -> None:
        """Read the variables that a dataclass declares (variables.py)."""
        self.settings.append(group)

    def identify_by(self, identify: Identify) -> None:
        """Authenticate each request that needs a key with `identify`. Exactly one domain declares it."""
        if self.identify is not None:
            raise ValueError("two domains identify the caller; one has to")
        self.identify = identify

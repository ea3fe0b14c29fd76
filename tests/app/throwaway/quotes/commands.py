"""The operator's command for quotes."""

import click
from tradefleet.platform.commands import transact

from . import services


@click.command()
def quotes() -> None:
    """Print the number of quotes."""
    click.echo(transact(lambda session: services.count(session, 9), commit=False))

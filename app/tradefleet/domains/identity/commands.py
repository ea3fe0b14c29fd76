"""The operator's commands for keys: `tradefleet api-key`."""

import getpass
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import click
from sqlalchemy.orm import Session

from tradefleet.domains.identity import keys
from tradefleet.domains.identity.keys import Change, Changes, InvalidKeyError
from tradefleet.platform.commands import transact

_SYSLOG = "/dev/log"
# Facility 4, severity 6 (RFC 5424).
_AUTH_INFO = 4 * 8 + 6


@click.group("api-key")
def api_key() -> None:
    """Add, revoke and list the keys of traders. Keys are read from standard input."""


@api_key.command("add")
@click.option("--trader", required=True, help="The trader's name.")
def api_key_add(trader: str) -> None:
    """Give a trader the key on standard input; prints {"changed"}."""
    key = sys.stdin.read().strip()
    with _keys_errors():
        added = transact(lambda session: keys.add(session, trader, key))
    _audit("api key added", [added] if added else [])
    click.echo(json.dumps({"changed": added is not None}))


@api_key.command("revoke")
@click.option("--trader", help="Revoke every key of this trader.")
@click.option("--id", "key_id", help="Revoke the key with this id, see list.")
def api_key_revoke(trader: str | None, key_id: str | None) -> None:
    """Revoke the key on standard input, or what an option names; prints {"changed", "revoked"}.

    No host accepts the key 1 s later, and it can never be added again.
    """
    if trader is not None and key_id is not None:
        raise click.UsageError("give --trader or --id, not both")
    key = sys.stdin.read().strip() if trader is None and key_id is None else ""

    def work(session: Session) -> list[Change]:
        if trader is not None:
            return keys.revoke_trader(session, trader, _operator())
        if key_id is not None:
            return keys.revoke_id(session, key_id, _operator())
        return keys.revoke_key(session, key, _operator())

    with _keys_errors():
        revoked = transact(work)
    _audit("api key revoked", revoked)
    click.echo(json.dumps({"changed": bool(revoked), "revoked": [asdict(change) for change in revoked]}))


@api_key.command("sync")
def api_key_sync() -> None:
    """Add the keys in the list on standard input, and revoke those that it contained before and no longer contains.

    The list is JSON: [{"trader": NAME, "key": KEY}]. Prints {"changed", "added", "adopted", "revoked"}.
    """
    try:
        wanted = [(str(item["trader"]), str(item["key"])) for item in json.load(sys.stdin)]
    except (ValueError, TypeError, KeyError):
        # The text of these errors may contain a key.
        raise click.ClickException('write the list as [{"trader": NAME, "key": KEY}]') from None
    with _keys_errors():
        changes = transact(lambda session: keys.sync(session, wanted, f"{_operator()} (inventory)"))
    _audit("api key added", changes.added)
    _audit("api key adopted by the inventory", changes.adopted)
    _audit("api key revoked", changes.revoked)
    click.echo(json.dumps({"changed": changes != Changes([], [], []), **asdict(changes)}))


@api_key.command("list")
def api_key_list() -> None:
    """Print a line of JSON for each key, accepted or revoked. Keys themselves are stored nowhere."""
    with _keys_errors():
        for line in transact(keys.listing, commit=False):
            click.echo(json.dumps(line))


@contextmanager
def _keys_errors() -> Iterator[None]:
    try:
        yield
    except InvalidKeyError as error:
        raise click.ClickException(str(error)) from error


def _operator() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _audit(event: str, changes: Sequence[Change]) -> None:
    """Write to the host's log, independently of the command's own output."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host_log:
            host_log.connect(_SYSLOG)
            for change in changes:
                line = {"message": event, "trader": change.trader, "key_id": change.id, "operator": _operator()}
                host_log.send(f"<{_AUTH_INFO}>tradefleet: {json.dumps(line)}".encode())
    except OSError as error:
        click.echo(f"not written to the host's log ({_SYSLOG}): {error}", err=True)

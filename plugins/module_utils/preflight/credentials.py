"""Rules about secrets, certificates and API keys; no message contains a secret."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

from .fleet import Fleet, listed

KEY = r"(?=.{32,256}$)[A-Za-z0-9._~+/-]+=*"
TRADER = "[A-Za-z0-9._-]{1,64}"
NEW_KEY = "`openssl rand -hex 32`"


def vault(fleet: Fleet) -> Iterator[str]:
    """The vault contains every secret that the wiring reads."""
    missing = sorted(set(fleet.secrets) - set(fleet.vault))
    if missing:
        yield (
            f"The vault lacks {listed(missing)}. Type `make secrets ENV={fleet.inventory.name}`: it adds what is "
            f"missing to {fleet.variables}/vault.yml."
        )


def restic(fleet: Fleet) -> Iterator[str]:
    """The controller archives its files with restic, if a host of ops stores them."""
    if fleet.of("ops") and not shutil.which("restic"):
        yield (
            "The controller has no restic, with which it archives inventory, vault and CA on the first host of ops. "
            "Install it: `apt-get install restic`, or `make system`."
        )


def acme(fleet: Fleet) -> Iterator[str]:
    """A certificate from an ACME server needs a directory, an e-mail address, a host, and no other certificate."""
    directory, email, files = fleet.acme_directory, fleet.acme_email, fleet.variables
    good = re.fullmatch(r"(https://\S+)?", directory) and re.fullmatch(r"([^@\s]+@[^@\s]+)?", email)
    if not good or bool(directory) != bool(email):
        yield (
            f'acme_directory is "{directory}" and acme_email is "{email}": for a certificate from an ACME server set '
            "both, to the URL of its directory (https://…) and to an address, and for none neither. Correct them in "
            f"{files}/fleet.yml."
        )
    if not directory:
        return
    bought = [host for host in fleet.of("edge") if "nginx_tls_certificate_file" in fleet.hosts[host]]
    if bought:
        yield (
            f"The certificate of {listed(bought)} is set twice, by acme_directory and by nginx_tls_certificate_file. "
            f"Take acme_directory and acme_email out of {files}/fleet.yml, or nginx_tls_certificate_file and "
            f"nginx_tls_key_file out of {files.parent}/edge/."
        )
    if not fleet.of("ops"):
        yield (
            "acme_directory needs a host that gets the certificate: put one into group ops in "
            f"{fleet.inventory}/hosts.yml."
        )


def api_keys(fleet: Fleet) -> Iterator[str]:
    """The application accepts every key of app_api_keys, for one trader each; without the secrets none can be read."""
    if set(fleet.secrets) - set(fleet.vault):
        return
    lists: list[Any] = []
    for each in fleet.values("app", "app_api_keys", []):
        if each not in lists:
            lists.append(each)
    if len(lists) > 1:
        yield (
            "app_api_keys differs between the hosts of group app: each color would revoke the keys of the other. "
            f"Set it once, in {fleet.variables}/fleet.yml."
        )
    entries = [entry if isinstance(entry, dict) else {} for each in lists if isinstance(each, list) for entry in each]
    traders = [str(entry.get("trader", "")) for entry in entries]
    malformed = [trader for trader in traders if not re.fullmatch(TRADER, trader)]
    if malformed:
        yield (
            f"app_api_keys contains the trader `{'`, `'.join(malformed)}`; a name is 1 to 64 letters, digits, dots, "
            f"underscores or hyphens. Correct it in {fleet.variables}/fleet.yml."
        )
    sound = [entry for entry in entries if re.fullmatch(KEY, str(entry.get("key", "")))]
    rejected = [entry.get("trader", "nobody") for entry in entries if entry not in sound]
    if rejected:
        yield (
            f"app_api_keys contains a key of {listed(dict.fromkeys(rejected))} that the API would reject: a key is 32 "
            "to 256 characters out of A-Z, a-z, 0-9 and -._~+/, with = only at its end. Write one made by "
            f"{NEW_KEY} to {fleet.variables}/vault.yml."
        )
    owners: dict[str, list[str]] = {}
    for entry in sound:
        owners.setdefault(str(entry["key"]), []).append(str(entry.get("trader", "")))
    shared = dict.fromkeys(trader for each in owners.values() if len(each) > 1 for trader in each)
    if shared and len(lists) == 1:
        yield (
            f"app_api_keys contains one key twice, for {' and '.join(shared)}. Give each entry a key of its own, made "
            f"by {NEW_KEY}, in {fleet.variables}/vault.yml."
        )


RULES = (vault, restic, acme, api_keys)

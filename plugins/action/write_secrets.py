"""Ansible action: adds secrets to a vault, or gives them new values, and changes nothing else in it.

This is an action because only an action has the vault passwords as Ansible read them: from a file, a program, a prompt,
or several of these.
"""

from __future__ import annotations

import json
import os
import secrets
import string
import tempfile
from pathlib import Path
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import is_encrypted, match_encrypt_secret
from ansible.plugins.action import ActionBase


def fresh() -> str:
    """Return a new secret, quoted."""
    return '"' + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(40)) + '"'


def values(text: str) -> dict[str, yaml.Node]:
    """Return the node of each variable's value."""
    top = yaml.compose(text, yaml.SafeLoader)
    if top is None:
        return {}
    if not isinstance(top, yaml.MappingNode) or top.flow_style:
        raise ValueError("must have a line `name: value` for each variable")
    return {key.value: value for key, value in top.value}


def edited(text: str, add: list[str], rotate: dict[str, str], withdraw: list[str]) -> str:
    """Return a vault's text with secrets added, rotated or withdrawn.

    NAME_previous of a rotated secret keeps the present value as it is written here, or the value in `rotate` if another
    file has it. NAME_previous of a withdrawn secret becomes empty.
    """
    found = values(text)
    wanted = {name: fresh() for name in [*(each for each in add if each not in found), *rotate]}
    for name, present in rotate.items():
        node = found.get(name)
        here = text[node.start_mark.index : node.end_mark.index].rstrip("\n") if node else json.dumps(present)
        wanted[f"{name}_previous"] = here
    wanted |= {f"{name}_previous": '""' for name in withdraw if f"{name}_previous" in found}
    # From the end to the start, so that earlier positions stay valid.
    for name in sorted(set(wanted) & set(found), key=lambda each: -found[each].start_mark.index):
        end = found[name].end_mark.index
        old = text[found[name].start_mark.index : end]
        text = text[: found[name].start_mark.index] + wanted[name] + old[len(old.rstrip("\n")) :] + text[end:]
    if text and not text.endswith("\n"):
        text += "\n"
    text = (text or "---\n") + "".join(f"{name}: {value}\n" for name, value in wanted.items() if name not in found)
    if set(values(text)) != set(found) | set(wanted):
        raise ValueError("cannot be extended as it is written; give each variable a line of its own")
    return text


class ActionModule(ActionBase):  # type: ignore[misc]  # (Ansible has no types)
    """One vault file."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the file if something is missing or must change."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        lists = {name: {"type": "list", "elements": "str", "default": []} for name in ("add", "rotate", "withdraw")}
        _, given = self.validate_argument_spec({"path": {"type": "path", "required": True}} | lists)
        path = Path(os.path.realpath(given["path"]))
        vault = self._loader._vault
        if not vault.secrets:
            raise AnsibleActionFail(
                "No vault password. Type `make secrets ENV=…`, or name one as for any playbook: "
                "ANSIBLE_VAULT_PASSWORD_FILE, --vault-password-file or --vault-id."
            )
        label, before = None, path.read_bytes() if path.exists() else b""
        if is_encrypted(before):
            header = before.splitlines()[0].decode().split(";")
            label = header[3] if len(header) > 3 else None
            plain, _, secret = vault.decrypt_and_get_vault_id(before)
        else:
            label, secret = match_encrypt_secret(
                vault.secrets, constants.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY")
            )
            plain = before
        try:
            rotate = {name: str((task_vars or {})[name]) for name in given["rotate"]}
            text = edited(bytes(plain).decode(), given["add"], rotate, given["withdraw"])
        except (ValueError, yaml.YAMLError) as error:
            raise AnsibleActionFail(f"{path} {error}. Nothing was changed.") from error
        result["changed"] = text.encode() != bytes(plain)
        if result["changed"] and not self._task.check_mode:
            replace(path, vault.encrypt(text, secret=secret, vault_id=None if label == "default" else label))
        return result


def replace(path: Path, content: bytes) -> None:
    """Replace a file and keep its owner and mode; a new file is readable by this user only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".vault-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
                os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise

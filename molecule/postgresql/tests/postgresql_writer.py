"""A client that writes rows to the primary, and the rows that were acknowledged and stored."""

import subprocess

from postgresql_cluster import ADDRESSES, PASSWORDS, local, member

# One new connection for each row: the client knows only what libpq reports about a commit.
WRITER = """
rm -f /tmp/stop
row=0
until [ -e /tmp/stop ]; do
  row=$((row + 1))
  timeout 5 psql --no-psqlrc --quiet --command "INSERT INTO ledger VALUES ($row)" &&
    echo "$row $(date +%s.%N)" >> /tmp/acknowledged
done
"""


def start_writer(name: str) -> subprocess.Popen[bytes]:
    """Start writing from a member to the current primary."""
    environment = {
        "PGHOST": ",".join(ADDRESSES.values()),
        "PGUSER": "app",
        "PGPASSWORD": PASSWORDS["app"],
        "PGDATABASE": "trading",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/etc/ssl/tradefleet/ca.crt",
        "PGTARGETSESSIONATTRS": "read-write",
        "PGCONNECT_TIMEOUT": "2",
    }
    options = [f"--env={key}={value}" for key, value in environment.items()]
    command = ["podman", "exec", *options, f"tf-{name}", "bash", "-c", WRITER]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def acknowledged(name: str) -> dict[int, float]:
    """Return the rows whose commit was acknowledged to the writer, and when."""
    lines = member(name).check_output("cat /tmp/acknowledged").splitlines()
    return {int(row): float(when) for row, when in (line.split() for line in lines)}


def rows(name: str) -> set[int]:
    """Return the rows of a member."""
    return {int(row) for row in local(member(name), "SELECT id FROM ledger", "trading").split()}

"""The drills: the fault, and the bounds on what clients may notice."""

import os

import abuse
import balancers
import control_plane
import disks
import faults
import memory
import outages
import redis_faults
import releases
import replicas
import upkeep
import verdicts
from drill import Drill
from lab import QUIET, VIP

# Requests in flight on a host that fails: at most half the meter's clients.
IN_FLIGHT = 8
# Requests of a tenth of the clients that a release failing one in twenty may fail until it is withdrawn.
WORSE = 45
# Through the virtual IP only, instead of both load balancers at once. With many clients, some are between two requests
# at any moment. The load balancer that gets the address does not know their kept connections: each is reset once.
KEPT = 32
BY_VIP = {"targets": (VIP,), "clients": str(KEPT)}

# A failed primary's lease ends after ttl = 20 s. If etcd's leader were on the same host, the next one would grant every
# lease its full time again (27.7 s measured); etcd-yield keeps it away.
DRILLS = (
    Drill("postgres-killed", "kill -9 of PostgreSQL on the primary", faults.postmaster_killed, 6, 6, None, None),
    Drill("patroni-killed", "kill -9 of Patroni on the primary", faults.patroni_killed, 6, 6, None, None),
    Drill("postmaster-stopped", "SIGSTOP of the postmaster for 60 s", faults.postmaster_stopped, 9, 9, None, None),
    Drill("patroni-stopped", "SIGSTOP of Patroni on the primary for 60 s", faults.patroni_stopped, 30, 30, None, None),
    Drill("primary-off", "power-off of the primary's host", faults.primary_off, 30, 30, None, None),
    Drill("primary-off-normal", "the same with the plan `normal`", upkeep.primary_off_normal, 45, 45, None, None),
    Drill("primary-off-wide", "the same with the plan `wide`", upkeep.primary_off_wide, 110, 110, None, None),
    Drill(
        "primary-frozen",
        "the primary's host frozen for 60 s (30 s in `make test`)",
        faults.primary_frozen,
        30,
        30,
        None,
        None,
    ),
    Drill("primary-cut", "the primary's network to the other two cut for 60 s", faults.primary_cut, 30, 30, None, None),
    Drill("standby-off", "power-off of the synchronous standby's host", faults.standby_off, 9, 9, 0, 0),
    Drill("standby-frozen", "the synchronous standby's host frozen for 30 s", faults.standby_frozen, 9, 9, None, 0),
    Drill("replica-off", "power-off of the asynchronous replica's host", faults.replica_off, 2, 2, 0, 0),
    Drill(
        "replica-cut", "the asynchronous replica's network to the others cut for 60 s", faults.replica_cut, 2, 2, 0, 0
    ),
    # No write is acknowledged while it is full, or until PostgreSQL stops and another member leads.
    Drill("disk-full", "the primary's disk full for 60 s", disks.primary_full, 95, 6, None, None),
    Drill("switchover", "a planned switchover", upkeep.switchover, 5, 5, 0, 0),
    Drill(
        "setting-rolled",
        "a setting that needs a restart, changed and changed back",
        upkeep.setting_rolled,
        6,
        6,
        0,
        0,
    ),
    Drill("minor-upgrade", "a minor upgrade of all members", upkeep.minor_upgrade, 6, 6, 0, 0),
    Drill("replica-added", "a fourth data host added and removed", replicas.come_and_go, 2, 2, 0, 0),
    Drill("password-rotated", "the application's password changed, both colors", upkeep.password_rotated, 2, 2, 0, 0),
    Drill("etcd-member", "one etcd member stopped for 60 s", faults.etcd_member_stopped, 2, 2, 0, 0),
    Drill("etcd-majority", "two etcd members stopped for 60 s", faults.etcd_majority_stopped, 2, 2, 0, 0),
    Drill(
        "etcd-wobbles",
        "etcd disturbed for 3 minutes, without a majority for 95 s",
        control_plane.wobbles_fast,
        2,
        2,
        0,
        0,
    ),
    Drill("etcd-wobbles-normal", "the same with the plan `normal`", control_plane.wobbles_normal, 2, 2, 0, 0),
    Drill("etcd-wobbles-wide", "the same with the plan `wide`", control_plane.wobbles_wide, 2, 2, 0, 0),
    # The host does not respond until the kernel acts: after ttl = 20 s another one leads.
    Drill(
        "memory-full", "a session uses all memory of the primary's host", memory.session_takes_all, 30, 15, None, None
    ),
    Drill(
        "packages-reinstalled",
        "Patroni, etcd, PgBouncer and Redis reinstalled on all data hosts at once",
        upkeep.packages_reinstalled,
        9,
        9,
        0,
        0,
    ),
    Drill("all-off", "power-off of all hosts at once", outages.all_off, 60, 60, None, None),
    Drill(
        "all-off-one-late",
        "the same, one data host 3 minutes late",
        outages.all_off_one_late,
        60,
        60,
        None,
        None,
    ),
    Drill(
        "all-off-leader-last",
        "the same, the former primary's host a minute late",
        outages.all_off_leader_last,
        90,
        90,
        None,
        None,
    ),
    Drill("redis-killed", "kill -9 of Redis on its primary", redis_faults.redis_killed, 2, 2, 0, 0),
    Drill("redis-stopped", "SIGSTOP of Redis on its primary for 60 s", redis_faults.redis_stopped, 2, 2, 0, 0),
    Drill("cache-killed", "kill -9 of the cache on its primary", redis_faults.cache_killed, 2, 2, 0, 0),
    Drill("redis-off", "power-off of the Redis primary's host", redis_faults.redis_primary_off, 9, 9, None, 0),
    Drill("redis-frozen", "the Redis primary's host frozen for 60 s", redis_faults.redis_primary_frozen, 9, 9, None, 0),
    Drill(
        "redis-cut",
        "the Redis primary's network to the other two cut for 60 s",
        redis_faults.redis_primary_cut,
        9,
        2,
        None,
        0,
    ),
    Drill("redis-gone", "every Redis and Sentinel stopped for 60 s", redis_faults.redis_gone, 2, 2, 0, 0),
    Drill("haproxy-killed", "kill -9 of haproxy on one application host", faults.haproxy_killed, 3, 3, 0, 0),
    Drill("gunicorn-killed", "kill -9 of gunicorn on one host", faults.gunicorn_killed, 2, 2, IN_FLIGHT, IN_FLIGHT),
    Drill("app-off", "power-off of one application host", faults.app_host_off, 2, 2, None, IN_FLIGHT),
    # Clients of the failed host wait for a timeout; the gap is that of all other clients.
    Drill(
        "nginx-killed",
        "kill -9 of nginx on the host with the virtual IP",
        balancers.nginx_killed,
        2,
        2,
        None,
        None,
        load=BY_VIP,
    ),
    Drill(
        "keepalived-stopped",
        "keepalived stopped on the host with the virtual IP",
        balancers.keepalived_stopped,
        0.5,
        0.5,
        KEPT,
        KEPT,
        load=BY_VIP,
    ),
    Drill(
        "balancer-off",
        "power-off of the host with the virtual IP",
        balancers.balancer_off,
        1.5,
        1.5,
        None,
        None,
        load=BY_VIP,
    ),
    Drill(
        "balancers-rebooted",
        "both load balancers rebooted, one after the other",
        balancers.balancers_rebooted,
        2,
        2,
        None,
        None,
        load=BY_VIP,
    ),
    Drill("cutovers", "cutovers in a row", releases.cutovers, 1, 1, 0, 0),
    Drill("canary-steps", "twenty canary shares in a row", releases.canary_steps, 1, 1, 0, 0),
    Drill(
        "canary-equal",
        "an equal release promoted by canaries, ten times",
        verdicts.canary_equal,
        1,
        1,
        0,
        0,
        load={"rate": 100},
    ),
    Drill(
        "canary-slow",
        "a canary of 10 % with a release that takes 50 ms longer",
        verdicts.canary_slow,
        1,
        1,
        0,
        0,
        load={"rate": 100},
    ),
    Drill(
        "canary-errors",
        "a canary of 10 % with a release that fails 5 % of its requests",
        verdicts.canary_errors,
        1,
        1,
        WORSE,
        WORSE,
        load={"rate": 100},
    ),
    # The table of 1 GB, which the drill creates for it, delays writes. The backups do not.
    Drill("backup", "a full backup of 1 GB, three times", verdicts.backup, 4, 1, 0, 0, load={"rate": QUIET}),
    Drill("shadow", "a shadow of 5 % of the reads, five times", verdicts.shadow, 1, 1, 0, 0, load={"rate": QUIET}),
    # Its two reloads of lb1 would reset kept connections.
    Drill(
        "flood",
        "a thousand requests a second from one address",
        abuse.flood,
        1,
        1,
        0,
        0,
        load={"rate": QUIET, "new_connection_share": "1"},
    ),
    Drill(
        "expensive-requests",
        "200 requests a second from one address, as expensive as possible for the WAF",
        abuse.expensive,
        1,
        1,
        0,
        0,
        load={"rate": QUIET, "new_connection_share": "1"},
    ),
    Drill("slowloris", "two thousand connections with requests that never end", abuse.slowloris, 1, 1, 0, 0),
    Drill(
        "reloads",
        "twenty reloads of both load balancers, clients with new connections",
        releases.reloads,
        1,
        1,
        0,
        0,
        load={"new_connection_share": "1"},
    ),
    # nginx before 1.27.4 resets a connection if a request arrives while nginx closes it. These resets are counted; no
    # playbook reloads an unchanged configuration.
    Drill(
        "reloads-kept",
        "the same, clients with kept connections",
        releases.reloads,
        1,
        1,
        None,
        None,
        load={"new_connection_share": "0"},
    ),
    Drill("data-in-turn", "power-off of one data host after another, ten times", faults.in_turn, 30, 30, None, None),
)
# The drills that `make test` runs.
TELLING = ("postgres-killed", "primary-off", "primary-frozen", "redis-off", "app-off")


# Drills with the second site (test_sites.py).
SITES = ("site-behind", "site-moved", "site-lost")


def sites() -> tuple[str, ...]:
    """Return the drills with the second site that DRILL names."""
    wanted = os.environ.get("DRILL", "")
    return SITES if wanted == "all" else tuple(name for name in SITES if name == wanted)


def chosen() -> tuple[Drill, ...]:
    """Return the drills that DRILL names: one, all, or the most telling ones if it is not set.

    Raises:
        KeyError: no drill has that name.

    """
    wanted = os.environ.get("DRILL", "")
    if wanted == "all":
        return DRILLS
    if wanted in SITES:
        return ()
    by_name = {drill.name: drill for drill in DRILLS}
    if wanted and wanted not in by_name:
        raise KeyError(f"DRILL={wanted} is none of: all, {', '.join((*by_name, *SITES))}")
    return tuple(by_name[name] for name in ([wanted] if wanted else TELLING))

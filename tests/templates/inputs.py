"""Inputs like those of an inventory: for each role, the variables that its templates require."""

from typing import Any

MEMBERS = {"data1": "10.0.0.41", "data2": "10.0.0.42", "data3": "10.0.0.43"}
ADDRESSES = list(MEMBERS.values())

INPUTS: dict[str, dict[str, Any]] = {
    "acme": {
        "acme_directory": "https://acme.example/dir",
        "acme_email": "ops@trade.example",
        "acme_names": ["trade.example"],
        "acme_issuer": "10.0.0.51",
        "acme_receivers": ["10.0.0.11", "10.0.0.12"],
        "acme_address": "10.0.0.11",
    },
    "app": {
        "app_color": "green",
        "app_address": "10.0.0.31",
        "app_database_hosts": ADDRESSES,
        "app_database_port": 6432,
        "app_database_password": "secret-app",
        "app_database_owner_password": "secret-owner",
        "app_redis_sentinels": ADDRESSES,
        "app_redis_password": "secret-redis",
        "app_redis_cache_password": "secret-redis-cache",
        "app_sentinel_password": "secret-sentinel",
    },
    "base": {
        "base_operators": [
            {"name": "alex", "sudo": True, "keys": []},
            {"name": "kim", "keys": []},
            {"name": "former", "sudo": True, "state": "absent"},
        ],
    },
    "haproxy": {
        "haproxy_servers": MEMBERS,
        "haproxy_tls_ca_file": "/x/ca.crt",
        "__haproxy_ca": {"stat": {"checksum": "checksum of the CA"}},
    },
    "keepalived": {
        "inventory_hostname": "lb2",
        "keepalived_vip": "10.0.0.10",
        "keepalived_hosts": ["10.0.0.11", "10.0.0.12", "10.0.0.13"],
        "keepalived_address": "10.0.0.12",
        "__keepalived_found": {"stdout": '[{"ifname": "ens3"}]'},
    },
    "etcd": {
        "inventory_hostname": "data1",
        "etcd_members": MEMBERS,
        "etcd_root_password": 'secret-root"$1',
        "etcd_users": [{"name": "patroni", "password": "secret-patroni", "prefixes": ["/service/tradefleet/"]}],
        "__etcd_initial_state": "existing",
        "__etcd_initial_members": {"data1": "https://10.0.0.41:2380", "old": "https://10.0.0.49:2380"},
    },
    "nginx": {
        "nginx_server_name": "trade.example",
        "nginx_upstreams": {"blue": ["10.0.0.21", "10.0.0.22"], "green": []},
        "nginx_live_color": "blue",
        "__nginx_certificate": {"stat": {"checksum": "checksum of the certificate"}},
    },
    "pgbackrest": {
        "pgbackrest_address": "10.0.0.51",
        "pgbackrest_repository_address": "10.0.0.51",
        "pgbackrest_members": MEMBERS,
        "pgbackrest_peers": ["backup.data1.trade.example", "backup.data2.trade.example"],
        "pgbackrest_passphrase": "secret-passphrase",
        "pgbackrest_second_repository": {
            "type": "s3",
            "host": "s3.example.com",
            "path": "/trade",
            "user": "key-id",
            "bucket": "backups",
            "region": "eu-1",
        },
        "pgbackrest_second_secret": "secret-second",
        "__pgbackrest_restore": {"name": "restore-scratch", "command": "serve", "stays": "yes", "what": "A moment"},
        "__pgbackrest_timer": {"key": "restore-drill", "value": {"calendar": "daily", "what": "Scheduled drill"}},
    },
    "pgbouncer": {
        "pgbouncer_address": "10.0.0.41",
        "pgbouncer_databases": ["trading"],
        "pgbouncer_roles": [{"name": "app", "pool_size": 30}, {"name": "report", "max_clients": 7}],
        "pgbouncer_client_addresses": ["10.0.0.21", "10.0.9.0/24"],
        "pgbouncer_auth_password": "secret-pooler",
    },
    "postgresql": {
        "inventory_hostname": "data1",
        "ansible_facts": {"memtotal_mb": 16384},
        "__postgresql_watchdog": {"stat": {"exists": False}},
        "postgresql_members": MEMBERS,
        "postgresql_etcd_hosts": ADDRESSES,
        "postgresql_etcd_user": "patroni",
        "postgresql_etcd_password": "27182818",
        "postgresql_client_addresses": ["10.0.0.21", "10.0.9.0/24"],
        "postgresql_superuser_password": "secret-superuser: '#\"",
        "postgresql_replication_password": "secret-replication",
        "postgresql_rewind_password": "secret-rewind",
        "postgresql_rest_password": "31415926535897",
        "postgresql_databases": [
            {"name": "trading", "owner": "keeper", "writers": ["app", "trade"], "readers": ["report"]}
        ],
        "postgresql_roles": [
            {"name": "keeper", "password": "secret-keeper"},
            {"name": "trade", "login": False},
            {"name": "app", "password": "secret-app", "pooled": True},
            {"name": "report", "password": "secret-report", "addresses": ["10.0.8.0/24"]},
        ],
        "postgresql_pooler_password": "secret-pooler",
        "postgresql_parameters": {"log_min_duration_statement": "250ms", "work_mem": "9MB"},
    },
    "redis": {
        "ansible_host": "10.0.0.42",
        "redis_hosts": ADDRESSES,
        "redis_app_password": "secret-app",
        "redis_replica_password": "secret-replica",
        "redis_sentinel_password": "secret-sentinel",
        "redis_admin_password": "secret-admin",
        "redis_cache_app_password": "secret-cache-app",
        "redis_backup_password": "secret-backup",
        "__redis_instance": "state",
        "__redis_roles": {"results": []},
    },
    "sentinel": {
        "ansible_host": "10.0.0.42",
        "sentinel_redis_hosts": ADDRESSES,
        "sentinel_redis_password": "secret-redis",
        "sentinel_app_password": "secret-app",
        "sentinel_peer_password": "secret-peer",
        "sentinel_admin_password": "secret-admin",
    },
}

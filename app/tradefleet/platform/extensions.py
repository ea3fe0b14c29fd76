"""The extensions; `create_app` binds them."""

from tradefleet.platform.postgres.database import Database
from tradefleet.platform.postgres.replicas import Replicas
from tradefleet.platform.redis.store import Store

db = Database()
# Copies of data in the database. Redis drops them when it is full or restarts.
cache = Store("cache")
# Data that exists only here and must not be lost before it expires.
state = Store("state")
replicas = Replicas(db, state)

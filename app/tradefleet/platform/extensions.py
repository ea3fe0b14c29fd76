"""The extensions; `create_app` binds them."""

from tradefleet.platform.postgres.database import Database
from tradefleet.platform.postgres.replicas import Replicas
from tradefleet.platform.redis.store import Store

db = Database()
# Copies of what the database knows. Redis forgets them when it is full or starts again.
cache = Store("cache")
# What nobody else knows, and what is wrong when it is forgotten before its time.
state = Store("state")
replicas = Replicas(db, state)

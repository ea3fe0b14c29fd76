"""The extensions; `create_app` binds them."""

from tradefleet.cache import Cache
from tradefleet.database import Database
from tradefleet.replicas import Replicas

db = Database()
cache = Cache()
replicas = Replicas(db, cache)

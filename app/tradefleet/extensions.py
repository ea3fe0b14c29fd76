"""The extensions; `create_app` binds them."""

from tradefleet.cache import Cache
from tradefleet.database import Database

db = Database()
cache = Cache()

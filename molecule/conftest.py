"""What the tests of all scenarios have in common."""

from testinfra.backend import BACKENDS

BACKENDS["podman"] = "inside.Backend"

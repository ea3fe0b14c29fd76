"""Shared setup of the tests of all scenarios."""

from testinfra.backend import BACKENDS

BACKENDS["podman"] = "inside.Backend"

"""Fixtures that every level of tests may use; each is defined in tests/support/."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.support.api_server",
    "tests.support.api",
    "tests.support.image_manager",
    "tests.support.machine",
    "tests.support.native",
    "tests.support.registry",
    "tests.support.small_disk",
]

# A busy machine makes an example slow; that says nothing about the code. CI tries the same examples every time.
settings.register_profile(
    "podling", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("podling")

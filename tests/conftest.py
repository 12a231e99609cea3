"""Fixtures that every level of tests may use; each is defined in tests/support/."""

pytest_plugins = ["tests.support.api", "tests.support.registry"]

"""Fixtures shared by the tests, one module per thing that they provide."""

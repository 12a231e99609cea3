"""Subresources, one module each. Each has `handle(call) -> response`."""

"""The verbs that every resource has, one module each. Each has `handle(call) -> response`."""

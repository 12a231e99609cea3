"""Defaulting of API objects as upstream Kubernetes 1.36 (pkg/apis/core/v1/defaults.go)."""

from podling.api.defaults.dispatch import apply
from podling.api.defaults.pod import apply_pod_spec

__all__ = ["apply", "apply_pod_spec"]

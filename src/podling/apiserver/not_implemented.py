"""What Kubernetes 1.36 serves and Podling does not yet: refused with upstream's code for what is missing, and by name.

Source: Kubernetes API reference 1.36. What is served is never looked up here, so a line may stay when its kind comes.
"""

from __future__ import annotations

from podling.api import status
from podling.api.status import ApiError
from podling.apiserver.routing import RequestInfo

_RESOURCES = {
    "": "componentstatuses limitranges persistentvolumeclaims persistentvolumes podtemplates replicationcontrollers "
    "resourcequotas",
    "admissionregistration.k8s.io": "mutatingadmissionpolicies mutatingadmissionpolicybindings "
    "mutatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings "
    "validatingwebhookconfigurations",
    "apiextensions.k8s.io": "customresourcedefinitions",
    "apiregistration.k8s.io": "apiservices",
    "apps": "controllerrevisions daemonsets deployments replicasets statefulsets",
    "autoscaling": "horizontalpodautoscalers",
    "batch": "cronjobs jobs",
    "certificates.k8s.io": "certificatesigningrequests",
    "discovery.k8s.io": "endpointslices",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "networking.k8s.io": "ingressclasses ingresses ipaddresses networkpolicies servicecidrs",
    "node.k8s.io": "runtimeclasses",
    "policy": "poddisruptionbudgets",
    "rbac.authorization.k8s.io": "clusterrolebindings clusterroles rolebindings roles",
    "resource.k8s.io": "deviceclasses resourceclaims resourceclaimtemplates resourceslices",
    "scheduling.k8s.io": "priorityclasses",
    "storage.k8s.io": "csidrivers csinodes csistoragecapacities storageclasses volumeattachments "
    "volumeattributesclasses",
}
_NAMES = {group: frozenset(names.split()) for group, names in _RESOURCES.items()}
_VERSIONS = frozenset({"v1", "v2"})
_SUBRESOURCES = frozenset(
    {
        ("pods", "attach"),
        ("pods", "ephemeralcontainers"),
        ("pods", "exec"),
        ("pods", "portforward"),
        ("pods", "proxy"),
        ("pods", "resize"),
        ("services", "proxy"),
        ("nodes", "proxy"),
    }
)
_STREAMS = frozenset({("pods", "attach"), ("pods", "exec")})


def refusal(info: RequestInfo) -> ApiError:
    """Return the answer to a request for a resource or subresource that is not served: 404, or 501 for exec and attach."""
    pair = (info.resource, info.subresource)
    if not info.group and info.version == "v1" and pair in _SUBRESOURCES:
        return status.not_implemented(f"{info.resource}/{info.subresource}", stream=pair in _STREAMS)
    # Which of these kinds have which subresource is not known here.
    if not info.subresource and info.version in _VERSIONS and info.resource in _NAMES.get(info.group, ()):
        return status.not_implemented(f"{info.resource}.{info.group}".rstrip("."))
    return status.no_route()

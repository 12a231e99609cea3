"""Names of the Pod on the network: DNS policy and configuration, host aliases, host name."""

from __future__ import annotations

from podling.api import field, names
from podling.api.core.v1 import PodSpec
from podling.api.field import FieldError, Path
from podling.api.validation import meta
from podling.api.validation.ip import valid_ip

_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_CHARACTERS = 2048
_MAX_HOSTNAME = 64


def policy(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    if not spec.dns_policy:
        errors.append(field.required(path, ""))
    elif spec.dns_policy not in _POLICIES:
        errors.append(field.not_supported(path, spec.dns_policy, _POLICIES))


def config(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    dns = spec.dns_config
    if spec.dns_policy == "None":
        if dns is None:
            errors.append(field.required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not dns.nameservers:
            message = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.append(field.required(path.child("nameservers"), message))
            return
    if dns is None:
        return
    at = path.child("nameservers")
    if len(dns.nameservers) > _MAX_NAMESERVERS:
        message = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.append(field.invalid(at, dns.nameservers, message))
    for i, server in enumerate(dns.nameservers):
        valid_ip(server, at.index(i), errors)
    at = path.child("searches")
    if len(dns.searches) > _MAX_SEARCHES:
        errors.append(field.invalid(at, dns.searches, f"must not have more than {_MAX_SEARCHES} search paths"))
    if len(" ".join(dns.searches)) > _MAX_SEARCH_CHARACTERS:
        message = f"must not have more than {_MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        errors.append(field.invalid(at, dns.searches, message))
    for i, search in enumerate(dns.searches):
        if search == ".":
            continue
        domain = search.removesuffix(".")
        errors.extend(
            field.invalid(at.index(i), domain, message) for message in names.dns1123_subdomain_with_underscore(domain)
        )
    for i, option in enumerate(dns.options):
        if not option.name:
            errors.append(field.required(path.child("options").index(i), "must not be empty"))


def host_aliases(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    for i, alias in enumerate(spec.host_aliases):
        at = path.index(i)
        valid_ip(alias.ip, at.child("ip"), errors)
        for j, name in enumerate(alias.hostnames):
            meta.dns1123_subdomain(name, at.child("hostnames").index(j), errors)


def hostname(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """`path` is the PodSpec's."""
    if spec.hostname:
        meta.dns1123_label(spec.hostname, path.child("hostname"), errors)
    if spec.subdomain:
        meta.dns1123_label(spec.subdomain, path.child("subdomain"), errors)
    override = spec.hostname_override
    if override is None:
        return
    at = path.child("hostnameOverride")
    if spec.set_hostname_as_fqdn:
        errors.append(field.forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
    if spec.host_network:
        errors.append(field.forbidden(at, "may not be specified when hostNetwork is true"))
    if len(override) > _MAX_HOSTNAME:
        errors.append(field.too_long(at, _MAX_HOSTNAME))
    meta.dns1123_subdomain(override, at, errors)

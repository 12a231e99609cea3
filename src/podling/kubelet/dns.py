"""What /etc/resolv.conf, /etc/hosts and the hostname of a Pod are.

Source: Kubernetes documentation "DNS for Services and Pods" (DNS policies, DNS config, hostname fields), "Adding entries to
Pod /etc/hosts with HostAliases"; resolv.conf(5).
"""

from __future__ import annotations

from pathlib import Path

from podling.api.core.v1 import Pod
from podling.runtime.protocol import CRIError, DNSConfig

_HOSTNAME_MAX = 63
_FQDN_MAX = 64
"""Of the kernel's host name."""
_MAX_SERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_LINE = 2048
_STUB_RESOLVER = "127.0.0.53"
_RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")

_HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
_HOST_NETWORK_HEADER = "# Kubernetes-managed hosts file (host network).\n"


def hostname(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    """Hostname and domain ("" without a subdomain) of a Pod that has a UTS namespace of its own."""
    if pod.spec.hostname_override:
        return pod.spec.hostname_override, ""
    name = pod.spec.hostname or pod.metadata.name[:_HOSTNAME_MAX].rstrip("-.")
    if not pod.spec.subdomain:
        return name, ""
    return name, f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}"


def uts_hostname(pod: Pod, cluster_domain: str) -> str:
    """What the kernel answers to gethostname() in the Pod; empty in the host's network.

    Raises CRIError for a full name that is longer than the kernel takes.
    """
    if pod.spec.host_network and not pod.spec.hostname_override:
        return ""
    name, domain = hostname(pod, cluster_domain)
    if not (pod.spec.set_hostname_as_fqdn and domain):
        return name
    full = f"{name}.{domain}"
    if len(full) > _FQDN_MAX:
        text = f"{full} is too long ({_FQDN_MAX} characters is the max, {len(full)} characters requested)"
        raise CRIError("InvalidHostname", f"failed to construct FQDN from pod hostname and cluster domain, FQDN {text}")
    return full


def etc_hosts(pod: Pod, pod_ips: list[str], cluster_domain: str, host_file: Path = Path("/etc/hosts")) -> str:
    """The content of the Pod's /etc/hosts."""
    if pod.spec.host_network:
        try:
            content = _HOST_NETWORK_HEADER + host_file.read_text(errors="surrogateescape")
        except FileNotFoundError:
            content = _HOST_NETWORK_HEADER
    else:
        name, domain = hostname(pod, cluster_domain)
        names = f"{name}.{domain}\t{name}" if domain else name
        content = _HOSTS + "".join(f"{ip}\t{names}\n" for ip in pod_ips)
    if pod.spec.host_aliases:
        lines = [f"{alias.ip}\t" + "\t".join(alias.hostnames) for alias in pod.spec.host_aliases]
        content += "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"
    return content


def host_resolver(path: Path = Path("/etc/resolv.conf")) -> DNSConfig:
    """The node's own resolver settings; systemd-resolved's real servers instead of its stub, which no Pod can reach."""
    config = _parse(path)
    if config.servers == [_STUB_RESOLVER] and _RESOLVED_CONF.exists():
        return _parse(_RESOLVED_CONF)
    return config


def _parse(path: Path) -> DNSConfig:
    config = DNSConfig()
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return config
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        match words[0]:
            case "nameserver" if len(words) > 1:
                config.servers.append(words[1])
            case "search" | "domain":
                config.searches = words[1:]
            case "options":
                config.options = words[1:]
    return config


def resolver(pod: Pod, cluster_dns: list[str], cluster_domain: str) -> DNSConfig:
    """The Pod's resolver settings by dnsPolicy, with dnsConfig merged over them.

    Without a cluster DNS server ClusterFirst falls back to Default, as upstream's kubelet does.
    """
    spec = pod.spec
    policy = spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirst" and spec.host_network:
        policy = "Default"
    if policy == "None":
        config = DNSConfig()
    elif policy == "Default" or not cluster_dns:
        config = host_resolver()
    else:
        host = host_resolver()
        namespace = pod.metadata.namespace
        searches = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        config = DNSConfig(servers=list(cluster_dns), searches=searches + host.searches, options=["ndots:5"])
    if spec.dns_config is not None:
        extra = spec.dns_config
        config.servers = _unique(config.servers + extra.nameservers)
        config.searches = _unique(config.searches + extra.searches)
        options = {option.partition(":")[0]: option for option in config.options}
        for added in extra.options:
            options[added.name] = f"{added.name}:{added.value}" if added.value else added.name
        config.options = list(options.values())
    return config


def limited(config: DNSConfig) -> tuple[DNSConfig, list[str]]:
    """What resolvers read of it, and messages that tell what was left out (event DNSConfigForming)."""
    servers, searches, told = config.servers[:_MAX_SERVERS], config.searches[:_MAX_SEARCHES], []
    while len(" ".join(searches)) > _MAX_SEARCH_LINE:
        searches.pop()
    if searches != config.searches:
        told.append(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + " ".join(searches)
        )
    if servers != config.servers:
        told.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
            + " ".join(servers)
        )
    return DNSConfig(servers=servers, searches=searches, options=config.options), told


def _unique(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))

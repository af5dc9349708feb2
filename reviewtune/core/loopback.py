"""Addresses of this machine: a proxy of the environment cannot reach them, so requests to them never use one."""

import os
import ssl
from functools import cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

NO_PROXY = ("no_proxy", "NO_PROXY")  # some programs read only one of them
OWN_NAMES = ("127.0.0.1", "localhost", "::1")


def is_loopback(address: str) -> bool:
    """Whether a URL's host is this machine: localhost, 127.0.0.0/8, ::1, or 0.0.0.0, which leads here as well."""
    host = _host(address)
    try:
        ip = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return any(each.is_loopback or each.is_unspecified for each in (ip, mapped) if each is not None)


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:  # not a URL; the request reports it
        return ""


def bypass_proxies() -> None:
    """Add this machine's names to NO_PROXY, for libraries that offer no other way (MLflow's client)."""
    listed = ",".join(os.environ.get(variable, "") for variable in NO_PROXY).split(",")
    names = dict.fromkeys(name for name in (*map(str.strip, listed), *OWN_NAMES) if name)
    for variable in NO_PROXY:
        os.environ[variable] = ",".join(names)


@cache
def no_certificates() -> ssl.SSLContext:
    """For requests without TLS: reading certificates would take 28 ms, and those of SSL_CERT_FILE may not exist."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

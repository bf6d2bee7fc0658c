"""Owns why a cluster does not let us in, in words for whoever runs the job.

Before it: what the client reported during a first contact. After it: `kafka_client.py`, which ends that with the words.
Invariant: a message is one line, says what to do behind its semicolon, and repeats no password, token or key.

The client calls every certificate that it does not take unverified: what is wrong with it is found by a handshake of our own.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from streamcore.config import KafkaConnection, format_duration

HANDSHAKE_TIMEOUT_S = 3.0

CERTIFICATE_FAULTS = {
    **dict.fromkeys(
        (2, 7, 18, 19, 20, 21),
        "no known authority signed its certificate; set ssl_ca_location to the file of the one that did",
    ),
    9: "its certificate is not valid yet; correct the clock of this machine",
    10: "its certificate has expired; renew it, or correct the clock of this machine",
    23: "its certificate was revoked; renew it",
    **dict.fromkeys((62, 64), "its certificate is not of this host; use a name that is in its subjectAltName"),
}
"""By OpenSSL's number of what it found."""

OF_CLIENT = frozenset({40, 42, 43, 44, 45, 46, 48, 49, 51, 116})
"""Alerts by which a broker says that it does not like a client's certificate, or misses it."""

CERTIFICATE_KEYS = ("ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location")

_ALERT = re.compile(r"alert ([a-z ]+): SSL alert number (\d+)")
_BROKER = re.compile(r"\w+://(\S+):(\d+)/")

Seen = Mapping[str, str]
"""What the client reported: by the name of an error, its last text."""


def refusal(connection: KafkaConnection, settings: Mapping[str, Any], seen: Seen) -> str | None:
    """Why trying on is pointless, if it is. `settings` are those of the client."""
    where = f"Kafka at {connection.bootstrap_servers}"
    if "_AUTHENTICATION" in seen or "SASL_AUTHENTICATION_FAILED" in seen:
        if connection.sasl_mechanism == "OAUTHBEARER":
            return f"{where} refused the token (OAUTHBEARER); check what the token callback gives"
        return (
            f"{where} refused the login of {connection.sasl_username!r} ({connection.sasl_mechanism}); "
            "check sasl_username, sasl_password and sasl_mechanism"
        )
    if "_SSL" in seen:
        found = certificate_fault(settings, seen["_SSL"])
        return (
            f"{where}: TLS failed: {found}"
            if found
            else f"{where}: TLS failed ({bare(seen['_SSL'])}); check the ssl_ keys"
        )
    alert = _ALERT.search(seen.get("_TRANSPORT", ""))
    if alert is None or int(alert[2]) not in OF_CLIENT:
        return None
    if not any(settings.get(key) for key in CERTIFICATE_KEYS):
        return f"{where}: TLS failed: it wants a client certificate; set ssl_certificate_location and ssl_key_location"
    return (
        f"{where}: TLS failed: it refuses our client certificate ({alert[1]}); "
        "use one that its authority signed and that has not expired"
    )


def silence(connection: KafkaConnection, seen: Seen) -> str:
    """That no broker answered in time, and why, as far as it is known."""
    text = next((bare(seen[code]) for code in ("_RESOLVE", "_TRANSPORT") if code in seen), "")
    hint = "start the broker, or set bootstrap_servers in [kafka] or KAFKA_BOOTSTRAP_SERVERS"
    if "PLAINTEXT broker listener" in text:
        text, hint = "it does not speak TLS", "correct security_protocol, or the port in bootstrap_servers"
    elif not text and "_ALL_BROKERS_DOWN" in seen:
        # Of a connection that was made and ended at once the client says no more.
        text, hint = "it closes each connection", "look whether it wants TLS or a login (security_protocol)"
    why = f" ({text})" if text else ""
    waited = format_duration(connection.connect_timeout)
    return f"Kafka at {connection.bootstrap_servers} gave no answer within {waited}{why}; {hint}"


def certificate_fault(settings: Mapping[str, Any], text: str) -> str | None:
    """What is wrong with the certificate of the broker that the client's `text` names; None where a handshake does not tell."""
    broker = _BROKER.match(text)
    if broker is None:
        return None
    host, port = broker[1].strip("[]"), int(broker[2])
    try:
        context = _trusting(settings)
        with closing(socket.create_connection((host, port), HANDSHAKE_TIMEOUT_S)) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return CERTIFICATE_FAULTS.get(error.verify_code)
    except (OSError, ValueError):
        return None
    return None


def _trusting(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """Who may sign, as the client has it; and no more strictness than it has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pem, location = settings.get("ssl.ca.pem"), settings.get("ssl.ca.location")
    if pem:
        context.load_verify_locations(cadata=str(pem))
    elif location and location != "probe":
        path = Path(str(location))
        context.load_verify_locations(*((None, path) if path.is_dir() else (path, None)))
    else:
        context.load_default_certs()
    return context


def bare(text: str) -> str:
    """The client's message without the broker thread's name in front and the timing behind, as one line."""
    head, _, tail = text.partition(": ")
    return " ".join((tail if "/" in head and tail else text).partition(" (after ")[0].split())

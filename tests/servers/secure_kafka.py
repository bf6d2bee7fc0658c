"""A Kafka broker whose listeners want TLS, client certificates and logins, and what clients of it have and should not have.

Before it: `certificates.py` and `kafka.py`. After it: tests of connections. `LISTENERS` says what is where; all of them lead to the
same topics, which tests make and fill over `KafkaServer.bootstrap_servers`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.faults.proxy import Proxy
from tests.servers.certificates import Authority, Identity
from tests.servers.kafka import JVM_OPTIONS, USER, KafkaServer

LISTENERS = {
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "ELSEWHERE": "SSL",
    "LOGIN": "SASL_PLAINTEXT",
    "TLSLOGIN": "SASL_SSL",
    "SHORT": "SASL_PLAINTEXT",
}
"""Good TLS; TLS that wants a certificate; that of a certificate that is over, or of another host; logins, without and with TLS; and logins
that hold for `SESSION_S`."""

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
SESSION_S = 2.0
KEY_PASSWORD = "canary-key-password"
AUDIENCE = "streamcore-tests"
TOKEN_S = 60.0

_SECURITY = "org.apache.kafka.common.security"
_LOGIN_MODULES = {
    "plain": f'{_SECURITY}.plain.PlainLoginModule required user_{USER[0]}="{USER[1]}"',
    "scram-sha-256": f"{_SECURITY}.scram.ScramLoginModule required",
    "scram-sha-512": f"{_SECURITY}.scram.ScramLoginModule required",
    "oauthbearer": f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required",
}


class Issuer:
    """Signs tokens (JWT, ES256) that brokers with its `keys` take."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def keys(self) -> dict[str, Any]:
        """The public key, as a JSON Web Key Set."""
        point = self._key.public_key().public_numbers()
        coordinates = {"x": _base64(point.x.to_bytes(32)), "y": _base64(point.y.to_bytes(32))}
        return {"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig", **coordinates}]}

    def token(self, *, seconds: float = TOKEN_S) -> tuple[str, float]:
        """A token and when it ends, as `oauth_cb` gives them."""
        now_s = time.time()
        ends_s = int(now_s + seconds)
        claims = {"sub": USER[0], "aud": AUDIENCE, "iat": int(now_s) - 5, "exp": ends_s}
        signed = f"{_json({'alg': 'ES256', 'kid': '1'})}.{_json(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32) + s.to_bytes(32))}", float(ends_s)


def _json(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class SecureKafka:
    """The broker, and who may come to it. Starts on construction."""

    def __init__(self, folder: Path) -> None:
        self.proxy = Proxy()
        """Stands before the listener `SHORT`, which is advertised there, so that connections can be counted."""
        self.authority = Authority(folder / "ours", "Test Authority", key_password=KEY_PASSWORD)
        self.namesake = Authority(folder / "theirs", "Test Authority", key_password=KEY_PASSWORD)
        """Nobody trusts it."""
        self.client = self.authority.certify("client")
        self.expired_client = self.authority.certify("expired-client", expired=True)
        self.strange_client = self.namesake.certify("strange-client")
        self.issuer = Issuer()
        self._keys = folder / "keys.json"
        self._keys.write_text(json.dumps(self.issuer.keys()))
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._keys.as_uri()}"
        self.server = KafkaServer(
            properties=self._properties(),
            jvm_options=[*JVM_OPTIONS, allowed],
            listeners=LISTENERS,
            proxies={"SHORT": self.proxy.port},
        )
        self.proxy.target = ("127.0.0.1", self.server.ports["SHORT"])

    def _properties(self) -> dict[str, str]:
        good = self.authority.certify("broker")
        certificates = {
            "TLS": good,
            "MUTUAL": good,
            "EXPIRED": self.authority.certify("expired-broker", expired=True),
            "ELSEWHERE": self.authority.certify("broker-elsewhere", host="elsewhere.test"),
            "TLSLOGIN": good,
        }
        found = {
            "sasl.oauthbearer.jwks.endpoint.url": self._keys.as_uri(),
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "listener.name.short.connections.max.reauth.ms": str(int(SESSION_S * 1000)),
        }
        for name, identity in certificates.items():
            found |= _tls_of(name, identity, self.authority.certificate, wants_client=name == "MUTUAL")
        for name in ("LOGIN", "TLSLOGIN", "SHORT"):
            found |= _logins_of(name)
        return found

    def bootstrap(self, listener: str) -> str:
        """Where a listener is found by clients."""
        return f"127.0.0.1:{self.proxy.port if listener == 'SHORT' else self.server.ports[listener]}"

    def close(self) -> None:
        self.server.stop()
        self.proxy.close()


def _tls_of(listener: str, identity: Identity, authority: Path, *, wants_client: bool) -> dict[str, str]:
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(identity.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
        "ssl.client.auth": "required" if wants_client else "none",
    }
    return {f"listener.name.{listener.lower()}.{name}": value for name, value in settings.items()}


def _logins_of(listener: str) -> dict[str, str]:
    prefix = f"listener.name.{listener.lower()}"
    validator = f"{_SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
    return {
        f"{prefix}.sasl.enabled.mechanisms": ",".join(MECHANISMS),
        f"{prefix}.oauthbearer.sasl.server.callback.handler.class": validator,
        **{f"{prefix}.{name}.sasl.jaas.config": f"{module};" for name, module in _LOGIN_MODULES.items()},
    }

"""Owns what may be shown of a configuration: passwords, tokens and the login part of URLs are blotted out.

Before it: a configuration. After it: `config`, plans, logs.
Invariant: a value is hidden by its type or by the name of its key, whichever says so first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import SecretStr

HIDDEN = "***"

_SECRET_KEY = re.compile(
    r"password|passwd|secret|token|pem\b|jaas|credential|oauthbearer\.config|private|api.?key", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://).*@", re.DOTALL)
"""Up to the last @: one in a password may be bare, and to hide too much is the lesser harm."""
_REST = re.compile(r"^(https?://[^/?#]*)[/?#].+", re.DOTALL)


def is_secret_key(name: str) -> bool:
    """Whether a key's name says that its value is a secret.

    >>> is_secret_key("ssl.key.password"), is_secret_key("sasl.oauthbearer.config"), is_secret_key("key")
    (True, True, False)
    """
    return _SECRET_KEY.search(name) is not None


def redact_url(url: str) -> str:
    """The URL without its login.

    >>> redact_url("redis://user:canary@cache:6379/0")
    'redis://***@cache:6379/0'
    >>> redact_url("redis://:can@ a/ry@cache/0")
    'redis://***@cache/0'

    What follows the host of a web address may be a token.

    >>> redact_url("https://hooks.example.com/services/canary")
    'https://hooks.example.com/***'
    """
    return _REST.sub(rf"\1/{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", url))


def redacted(value: Any, path: Sequence[str | int] = ()) -> Any:
    """A copy of a dumped model, as plain values in which no secret is left."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return redact_url(text) if "://" in text else HIDDEN
    if isinstance(value, dict):
        return {key: redacted(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, (*path, index)) for index, item in enumerate(value)]
    if value is not None and is_secret_key(name):
        return HIDDEN
    return redact_url(value) if isinstance(value, str) and "://" in value else value

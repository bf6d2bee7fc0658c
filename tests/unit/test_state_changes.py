"""How a change of the committed state ends that could not be written."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamcore.config import KafkaConnection
from streamcore.errors import ConfigError, SinkError
from streamcore.state_changes import Claim
from streamcore.transactions import Transactions, transactional_id


def _claim(transactions: Mock) -> Claim:
    source = Mock(topics=("in",))
    source.membership.return_value = ("", None)
    made = Transactions(KafkaConnection(), transactional_id=transactional_id("g", "/state"), timeout_ms=1_000)
    transactions.denied = made.denied
    return Claim(cast("Any", Mock(group="g")), source, transactions)


def test_a_record_that_is_too_large_leaves_no_transaction_open() -> None:
    """Readers of the state waited behind it for a minute and more, until the broker ended it."""
    transactions = Mock()
    transactions.flush.side_effect = SinkError("a record is too large", retriable=False)
    with pytest.raises(SinkError, match="too large"):
        _claim(transactions).write_placed([("t", 0, b"k", b"v")], {})
    transactions.abort.assert_called_once()
    transactions.commit.assert_not_called()


def test_a_producer_that_is_refused_is_told_as_it_is_though_there_is_nothing_to_abort() -> None:
    transactions = Mock()
    transactions.begin.side_effect = ConfigError("transactions of this length are refused")
    transactions.abort.side_effect = SinkError("there is no transactional producer")
    with pytest.raises(ConfigError, match="of this length"):
        _claim(transactions).write_placed([], {})


def test_a_right_that_is_missing_is_no_other_worker() -> None:
    transactions = Mock()
    denied = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "no", False, False, True)
    transactions.send_offsets.side_effect = KafkaException(denied)
    transactions.flush.return_value = 0
    with pytest.raises(ConfigError, match="READ on group g"):
        _claim(transactions).write_placed([("t", 0, b"k", b"v")], {})
    transactions.abort.assert_called_once()

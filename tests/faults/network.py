"""A broker of its own that workers reach through proxies, and whose transaction markers go through one, too.

Before it: `proxy.py` and `tests/servers/kafka.py`. After it: tests that hold, lose and repeat what is said.
"""

from __future__ import annotations

from tests.faults.proxy import Proxy
from tests.servers.kafka import KafkaServer

PROPERTIES = {
    # The broker writes markers into its own partitions as one broker does into another's: through a connection.
    "inter.broker.listener.name": "MARKERS",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}


class Network:
    """Starts on construction; `workers` and `markers` are the proxies."""

    def __init__(self) -> None:
        self.workers, self.markers = Proxy(), Proxy()
        ports = {"WORKERS": self.workers.port, "MARKERS": self.markers.port}
        try:
            self.server = KafkaServer(properties=PROPERTIES, proxies=ports, before_start=self._aim)
        except BaseException:
            self.close_proxies()
            raise

    def _aim(self, server: KafkaServer) -> None:
        """The broker speaks to itself when it starts: the proxies must know it by then."""
        for name, proxy in (("WORKERS", self.workers), ("MARKERS", self.markers)):
            proxy.target = ("127.0.0.1", server.ports[name])

    @property
    def bootstrap(self) -> str:
        """Where workers find the broker."""
        return f"127.0.0.1:{self.workers.port}"

    def clear(self) -> None:
        """Everything passes again."""
        self.workers.clear()
        self.markers.clear()

    def close_proxies(self) -> None:
        self.workers.close()
        self.markers.close()

    def close(self) -> None:
        self.server.stop()
        self.close_proxies()

"""Real servers for tests, the example and the benchmarks: Apache Kafka and Redis on free loopback ports.

`kafka.KafkaServer` and `redis.RedisServer` are context managers; `python -m tests.servers run` starts both
for a shell, `python -m tests.servers install` fetches what they need. Nothing here imports streamcore.
Invariant: a server lives no longer than the process that started it, and is stopped by its process id.
"""

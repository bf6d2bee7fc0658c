"""Tests against real servers: Apache Kafka and Redis, started once a session on free loopback ports."""

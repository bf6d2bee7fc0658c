"""Kafka's producers of three families, each a program that does what a script says: what they write is read by both transports."""

"""Kafka, transactions, snapshots."""

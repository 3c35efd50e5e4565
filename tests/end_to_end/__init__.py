"""The system as its users run it: programs as processes, on a real Apache Kafka."""

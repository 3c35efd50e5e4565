"""Any past prediction, rebuilt from what Kafka still holds, compared to the bit, and explained."""

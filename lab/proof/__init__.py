"""The proof of delivery: its generator, faults, judge and oracle share no code with the consumer they prove."""

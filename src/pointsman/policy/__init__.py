"""What a request must satisfy: one file per policy."""

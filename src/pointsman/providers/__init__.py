"""What upstreams speak, one file per format."""

"""The listening side: HTTP edge, process host and the mount of the management plane."""

"""What clients speak, one file each."""

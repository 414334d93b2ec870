"""Views of the Hardcarrx contract."""

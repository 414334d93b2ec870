"""What requests used and cost: the journal that loses nothing, and its projection into the database."""

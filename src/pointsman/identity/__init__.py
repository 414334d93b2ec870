"""Who calls: keys and the tables that answer for them."""

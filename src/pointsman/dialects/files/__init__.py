"""The files APIs as clients speak them: how they ask for lists, and how lists are written. Files pass unread."""

"""Guards on content: what is found in requests and answers, and what becomes of it. No socket, clock or chance."""

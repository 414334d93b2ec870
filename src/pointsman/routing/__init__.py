"""Where a request goes: names, candidates and the reasons for their order. Pure."""

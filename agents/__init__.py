"""Real coding agents, from npm, at a real gateway in front of simulated upstreams (docs/coding-agents.md)."""

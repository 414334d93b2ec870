"""CrossCompute's management operations: people and their keys, agents and their credits."""

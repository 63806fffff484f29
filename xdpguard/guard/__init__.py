"""The verbs: load (a transaction), confirm, rollback, unload, status."""

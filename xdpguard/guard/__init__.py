"""The verbs: load (a transaction), confirm, rollback, unload, restore, status."""

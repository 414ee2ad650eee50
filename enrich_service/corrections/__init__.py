"""The as-of correction: sales whose customer or product has another version since are emitted anew."""

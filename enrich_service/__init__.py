"""Adds to each validated sale its country code, region, GBP amount, surrogate keys and flags."""

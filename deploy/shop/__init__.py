"""The shop's first data: the sample's own customers and products, with generated personal details."""

"""REST v1: the shop's customers, products, stock and prices; sales and invoices to read."""

"""The dimension builder: changes of the shop and keys of sales in, versions of customers and products out."""

"""One module for each name of `./tillstream bench NAME`; `catalogue.py` lists them."""

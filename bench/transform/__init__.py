"""The work that every peer does, once by record and once by column, and the data that it is done on."""

"""Do the stores hold the same versions of the dimensions, value by value?"""

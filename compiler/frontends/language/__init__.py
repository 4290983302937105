"""The script language: typed Python functions as `ast` nodes become raw IR of the torch dialect.

Scripted Python and archives both come through here; what they name differs (names.py), the language does not.
"""

"""What can be said: the dialects of every level, their types, checks and diagnostics.

Nothing here imports another part of Stepwell.
"""

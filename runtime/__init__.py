"""What runs beside the result: the frame that a call fills, arrays and arenas, threads, counters.

Numpy and the standard library only; nothing here imports another part of Stepwell.
"""

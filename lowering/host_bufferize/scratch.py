"""Scratch memory of kernels: one more piece at the end of the arena, a slice per thread.

A lowered kernel that needs scratch says so by its last argument, a static `memref<Nxi8>` with the attribute
`host.kind = "scratch"`. Calls get a slice of the arena as large as the largest of all kernels asks for; where
the attribute `host.shared` is set, all threads get the same.
"""

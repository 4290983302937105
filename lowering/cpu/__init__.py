"""Lowerings for CPUs between loops and llvm: math functions as polynomials, parallel loops as shares of threads."""

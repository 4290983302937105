"""Stepwell: a compiler for scripted tensor models."""

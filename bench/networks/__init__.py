"""The networks of the benches, as their papers and reference implementations have them. Importing one needs torch."""

"""Small analyses shared by the passes: they read the IR and never change it."""

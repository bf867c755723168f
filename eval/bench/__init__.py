"""What the product costs beside its peers and beside what the machine can do at best; `run.measure` is the way in."""

"""One loop that trains any of the models, and what it writes."""

"""The parts of recipes.py: recipes in words, stored results, the forecast of the time, and the table."""

"""Near-duplicates among many texts: the same pairs as comparing all with all, without doing so."""

"""Equal texts and near-duplicates among many texts: the same as comparing all with all, without doing so."""

"""From merged labels to a decision: whether training again is worth it, and all steps of it."""

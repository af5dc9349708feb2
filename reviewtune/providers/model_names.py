"""What a model's name says about it."""


def is_finetuned(name: str) -> bool:
    """Whether a provider's fine-tuning job made the model; all providers call such models `ft:BASE:...`."""
    return name.startswith("ft:")

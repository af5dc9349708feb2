"""What a model's name says about it, for models without a record."""


def has_finetuned_name(name: str) -> bool:
    """Whether the name has the form that OpenAI and the local provider give to fine-tuned models, `ft:BASE:...`.

    Other providers have other forms, so False does not mean that the model is a base model.
    """
    return name.startswith("ft:")

"""What a client can do that asks for a path which this server does not have."""

RESOURCES = ("/files", "/fine_tuning/jobs", "/models", "/chat/completions", "/batches")
OTHER_CHATS = ("/responses", "/completions", "/engines", "/messages", "/assistants", "/threads", "/chat", "/generate")
USE_CHAT = "this server answers at POST /v1/chat/completions"
USE_OPENAI = (
    "Azure's paths are not served: use openai.OpenAI (not AzureOpenAI) with a base_url that ends with /v1, "
    "and send the deployment's name as 'model'"
)


def advice(path: str) -> str | None:
    """What to do instead, or None if nothing is known of this path."""
    if path.startswith(("/openai/", "/deployments/")):
        return USE_OPENAI
    resource = "/" + path.removeprefix("/api").lstrip("/").removesuffix("/")
    while resource.startswith("/v1/"):
        resource = resource.removeprefix("/v1")
    if any(resource == own or resource.startswith(f"{own}/") for own in RESOURCES):
        corrected = f"/v1{resource}"
        return f"did you mean {corrected}? The base_url must end with /v1" if corrected != path else None
    if any(resource == other or resource.startswith(f"{other}/") for other in OTHER_CHATS):
        return USE_CHAT
    return None

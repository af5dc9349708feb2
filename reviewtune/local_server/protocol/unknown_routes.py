"""What a client can do that asks for a path which this server does not have."""

RESOURCES = ("/files", "/fine_tuning/jobs", "/models", "/chat/completions", "/completions", "/responses", "/batches")
OTHER_CHATS = ("/engines", "/messages", "/assistants", "/threads", "/chat", "/generate")
USE_CHAT = "this server answers at POST /v1/chat/completions"
USE_AZURE_PATHS = "Azure's paths begin with /openai/deployments/ or /openai/v1/"


def advice(path: str) -> str | None:
    """What to do instead, or None if nothing is known of this path."""
    if path.startswith("/deployments/"):
        return USE_AZURE_PATHS
    resource = "/" + path.removeprefix("/api").lstrip("/").removesuffix("/")
    while resource.startswith("/v1/"):
        resource = resource.removeprefix("/v1")
    if any(resource == own or resource.startswith(f"{own}/") for own in RESOURCES):
        corrected = f"/v1{resource}"
        return f"did you mean {corrected}? The base_url must end with /v1" if corrected != path else None
    if any(resource == other or resource.startswith(f"{other}/") for other in OTHER_CHATS):
        return USE_CHAT
    return None

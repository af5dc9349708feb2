"""What all API resources share: errors, request checks, pagination, middleware and the OpenAPI page."""

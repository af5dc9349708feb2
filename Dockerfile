# The service `reviewtune serve-app` over the folder of a served model (docs/deploy.md).
#   reviewtune champion --out champion && docker build -t reviews . && docker run -p 8080:8080 -e REVIEWTUNE_APP_KEY=... \
#     -v ./champion:/champion:ro reviews
FROM python:3.12-slim AS build
WORKDIR /source
# app,project: the champion of an MLflow server instead of a folder; about 1 GB more.
ARG EXTRAS=app
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY reviewtune reviewtune
RUN python -m venv /app && /app/bin/pip install --no-cache-dir -c requirements.lock ".[${EXTRAS}]"

FROM python:3.12-slim
COPY --from=build /app /app
RUN useradd --system --uid 10001 --home-dir /tmp reviewtune && install --directory --owner 10001 /project
USER 10001
WORKDIR /project
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 REVIEWTUNE_HOME=/tmp/reviewtune
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
# As a list, so that SIGTERM reaches the service. It gets up to --timeout and 5 s more to finish: docker stop --time 40.
ENTRYPOINT ["reviewtune", "serve-app", "--host", "0.0.0.0"]
CMD ["--served-model", "/champion"]

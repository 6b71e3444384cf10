# One image for every part; compose.yaml says which part a container is. Pinned, two stages, no root at run time.
FROM python:3.11.14-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements/ requirements/
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --use-pep517 -r requirements/base.txt
COPY . .
RUN .venv/bin/python manage.py collectstatic --noinput

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 tickstock && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app tickstock \
    && mkdir -p /data && chown 10001:10001 /data
WORKDIR /app
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TICKSTOCK_EMBEDDED=0 TICKSTOCK_DATA_DIR=/data LOG_FORMAT=json
USER 10001:10001
VOLUME /data
EXPOSE 8000
# SIGTERM: the stream stores what it has, the worker finishes its task
STOPSIGNAL SIGTERM
CMD ["python", "-m", "daphne", "-b", "0.0.0.0", "-p", "8000", "--proxy-headers", "tickstock.asgi:application"]

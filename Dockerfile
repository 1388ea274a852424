# syntax=docker/dockerfile:1
# Two images:
#   docker build --target native --tag deltaq:native .   clients, Flower, workers with spark=off
#   docker build --tag deltaq:spark .                    workers with Spark
# What changes most comes last, so that a new version of deltaq is a layer of 1 MB.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY tasks tasks
COPY worker worker
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# Everything that deltaq needs, without deltaq and Spark.
FROM python:${PYTHON} AS base
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008 # Debian keeps one version of a package; its security fixes are wanted.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-log-init --home-dir /tmp --no-create-home deltaq \
    && install --directory --owner=deltaq --group=deltaq /lake
COPY deploy/image/requirements.py pyproject.toml /tmp/
RUN python /tmp/requirements.py native flower otel s3 > /tmp/requirements.txt \
    && pip install --requirement /tmp/requirements.txt \
    && rm -r /tmp/*
ENV DELTAQ_LAKE=/lake \
    DELTAQ_METRICS_HOST=0.0.0.0 \
    DELTAQ_METRICS_PORT=9464 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 9464
WORKDIR /tmp
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
# tini passes SIGTERM on, and reaps what a killed JVM leaves.
ENTRYPOINT ["tini", "--", "deltaq"]
CMD ["worker"]

FROM base AS native
ENV DELTAQ_SPARK=off
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps /wheels/*.whl
USER 10001

# With Java and Spark besides.
FROM base AS java
# Where Debian's scripts expect it; the slim image leaves manuals out.
# hadolint ignore=DL3008
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/image/requirements.py pyproject.toml /tmp/
RUN python /tmp/requirements.py worker > /tmp/requirements.txt \
    && pip install --requirement /tmp/requirements.txt \
    && rm -r /tmp/*
ENV DELTAQ_JARS=/opt/deltaq/jars

FROM java AS jars
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps /wheels/*.whl \
    && deltaq jars --s3

FROM java AS spark
COPY --from=jars /opt/deltaq/jars /opt/deltaq/jars
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps /wheels/*.whl
USER 10001

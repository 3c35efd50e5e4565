# One small image per role: docker build --target api|producer|consumer|data|mlflow .
# Each installs what its requirements-<role>.lock says, hashes checked; `make lock` writes it from requirements-<role>.txt.
# No stage has a compiler: --only-binary makes a dependency without a wheel fail the build instead of needing one.
# Stages stand in order of need: the classic builder makes every stage above its target.

# The published image as it is, plus a user and a directory that user may write: upstream runs as root.
FROM ghcr.io/mlflow/mlflow:v3.17.2 AS mlflow
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app && install -d -o app -g app /mlflow
ENV HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1
USER app
EXPOSE 5000

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HOME=/tmp DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true GIT_PYTHON_REFRESH=quiet
# A fixed, high uid: it owns nothing on the host, and clusters that insist on a numeric non-root user accept it.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app
WORKDIR /app

FROM base AS api
COPY requirements-api.lock ./
RUN pip install --no-deps --require-hashes -r requirements-api.lock
COPY airquality ./airquality
COPY api_service.py feature_buffer.py ./
USER app
EXPOSE 8000
CMD ["uvicorn", "api_service:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]

FROM base AS producer
COPY requirements-producer.lock ./
RUN pip install --no-deps --require-hashes -r requirements-producer.lock
COPY airquality ./airquality
COPY producer.py deploy/forward.py ./
USER app
CMD ["python", "producer.py", "--csv", "dataset/test_data_raw.csv"]

FROM base AS consumer
COPY requirements-consumer.lock ./
RUN pip install --no-deps --require-hashes -r requirements-consumer.lock
COPY airquality ./airquality
COPY consumer.py feature_buffer.py monitoring_service.py deploy/run_as_owner.py ./
USER app
EXPOSE 8001
# Reports belong to whoever owns the mounted ./reports; run as any fixed user, the entry point changes nothing.
ENTRYPOINT ["python", "run_as_owner.py", "reports"]
CMD ["python", "consumer.py"]

# The job that makes what the streaming containers mount, where nobody has: the programs a person would run.
FROM base AS data
COPY requirements-data.lock ./
RUN pip install --no-deps --require-hashes -r requirements-data.lock && install -d -o app -g app /data
COPY airquality ./airquality
COPY training/*.py training/frozen.json ./training/
COPY dataset/create_dataset.py ./dataset/
COPY generate_reference_dataset.py deploy/make_data.py ./
USER app
CMD ["python", "make_data.py", "/data", "/host/dataset"]

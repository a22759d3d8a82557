# The controller of docker-compose.yml: `modelport serve --server`, and every other command of modelport.
#
#   docker compose build
#
# torch's ordinary build brings several GB of CUDA libraries, which nothing uses here. To leave them out, name the index
# of PyTorch's CPU builds:  docker compose build --build-arg PIP_ARGS="--extra-index-url ADDRESS"

ARG PYTHON=python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

FROM ${PYTHON} AS build
ARG PIP_ARGS=""
WORKDIR /build
RUN python -m venv /opt/modelport
COPY pyproject.toml requirements.lock hatch_build.py README.md LICENSE ./
COPY src src
# MODELPORT_NATIVE=0: the compiled backend is the embedded server's.
# hadolint ignore=SC2086
RUN MODELPORT_NATIVE=0 /opt/modelport/bin/pip install --no-cache-dir --constraint requirements.lock ${PIP_ARGS} \
        ".[export,server,gateway]"

FROM ${PYTHON}
COPY --from=build /opt/modelport /opt/modelport
ENV PATH=/opt/modelport/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
# The repository is /srv/served/model_repository, its state beside it, in the same mount.
WORKDIR /srv/served
USER 1000:1000
EXPOSE 8003
HEALTHCHECK --interval=10s --timeout=6s --retries=3 --start-period=180s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8003/healthz', timeout=5)"]
ENTRYPOINT ["modelport"]
CMD ["--help"]

# One image for every process of Pixel Detective; docker-compose.yml says which container runs which.
FROM python:3.11-slim-bookworm

# Most Linux machines give this id to their first user, whose private pictures can then be read.
RUN groupadd --gid 1000 pixd \
    && useradd --uid 1000 --gid pixd --create-home --shell /usr/sbin/nologin pixd \
    && install --directory --owner=pixd --group=pixd /var/lib/pixd \
    && python -m venv /opt/pixd

# What is downloaded (weights of models) belongs to the volume, too.
ENV PATH=/opt/pixd/bin:$PATH \
    PIXD_HOME=/var/lib/pixd \
    HF_HOME=/var/lib/pixd/hub \
    PYTHONUNBUFFERED=1

# The 6 GB of packages are a layer of their own: changed code does not install them again. Versions and hashes are those
# of the lock; the packages that only tests need stay out, and with them the need for a compiler. Bytecode is made here,
# because the user of the container may not write it, and torch alone would take seconds longer at every start.
ARG UV_VERSION=0.13.9
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,source=requirements.lock,target=/tmp/requirements.lock \
    --mount=type=bind,source=pyproject.toml,target=/tmp/pyproject.toml \
    pip install --quiet --disable-pip-version-check --root-user-action=ignore "uv==$UV_VERSION" \
    && UV_HTTP_TIMEOUT=180 uv pip install --quiet --python /opt/pixd/bin/python --link-mode=copy --compile-bytecode \
        --require-hashes --no-build --requirements /tmp/pyproject.toml --constraints /tmp/requirements.lock

# The build wants the README that pyproject.toml names; an empty one keeps the text out of what makes this layer new.
COPY pyproject.toml /opt/source/
COPY pixeldetective /opt/source/pixeldetective
COPY producers /opt/source/producers
COPY stream_processors /opt/source/stream_processors
COPY gpu_consumers /opt/source/gpu_consumers
COPY sinks /opt/source/sinks
COPY api /opt/source/api
RUN touch /opt/source/README.md \
    && uv pip install --quiet --python /opt/pixd/bin/python --compile-bytecode --no-cache --no-deps \
        --no-build-isolation /opt/source

USER pixd
WORKDIR /var/lib/pixd
ENTRYPOINT ["pixd"]
CMD ["--help"]

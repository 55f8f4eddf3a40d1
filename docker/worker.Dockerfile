FROM python:3.11.14-slim-bookworm
WORKDIR /src
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY app app
COPY workers workers
COPY alembic alembic
RUN pip install --no-cache-dir -c constraints.txt ".[worker]"
# The same user as the API's: both write the same files.
RUN groupadd --gid 10001 digitlab \
    && useradd --uid 10001 --gid digitlab --create-home digitlab \
    && install -d -o digitlab -g digitlab /data
USER 10001:10001
WORKDIR /data
ENV DIGITLAB_DATA_DIR=/data NUMBA_CACHE_DIR=/data/numba-cache
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s CMD ["python", "-P", "-m", "workers.probe"]
CMD ["digitlab", "worker"]

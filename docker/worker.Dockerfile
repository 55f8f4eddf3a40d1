FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY app app
COPY workers workers
COPY alembic alembic
RUN pip install --no-cache-dir -c constraints.txt ".[worker]"
WORKDIR /data
ENV DIGITLAB_DATA_DIR=/data NUMBA_CACHE_DIR=/data/numba-cache
CMD ["digitlab", "worker"]

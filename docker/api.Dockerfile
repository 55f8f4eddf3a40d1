FROM python:3.11.14-slim-bookworm
WORKDIR /src
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY app app
COPY workers workers
COPY alembic alembic
RUN pip install --no-cache-dir -c constraints.txt .
RUN groupadd --gid 10001 digitlab \
    && useradd --uid 10001 --gid digitlab --create-home digitlab \
    && install -d -o digitlab -g digitlab /data
USER 10001:10001
WORKDIR /data
ENV DIGITLAB_DATA_DIR=/data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-P", "-m", "app.health.probe"]
# It refuses to start without DIGITLAB_API_KEYS; DIGITLAB_ALLOW_UNAUTHENTICATED=true says that this is meant.
CMD ["digitlab", "api", "--host", "0.0.0.0"]

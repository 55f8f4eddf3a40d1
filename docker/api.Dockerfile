FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY app app
COPY workers workers
COPY alembic alembic
RUN pip install --no-cache-dir -c constraints.txt .
WORKDIR /data
ENV DIGITLAB_DATA_DIR=/data
EXPOSE 8000
CMD ["digitlab", "api", "--host", "0.0.0.0", "--allow-unauthenticated", "true"]

# Two images from one file:
#   serve  gateway and migrations; no torch                     docker build --target serve -t athanor:serve .
#   train  the same and what jobs need (import, export, …)      docker build --target train -t athanor:train .
# BASE is any Debian with Python 3.11 or newer, its venv module and CA certificates.
ARG BASE=python:3.11-slim-bookworm

# Third-party packages alone: this layer is as old as constraints.txt, not as the code.
FROM ${BASE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/athanor/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv /opt/athanor \
 && python -c "import tomllib; from pathlib import Path; \
project = tomllib.loads(Path('pyproject.toml').read_text())['project']; \
Path('serve.txt').write_text('\n'.join(project['dependencies'])); \
Path('train.txt').write_text('\n'.join(project['optional-dependencies']['train']))"
RUN pip install --constraint constraints.txt --requirement serve.txt \
 && find /opt/athanor -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +

FROM dependencies AS code
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM ${BASE} AS serve
RUN useradd --uid 10001 --create-home --home-dir /var/lib/athanor --shell /usr/sbin/nologin athanor
COPY --from=dependencies /opt/athanor /opt/athanor
COPY --from=code /wheel /opt/athanor/wheel
ENV PATH=/opt/athanor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ATHANOR_HOST=0.0.0.0 \
    ATHANOR_PORT=8000 \
    ATHANOR_DATA_DIR=/var/lib/athanor
RUN pip install --no-cache-dir --no-deps --no-index /opt/athanor/wheel/*.whl
USER 10001
WORKDIR /var/lib/athanor
VOLUME /var/lib/athanor
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-m", "app.healthcheck"]
ENTRYPOINT ["athanor"]
CMD ["serve", "--gateway-only"]

FROM serve AS train
# Another index to take torch from: with PyTorch's own index of CPU builds the image is gigabytes smaller.
ARG TORCH_INDEX=
USER root
COPY --from=dependencies /src/constraints.txt /src/train.txt /opt/athanor/
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    --constraint /opt/athanor/constraints.txt --requirement /opt/athanor/train.txt
USER 10001
CMD ["serve"]

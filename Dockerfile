# CLMorph for servers: weights inside, no network at run time, not root, a BIDS App as the entry. See docs/container.md.
#   docker build -t clmorph .                                       with CUDA, as pip's default build of torch has it
#   docker build -t clmorph:cpu --build-arg TORCH_INDEX=INDEX .     INDEX: the one for CPUs that PyTorch's page names
# make container-check runs these steps without a container engine.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=
WORKDIR /src
RUN python -m venv /opt/clmorph
COPY pyproject.toml constraints.txt README.md LICENSE.txt /src/
RUN /opt/clmorph/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url $TORCH_INDEX} "$(grep '^torch==' constraints.txt)"
COPY CLMorphCore /src/CLMorphCore
COPY Training /src/Training
RUN /opt/clmorph/bin/pip install --no-cache-dir -c constraints.txt '.[dicom,morphometry,cluster]'
RUN /opt/clmorph/bin/pip install --no-cache-dir --no-deps "$(grep '^deepbet==' constraints.txt)"
RUN /opt/clmorph/bin/clmorph models && /opt/clmorph/bin/clmorph --version

FROM python:3.11-slim-bookworm
COPY --from=build /opt/clmorph /opt/clmorph
# no home, no cache and no byte code to write: the root file system may be read only
ENV PATH=/opt/clmorph/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 1000:1000
ENTRYPOINT ["clmorph", "cohort"]
CMD ["--help"]

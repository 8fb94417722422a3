# docker build -t esl_dist .                                  on any base that has Python 3.11 or newer and pip:
# docker build -t esl_dist --build-arg BASE_IMAGE=… .         (a base without torch gets it from constraints.txt)
# docker build -t esl_dist --build-arg WITH_APEX=1 .          also apex's fused optimisers for optim.backend=apex, built in DEVEL_IMAGE, whose
#                                                             torch must be BASE_IMAGE's; TORCH_CUDA_ARCH_LIST="9.0" builds for one kind of GPU
ARG BASE_IMAGE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime
ARG DEVEL_IMAGE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-devel
ARG WITH_APEX=0

# Dependencies, in a virtual environment that also sees the base's packages: torch stays the base's own where it satisfies the pin.
FROM ${BASE_IMAGE} AS dependencies
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv --without-pip --system-site-packages /opt/venv \
 && python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; print(*p['dependencies'], *e['tune'], *e['track'], *e['gpu'], *e['report'], *e['fast'], sep='\n')" > requirements.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check -q -c constraints.txt -r requirements.txt \
 && /opt/venv/bin/python -c "import site; print('/opt/esl_dist\n/opt/apex', file=open(site.getsitepackages()[0] + '/esl_dist.pth', 'w'))"

# The package itself: a layer of its own, so that a change of code moves kilobytes.
FROM dependencies AS package
COPY README.md LICENSE ./
COPY configs configs
COPY esl_dist esl_dist
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check -q --no-deps --target /opt/esl_dist . \
 && ln -s esl_dist/configs /opt/esl_dist/configs
COPY launch /opt/esl_dist/launch
COPY docker/entrypoint.sh /opt/esl_dist/docker/entrypoint.sh

FROM ${BASE_IMAGE} AS apex-0
RUN mkdir /opt/apex

# TORCH_CUDA_ARCH_LIST must name the GPUs: none is visible while an image is built.
FROM ${DEVEL_IMAGE} AS apex-1
ARG APEX_REF=25.09
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;10.0;12.0+PTX"
RUN apt-get update && apt-get install -y --no-install-recommends git g++ ninja-build && rm -rf /var/lib/apt/lists/* \
 && git clone --quiet --depth 1 --branch "${APEX_REF}" https://github.com/NVIDIA/apex /src/apex \
 && APEX_CPP_EXT=1 APEX_CUDA_EXT=1 TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST}" python3 -m pip install --no-cache-dir --no-build-isolation --no-deps --target /opt/apex /src/apex \
 && PYTHONPATH=/opt/apex python3 -c "import torch; import amp_C"

FROM apex-${WITH_APEX} AS apex

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="esl_dist" \
      org.opencontainers.image.description="Distributed training for unsupervised domain adaptation in semantic segmentation" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
# The user's number is above those that bases give to their own users.
RUN useradd --uid 10001 --create-home esl && mkdir -p /runs /data /mlflow && chown esl:esl /runs /data /mlflow && ln -s opt/esl_dist/configs /configs
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=apex /opt/apex /opt/apex
# Built against the devel image's torch, it must load beside this one's: seen here, not at the first training.
RUN [ ! -e /opt/apex/apex ] || /opt/venv/bin/python -c "import torch; import amp_C; import apex.optimizers"
COPY --from=package /opt/esl_dist /opt/esl_dist
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RAY_USAGE_STATS_ENABLED=0
USER esl
# Relative paths of the configurations fall on the volumes: runs/<name> and data/… .
WORKDIR /
VOLUME ["/runs", "/data"]
HEALTHCHECK --interval=10m --timeout=2m --start-period=1m CMD ["env", "CUDA_VISIBLE_DEVICES=", "python", "-m", "esl_dist.doctor"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/esl_dist/docker/entrypoint.sh"]
CMD ["train"]

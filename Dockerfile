# Two stages: one builds wheels, one has nothing but what runs.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY clients/python clients/python
COPY server server
COPY mcp_adapter mcp_adapter
COPY cli cli
RUN pip wheel --no-cache-dir --only-binary :all: -c constraints.txt --wheel-dir /wheels .

FROM python:3.11-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/*.whl \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/ibkr-gateway gateway \
    && install -d -o gateway -g gateway -m 0700 /var/lib/ibkr-gateway
USER 10001
WORKDIR /var/lib/ibkr-gateway
VOLUME /var/lib/ibkr-gateway
# The simulator by default: a container that was started by mistake touches no account.
ENV IBKR_MODE=simulation \
    AUDIT_DB_PATH=/var/lib/ibkr-gateway/audit.db
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=6s --start-period=20s CMD ["ibkr-gateway", "healthcheck"]
# The server itself and no launcher before it: a container's first process gets SIGTERM, and only one that handles it ends.
CMD ["python", "-m", "ibkr_gateway_server"]
